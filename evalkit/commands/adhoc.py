"""Plans without a plan file: `evalkit eval`, and the example that `evalkit init` writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from evalkit.commands.options import refusal
from evalkit.errors import UserError
from evalkit.plan import Plan

OPTIONS = {"task": "tasks"}  # fields of a plan that `evalkit eval` calls something else


def write_example(path: Path) -> None:
    """Writes the commented example plan.

    Raises:
        UserError: The file exists, or cannot be written.
    """
    text = (Path(__file__).parent / "example_plan.yaml").read_text(encoding="utf-8")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise UserError(f"{path} exists already; give another name", code=2) from error
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


def adhoc_plan(
    folder: Path,
    *,
    models: Sequence[dict[str, Any]],
    benchmarks: Sequence[dict[str, Any]],
    seed: int,
    task_folders: Sequence[Path],
) -> Plan:
    """Makes a plan of command-line options.

    Args:
        folder: For ledger and report.
        models: Keys of a plan's model; None is not given.
        benchmarks: Keys of a plan's benchmark; `generation` in lm-eval's form "temperature=0.7,max_gen_toks=64".

    Raises:
        UserError: An option is wrong; names it.
    """
    data = {
        "name": "eval",
        "store": str(folder / "evalkit.db"),
        "seed": seed,
        "models": [{k: v for k, v in m.items() if v is not None} for m in models],
        "benchmarks": [
            {k: v for k, v in (b | {"generation": _generation(b["generation"])}).items() if v not in (None, {})}
            for b in benchmarks
        ],
        "task_folders": [str(f) for f in task_folders],
        "report": str(folder / "report.html"),
    }
    try:
        return Plan.model_validate(data)
    except ValidationError as error:
        raise refusal(error, lambda key: OPTIONS.get(key, key)) from error


def keep_plan(plan: Plan, folder: Path) -> None:
    """Leaves a plan as `plan.yaml` in the folder of its ledger, to be run again or extended.

    Raises:
        UserError: The folder cannot be written.
    """
    data = plan.model_dump(mode="json", exclude_defaults=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
        (folder / "plan.yaml").write_text(text, encoding="utf-8")
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"-o {folder}: it must be a folder, and there is a file of that name", code=2) from error
    except OSError as error:
        raise UserError(f"-o {folder}: the folder cannot be written: {error.strerror}") from error


def _generation(text: str) -> dict[str, Any]:
    """Reads lm-eval's key=value list; a value is read as YAML (0.7 is a number, true a truth value)."""
    pairs: dict[str, Any] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals:
            raise UserError(f"--gen_kwargs: {part!r} is not key=value", code=2)
        try:
            pairs[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(f"--gen_kwargs: {part!r} is not key=value with a plain value", code=2) from error
    return pairs
