"""What jobs do: each kind is a command of `evalkit`, checked when it is queued and run as it would be typed."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.jobs.place import Place, Traces

KINDS: dict[str, tuple[str, ...]] = {
    "plan": ("run",),
    "retrain": ("retrain",),
    "loop": ("loop",),
    "judge": ("judge", "run"),
    "probe": ("judge", "probe"),
    "calibrate": ("judge", "calibrate"),
}
"""Kind to command."""
OF_A_PLAN = ("plan", "retrain", "loop")
"""Kinds whose command takes a plan's file."""
GIVEN = ("--store", "--json", "--dry-run", "--help", "-h")
"""Options that a job cannot have: the worker says which ledger, and there is nobody to read the others' answers."""
SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD")


def checked(kind: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Checks a job as its command would, and makes its paths absolute.

    Args:
        kind: One of `KINDS`.
        spec: Of a kind with a plan (`OF_A_PLAN`) either `path` or `text`, of the others `arguments`, a list as on the
            command line; and `folder`, where the command is run, by default the current one.

    Returns:
        The spec for the ledger.

    Raises:
        UserError: The plan or an argument is wrong; the sentence is the command's own.
    """
    if kind not in KINDS:
        raise UserError(f"there is no kind {kind!r} of job; kinds are: {', '.join(KINDS)}", code=2)
    folder = Path(spec.get("folder") or ".").absolute()
    if not folder.is_dir():
        raise UserError(f"folder: there is no folder {str(folder)!r} to run the job in", code=2)
    whole = {"folder": str(folder)}
    if kind not in OF_A_PLAN:
        arguments = [str(one) for one in spec.get("arguments", ())]
        _check_arguments(KINDS[kind], arguments)
        return {**whole, "arguments": arguments}
    given = [key for key in ("path", "text") if spec.get(key)]
    if len(given) != 1:
        raise UserError(f"a job of kind {kind} needs a plan: the path of its file, or its text", code=2)
    if given == ["path"]:
        path = folder / str(spec["path"])
        _check_plan(kind, path)
        return {**whole, "path": str(path)}
    _check_text(kind, str(spec["text"]))
    return {**whole, "text": str(spec["text"])}


def _check_text(kind: str, text: str) -> None:
    with tempfile.TemporaryDirectory(prefix="evalkit-") as folder:
        path = Path(folder) / "plan"
        path.write_text(text, encoding="utf-8")
        try:
            _check_plan(kind, path)
        except UserError as error:
            raise UserError(str(error).replace(str(path), "plan"), code=2) from error


def _check_plan(kind: str, path: Path) -> None:
    """Reads a plan as its command would (a loop's and a retrain's are the trainers', whose room is above this one)."""
    if kind == "plan":
        from evalkit.plan import load_plan

        load_plan(path)
    elif kind == "retrain":
        from trainers.plan import load_retrain_plan

        load_retrain_plan(path)
    else:
        from trainers.loop_plan import load_loop_plan

        load_loop_plan(path)


def _check_arguments(command: Sequence[str], arguments: Sequence[str]) -> None:
    import typer
    from typer.exceptions import TyperException

    from evalkit.cli import app

    name = " ".join(("evalkit", *command))
    taken = [one for one in arguments if one.partition("=")[0] in GIVEN]
    if taken:
        raise UserError(f"{taken[0]}: not for a job, which runs on its worker's ledger, without a reader", code=2)
    found: Any = typer.main.get_command(app)
    for part in command:
        found = found.commands[part]
    try:
        found.make_context(name, list(arguments))
    except TyperException as error:
        raise UserError(f"{name}: {error.format_message()}", code=2) from error


def command_line(traces: Traces, kind: str, spec: Mapping[str, Any]) -> list[str]:
    """Returns what a job's process runs; writes its plan's file if the job brought the text along.

    Raises:
        UserError: The job's kind or folder is not there any more.
    """
    if kind not in KINDS:
        raise UserError(f"there is no kind {kind!r} of job here; kinds are: {', '.join(KINDS)}", code=2)
    if not Path(spec["folder"]).is_dir():
        raise UserError(f"folder: {spec['folder']!r}, where the job is to run, is not there")
    if kind not in OF_A_PLAN:
        given = list(spec["arguments"])
    elif "path" in spec:
        given = [spec["path"]]
    else:
        traces.plan.write_text(spec["text"], encoding="utf-8")
        given = [str(traces.plan)]
    # -P: a file in the job's folder must not be taken for a module.
    return [sys.executable, "-P", "-m", "evalkit.cli", *KINDS[kind], *given, "--store", traces.place.store]


def environment(place: Place) -> dict[str, str]:
    """Returns the environment of a job's process: the worker's own, its relative paths made absolute."""
    root = Path(__file__).parents[2]
    paths = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if root.name not in ("site-packages", "dist-packages") and str(root) not in paths:
        paths.append(str(root))  # run from its source
    more = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
    if place.password is not None:
        more["PGPASSWORD"] = place.password  # not on the command line, which all users of the machine can see
    return {**os.environ, **more}


def secrets(variables: Mapping[str, str]) -> list[bytes]:
    """Returns the values in an environment that no log may hold."""
    named = (value for name, value in variables.items() if any(word in name.upper() for word in SECRET))
    return sorted({value.encode() for value in named if len(value) >= 8}, key=len, reverse=True)
