"""Rules of the house that a machine can check."""

from __future__ import annotations

import ast
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("evalkit", "benchmarks", "judges", "trainers", "app")
FILES = sorted(f for room in ROOMS for f in (ROOT / room).rglob("*.py"))
HEAVY = ("torch", "transformers", "lm_eval", "datasets", "streamlit", "ray", "vllm", "trl", "peft")
HELP_CPU_SECONDS = 1.5


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


IMPORT_ALL = f"""
import importlib, json, sys
found = {{}}
for name in sys.argv[1:]:
    before = set(sys.modules)
    importlib.import_module(name)
    heavy = set(sys.modules) - before
    found[name] = sorted(heavy & set({HEAVY!r}))
print(json.dumps(found))
"""


def test_importing_a_module_is_light_and_makes_nothing(tmp_path: Path) -> None:
    # Migrations run inside Alembic alone; `app` are scripts.
    names = [name_of(f) for f in FILES if "migrations" not in f.parts and f.is_relative_to(ROOT / "app") is False]
    variables = {
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PATH": os.environ["PATH"],
    }
    line = [sys.executable, "-c", IMPORT_ALL, *names]
    done = subprocess.run(line, cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {name: heavy for name, heavy in json.loads(done.stdout).items() if heavy} == {}
    assert list(tmp_path.iterdir()) == []


def test_help_answers_at_once() -> None:
    line = [sys.executable, "-m", "evalkit.cli", "--help"]
    spent = []
    for _ in range(2):  # the first may have to compile
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(line, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0
        assert "Benchmarks, human votes and LLM judges in one ledger." in done.stdout
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < HELP_CPU_SECONDS


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_a_module_stays_within_400_lines(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 400


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


MIDDLE = ("benchmarks", "judges", "trainers")
TOP = (
    *("evalkit.stages", "evalkit.estimate", "evalkit.judging", "evalkit.juries", "evalkit.judge_run", "evalkit.jobs"),
    *("evalkit.trainsets", "evalkit.retraining", "evalkit.gating", "evalkit.loop"),
    *("evalkit.cli", "evalkit.commands", "app"),
)


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_point_down(file: Path) -> None:
    me = name_of(file)
    if me.startswith(TOP):
        return
    room = me.split(".")[0]
    forbidden = [m for m in MIDDLE if m != room] if room in MIDDLE else list(MIDDLE)
    forbidden += TOP
    up = [i for i in imports(file) if any(i == f or i.startswith(f + ".") for f in forbidden)]
    assert up == []


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_no_module_reads_pickles_or_runs_what_it_read(file: Path) -> None:
    dangerous = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}
    assert dangerous.isdisjoint(i.split(".")[0] for i in imports(file))
    assert "trust_remote_code=True" not in file.read_text(encoding="utf-8")
