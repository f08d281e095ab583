"""Nothing that a user can type goes without a word in the docs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from evalkit import plan
from evalkit.cli import app
from trainers import gate_plan, loop_plan, merging_config
from trainers import plan as retrain_plan

ROOT = Path(__file__).parent.parent
FILES = [*(ROOT / "docs").glob("*.md"), *ROOT.glob("README.md")]
PAGES = {p.name: p.read_text(encoding="utf-8") for p in FILES}
ALL = "\n".join(PAGES.values())
PLANS = (plan, retrain_plan, gate_plan, loop_plan, merging_config)
FOUND = [p for module in PLANS for p in vars(module).values() if isinstance(p, type) and issubclass(p, plan.Part)]
# Settings that a loop shares with a retrain have their rows in both.
PARTS = [p for p in dict.fromkeys(FOUND) if p not in (plan.Part, retrain_plan.RetrainSettings)]


def commands(command: Any, name: str = "evalkit") -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield name, command
    for child, inner in (children or {}).items():
        yield from commands(inner, f"{name} {child}")


COMMANDS = dict(commands(typer.main.get_command(app)))


def test_the_reference_pages_are_those_that_the_code_makes() -> None:
    done = subprocess.run([sys.executable, "docs/build.py", "--check"], cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, "type: python docs/build.py"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name: str) -> None:
    command = COMMANDS[name]
    section = PAGES["commands.md"].partition(f"## {name}\n")[2].partition("\n## ")[0]
    assert section, f"{name} has no section"
    assert command.help, f"{name} says nothing of itself"
    for parameter in command.params:
        if parameter.name != "help":
            assert getattr(parameter, "help", None), f"{name} {parameter.name} has no help"
        for option in (*parameter.opts, *parameter.secondary_opts):
            shown = option if option.startswith("-") else option.upper()
            assert f"`{shown}`" in section or parameter.name == "help", f"{name} {option} is not in its section"


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_every_key_of_a_plan_is_documented(part: type[BaseModel]) -> None:
    for key, field in part.model_fields.items():
        assert field.description, f"{part.__name__}.{key} has no description"
        row = rf"\| `{key}` \|[^\n]*{re.escape(field.description)}"
        pages = PAGES["plan-keys.md"] + PAGES["retrain-keys.md"]
        assert re.search(row, pages), f"{part.__name__}.{key} is not in docs/plan-keys.md or docs/retrain-keys.md"


def test_every_environment_variable_is_documented() -> None:
    used: set[str] = set()
    for room in ("evalkit", "benchmarks", "judges", "trainers", "app"):
        for file in (ROOT / room).rglob("*.py"):
            used |= set(re.findall(r"EVALKIT_[A-Z_]*[A-Z]", file.read_text(encoding="utf-8")))
    assert len(used) >= 4
    assert sorted(v for v in used if f"`{v}`" not in ALL and f"{v}=" not in ALL) == []


def test_pages_point_at_pages_that_exist() -> None:
    for file in FILES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", PAGES[file.name]):
            assert "://" in target or (file.parent / target).exists(), f"{file.name}: {target}"
