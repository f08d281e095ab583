"""Options of the commands that ask a judge, the judge they make, and how a wrong option is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evalkit.errors import UserError

if TYPE_CHECKING:
    from pydantic import ValidationError

    from evalkit.plan import JudgePlan

Name = Annotated[str | None, typer.Option(help="What tables call the judge; default model and prompt.")]
BaseUrl = Annotated[str | None, typer.Option("--base-url", help="Endpoint; default OPENAI_BASE_URL.")]
ApiKeyEnv = Annotated[str | None, typer.Option("--api-key-env", help="Variable that holds the key.")]
MaxConcurrency = Annotated[int | None, typer.Option("--max-concurrency", help="Open requests at most.")]
Batch = Annotated[bool, typer.Option("--batch", help="By the endpoint's batch API.")]
Dollars = Annotated[float | None, typer.Option(help="No request is sent that could go over it.")]
Prices = Annotated[Path | None, typer.Option(help="Price list of your own (YAML).")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count requests, tokens and dollars.")]


def judge_plan(
    *, name: str | None, prompt: str | None, criteria: Sequence[str], model: Mapping[str, Any] | None, **more: Any
) -> JudgePlan:
    """Makes a judge of options; None is not given.

    Args:
        name: What tables call it; by default its model and prompt.
        prompt: By name or path.
        criteria: Names or paths, each option one or several with commas.
        model: Keys of a plan's model; None for the verifier.
        more: Further keys of a plan's judge.

    Raises:
        UserError: An option is wrong; names it.
    """
    from pydantic import ValidationError

    from evalkit.plan import JudgePlan

    named = name or (f"{model['model']} {Path(prompt or 'pairwise-v1').stem}" if model else "verifier")
    split = tuple(part.strip() for one in criteria for part in one.split(",") if part.strip())
    given: dict[str, Any] = {"kind": "llm" if model else "verifier", "prompt": prompt, "criteria": split, **more}
    data: dict[str, Any] = {key: value for key, value in given.items() if value not in (None, ())}
    if model:
        data["model"] = {key: value for key, value in {"name": name, **model}.items() if value is not None}
    try:
        return JudgePlan.model_validate({"name": named, **data})
    except ValidationError as error:
        raise refusal(error, lambda key: key.replace("_", "-")) from error


def refusal(error: ValidationError, option: Callable[[str], str]) -> UserError:
    """Returns what is wrong with the first wrong option.

    Args:
        error: Of a plan that was made of options.
        option: From a plan's key to the option's name.
    """
    first = error.errors()[0]
    message, given = first["msg"].removeprefix("Value error, "), first["input"]
    if first["loc"]:
        message = f"--{option(str(first['loc'][-1]))}: {message}"
        message += "" if repr(given) in message else f", not {given!r}"
    return UserError(message, code=2)
