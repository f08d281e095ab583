"""Names for groups of prompts, by a model."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic import ValidationError

from evalkit.errors import UserError

if TYPE_CHECKING:
    from evalkit.models.base import ChatModel
    from evalkit.slices.tree import Namer

ASK = """Below are prompts that form one group, each between lines of three dashes, and words that set it apart.
Name what they have in common, the skill or the topic, in two to five words. Reply with the name alone.

Words: {terms}

---
{prompts}
---"""
MAX_PROMPT, MAX_NAME, MAX_WORDS = 400, 60, 8


@contextmanager
def model_namer(reference: str) -> Iterator[Namer]:
    """Gives a namer that asks a model, for as long as the model is open.

    Args:
        reference: PROVIDER/NAME, as in a plan.

    Raises:
        UserError: There is no such model; and the namer itself, if a request fails.
    """
    from evalkit.models.load import load_model
    from evalkit.plan import ModelPlan

    try:
        plan = ModelPlan.model_validate({"model": reference})
    except ValidationError as error:
        raise UserError(f"--namer: {error.errors()[0]['msg'].removeprefix('Value error, ')}", code=2) from error
    model = load_model(plan)

    with asyncio.Runner() as runner:  # one loop for all names: an endpoint's connections belong to theirs
        try:
            yield lambda terms, texts: runner.run(ask_name(model, terms, texts))
        finally:
            runner.run(model.close())


async def ask_name(model: ChatModel, terms: Sequence[str], texts: Sequence[str]) -> str:
    """Asks a model for a group's name.

    Returns:
        Its first line, in one to eight words; empty where it said anything longer or nothing.

    Raises:
        UserError: The request failed.
    """
    from evalkit.models.base import Request, RequestFailed, Sampling

    prompts = "\n---\n".join(text[:MAX_PROMPT] for text in texts)
    content = ASK.format(terms=", ".join(terms) or "none", prompts=prompts)
    request = Request(({"role": "user", "content": content},), sampling=Sampling(temperature=0.0, max_tokens=24))
    try:
        reply = await model.reply(request.effective(model.settings))
    except RequestFailed as error:
        raise UserError(f"--namer {model.settings.name}: {error}") from error
    lines = [line.strip() for line in (reply.text or "").splitlines() if line.strip()]
    said = re.sub(
        r"[\x00-\x1f\x7f-\x9f\"'`*#_]|^name:|[.:]+$", "", lines[0] if lines else "", flags=re.IGNORECASE
    ).strip()
    return said if 0 < len(said.split()) <= MAX_WORDS and len(said) <= MAX_NAME else ""
