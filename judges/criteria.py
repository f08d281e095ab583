"""What is judged: criteria from the sets in judges/criteria, from a file, or written in a plan."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from evalkit.errors import UserError

FOLDER = Path(__file__).parent / "criteria"
KEYS = ("name", "description", "levels", "scale")
NAME = re.compile(r"\w[\w .:-]{0,59}")


@dataclass(frozen=True, slots=True)
class Criterion:
    """One thing that answers are judged by.

    Attributes:
        name: What the ledger calls it.
        description: What the judge is told.
        levels: Named levels of a rubric, from the worst up; a rubric without gives its own.
        scale: Lowest and highest score; by default the prompt's.
    """

    name: str
    description: str
    levels: tuple[tuple[int, str], ...] = ()
    scale: tuple[float, float] | None = None


def load_criteria(given: Sequence[str | Mapping[str, Any] | Criterion]) -> tuple[Criterion, ...]:
    """Reads criteria.

    Args:
        given: Each one the name of a criterion, the name of a whole set, the path of a YAML file (one criterion, or a
            list of them: a constitution), or a mapping {name, description, levels, scale}.

    Raises:
        UserError: There is none of that name, a file or field is wrong, or two criteria have one name.
    """
    found: list[Criterion] = []
    for number, one in enumerate(given, 1):
        if isinstance(one, Criterion):
            found.append(one)
        elif isinstance(one, Mapping):
            found.append(_criterion(one, f"criterion {number}"))
        elif one.endswith((".yaml", ".yml")):
            found.extend(_read(Path(one)))
        else:
            found.extend(_known(one))
    names = [criterion.name for criterion in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"two criteria have the name {twice!r}; give one of them another", code=2)
    return tuple(found)


@cache
def criterion_sets() -> Mapping[str, tuple[Criterion, ...]]:
    """Returns the sets in judges/criteria: file name without ending to criteria."""
    return {path.stem: _read(path) for path in sorted(FOLDER.glob("*.yaml"), key=lambda p: p.stem != "standard")}


def _known(name: str) -> tuple[Criterion, ...]:
    sets = criterion_sets()
    if name in sets:
        return sets[name]
    every = {criterion.name: criterion for criteria in sets.values() for criterion in criteria}
    if name in every:
        return (every[name],)
    near = difflib.get_close_matches(name, [*every, *sets], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UserError(
        f"no criterion {name!r}.{hint} There are: {', '.join(every)}; the sets {', '.join(sets)}; or give a path that "
        "ends in .yaml, or name and description",
        code=2,
    )


def _read(path: Path) -> tuple[Criterion, ...]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: the criteria cannot be read: {error.strerror}", code=2) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})", code=2) from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}", code=2) from error
    if not isinstance(data, list):
        return (_criterion(data, str(path)),)
    if not data:
        raise UserError(f"{path}: there is no criterion in it", code=2)
    return tuple(_criterion(one, f"{path}: criterion {number}") for number, one in enumerate(data, 1))


def _criterion(data: Any, where: str) -> Criterion:
    if not isinstance(data, Mapping):
        raise UserError(f"{where}: a criterion is a mapping with the keys name and description", code=2)
    unknown = [key for key in data if key not in KEYS]
    if unknown:
        raise UserError(f"{where}: unknown key {unknown[0]!r}; allowed: {', '.join(KEYS)}", code=2)
    for key in ("name", "description"):
        if not isinstance(data.get(key), str) or not data[key].strip():
            raise UserError(f"{where}: {key}: must be a text that is not empty", code=2)
    name = data["name"].strip()
    if not NAME.fullmatch(name):
        raise UserError(f"{where}: name: {name!r} must be up to 60 letters, digits, spaces, dots, - : and _", code=2)
    return Criterion(name, data["description"].strip(), _levels(data, where), _scale(data, where))


def _levels(data: Mapping[str, Any], where: str) -> tuple[tuple[int, str], ...]:
    levels = data.get("levels")
    if levels is None:
        return ()
    good = isinstance(levels, Mapping) and len(levels) >= 2
    if not good or not all(type(n) is int and isinstance(text, str) and text.strip() for n, text in levels.items()):
        raise UserError(f"{where}: levels: must be two or more lines of the form `1: what this level means`", code=2)
    return tuple((number, levels[number].strip()) for number in sorted(levels))


def _scale(data: Mapping[str, Any], where: str) -> tuple[float, float] | None:
    scale = data.get("scale")
    if scale is None:
        return None
    numbers = (
        isinstance(scale, list) and len(scale) == 2 and all(type(n) in (int, float) and math.isfinite(n) for n in scale)
    )
    if not numbers or not scale[0] < scale[1]:
        raise UserError(f"{where}: scale: must be the lowest and the highest score, like [1, 10]", code=2)
    return (float(scale[0]), float(scale[1]))
