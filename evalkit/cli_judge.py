"""The commands `evalkit judge ...`: list prompts and criteria, judge what a ledger holds, calibrate and probe judges."""

from __future__ import annotations

import importlib.util
from importlib import import_module

import typer

from evalkit import cli_look, printing

judge_app = typer.Typer(
    help="LLM judges: what there is, judging, their record, their weak spots.", no_args_is_help=True
)
NEIGHBOURS = ("evalkit.cli_calibrate", "evalkit.cli_probe")
"""Each has `register(judge_app)`, which adds its command to the group."""


def register(app: typer.Typer) -> None:
    """Adds the group to `evalkit`, with the commands of its other modules."""
    judge_app.command("list")(list_prompts)
    for name in NEIGHBOURS:
        if importlib.util.find_spec(name) is not None:
            import_module(name).register(judge_app)
    app.add_typer(judge_app, name="judge")


def list_prompts(json: cli_look.Json = False) -> None:
    """List the judge prompts that come with evalkit."""
    from judges.prompt import FOLDER, load_prompt

    prompts = [load_prompt(path.stem) for path in sorted(FOLDER.glob("*.yaml"))]
    printing.show([{"name": p.name} for p in prompts], {"name": "prompt"}, as_json=json)
