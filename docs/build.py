"""Writes the reference pages from the code: `python docs/build.py`; with --check it only says which are out of date."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from evalkit import plan
from evalkit.cli import app
from trainers.loop_plan import LoopPlan
from trainers.merging_config import MergeConfig
from trainers.plan import RetrainPlan

HERE = Path(__file__).parent
NOTE = "<!-- Written by docs/build.py from the code; edit there. -->\n"


def commands() -> str:
    """Returns the page of all commands with their arguments and options."""
    root = typer.main.get_command(app)
    lines = [
        NOTE,
        "# Commands\n",
        "Exit codes: 0 done, 1 failed, 2 wrong usage, 100 the gate refused, 130 stopped by Ctrl-C.\n",
    ]
    lines += ["`--debug`, anywhere on the line, shows the traceback of an error (so does `EVALKIT_DEBUG=1`).\n"]
    for name, command in _walk(root, "evalkit"):
        lines.append(f"## {name}\n\n{inspect.cleandoc(command.help or '')}\n")
        for parameter in command.params:
            if parameter.name == "help":
                continue
            names = ", ".join(f"`{o}`" for o in (*parameter.opts, *parameter.secondary_opts))
            if not names.startswith("`-"):
                names = f"`{str(parameter.name).upper()}`"
            default = parameter.default
            shown = f" Default: `{default}`." if default not in (None, False, (), "") and not callable(default) else ""
            variable = f" Or `{parameter.envvar}` in the environment." if getattr(parameter, "envvar", None) else ""
            lines.append(f"- {names}: {getattr(parameter, 'help', '') or ''}{shown}{variable}")
        lines.append("")
    return "\n".join(lines)


def _walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if not children:
        yield name, command
        return
    for child in sorted(children):
        yield from _walk(children[child], f"{name} {child}")


def plan_keys() -> str:
    """Returns the page of all keys of a plan."""
    about = "# Keys of a plan\n", "A plan is one YAML file; `evalkit init` writes a commented one.\n"
    return "\n".join([NOTE, *about, *_tables([plan.Plan])])


def retrain_keys() -> str:
    """Returns the page of all keys of plans that train: a retrain's, a loop's, a merge's."""
    about = (
        "# Keys of a retrain plan, a loop and a merge\n",
        "For `evalkit retrain`, `evalkit loop` and `evalkit merge`. Parts that are not here stand under "
        "[Keys of a plan](plan-keys.md).\n",
    )
    known: list[type[BaseModel]] = []
    _tables([plan.Plan], known)
    return "\n".join([NOTE, *about, *_tables([RetrainPlan, LoopPlan, MergeConfig], known)])


def _tables(roots: list[type[BaseModel]], seen: list[type[BaseModel]] | None = None) -> list[str]:
    """Returns a table for each part that can be reached from some; those in `seen` are left out, and added to it."""
    lines: list[str] = []
    seen = [] if seen is None else seen
    queue = list(roots)
    while queue:
        part = queue.pop(0)
        if part in seen:
            continue
        seen.append(part)
        lines += [f"## {_name(part)}\n", f"{inspect.getdoc(part)}\n"]
        lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
        for key, field in part.model_fields.items():
            inner = [a for a in _parts(field.annotation) if isinstance(a, type) and issubclass(a, BaseModel)]
            queue += inner
            default = "required" if field.default is PydanticUndefined and field.default_factory is None else ""
            if not default:
                value = field.default if field.default_factory is None else None
                default = "" if value in (None, (), "") else f"`{value}`"
            lines.append(f"| `{key}` | {_type(field.annotation)} | {default} | {field.description or ''} |")
        lines.append("")
    return lines


def _name(part: type[BaseModel]) -> str:
    return part.__name__.removesuffix("Plan") or "Plan"


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for argument in get_args(annotation):
        yield from _parts(argument)


def _type(annotation: Any) -> str:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"see {_name(annotation)}"
    if get_origin(annotation) is tuple:
        return f"list: {_type(get_args(annotation)[0])}"
    names = {"str": "text", "int": "number", "float": "number", "bool": "true/false", "dict": "mapping", "Path": "path"}
    if str(get_origin(annotation)).endswith("Literal"):
        return ", ".join(f"`{a}`" for a in get_args(annotation))
    if get_origin(annotation) is dict:
        return "mapping"
    if get_args(annotation):
        return " or ".join(
            dict.fromkeys(
                _type(a) for a in get_args(annotation) if isinstance(a, type) or get_args(a) if a is not type(None)
            )
        )
    return names.get(getattr(annotation, "__name__", ""), getattr(annotation, "__name__", str(annotation)))


PAGES = {"commands.md": commands, "plan-keys.md": plan_keys, "retrain-keys.md": retrain_keys}


def main() -> int:
    """Writes the pages, or with --check compares them; returns the exit code."""
    stale = [name for name, make in PAGES.items() if not _same(HERE / name, make())]
    if "--check" in sys.argv:
        return 1 if stale else 0
    for name in stale:
        (HERE / name).write_text(PAGES[name](), encoding="utf-8")
    return 0


def _same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
