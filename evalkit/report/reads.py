"""Small reads that several parts of the report share; large ones are in `evalkit.store.frames`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import sqlalchemy as sa

from evalkit.errors import UserError
from evalkit.store.reading import model_names
from evalkit.store.schema import Annotator, Battle, Dataset, Run, RunCell, Score, Tally, Verdict
from evalkit.store.schema_app import set_aside


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its limits; None where n is 0.

    Attributes:
        lower, upper: 95 % confidence limits.
        n: What it is a share of.
    """

    value: float | None
    lower: float | None
    upper: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Judge:
    """An annotator of battles.

    Attributes:
        kind: human, llm, verifier or jury.
        members: Ids of a jury's judges.
    """

    id: int
    name: str
    kind: str
    members: tuple[int, ...] = ()


def finite(value: float | None) -> float | None:
    """Returns None for what is no finite number: JSON has no other word for it."""
    return float(value) if value is not None and math.isfinite(value) else None


def unique_names(names: Mapping[int, str]) -> dict[int, str]:
    """Returns names by id; those that occur twice get their id behind them."""
    count = Counter(names.values())
    return {key: name if count[name] == 1 else f"{name} #{key}" for key, name in names.items()}


def run_row(connection: sa.Connection, run_id: int) -> sa.RowMapping:
    """Returns a run's row.

    Raises:
        UserError: There is no such run.
    """
    row = connection.execute(sa.select(Run.__table__).where(Run.id == run_id)).mappings().first()
    if row is None:
        raise UserError(f"there is no run {run_id} in this ledger; type: evalkit runs", code=2)
    return row


def run_models(connection: sa.Connection, run_id: int) -> dict[int, str]:
    """Returns the names of a run's contestants, by id: those who answered, have scores, or were judged in it.

    A dataset without items holds a judge's answers.
    """
    cells = sa.select(RunCell.model_id).join(Dataset, Dataset.id == RunCell.dataset_id)
    ids = set(connection.scalars(cells.where(RunCell.run_id == run_id, Dataset.n > 0).distinct()))
    ids |= set(connection.scalars(sa.select(Score.model_id).where(Score.run_id == run_id).distinct()))
    for side in (Battle.model_a_id, Battle.model_b_id):
        judged = sa.select(side).join(Verdict, Verdict.battle_id == Battle.id).where(Verdict.run_id == run_id)
        ids |= set(connection.scalars(judged.distinct()))
    return {key: name for key, name in model_names(connection).items() if key in ids}


def judges(
    connection: sa.Connection, criterion: str, names: Sequence[str] | None = None, *, include_set_aside: bool = False
) -> list[Judge]:
    """Returns the annotators with verdicts on a criterion, in the order of `names` (of their ids if None).

    Of several judges of one name the newest counts: a changed prompt or model is another judge. Humans of one name
    are one person, from whichever file.

    Args:
        names: Names, or patterns of names such as expert_*.
        include_set_aside: Also members whose votes were set aside.

    Raises:
        UserError: A name that no annotator with verdicts has, or a pattern that fits none.
    """
    voted = sa.select(Tally.annotator_id).where(Tally.criterion == criterion).distinct()
    query = sa.select(Annotator.id, Annotator.kind, Annotator.name, Annotator.definition)
    query = query.where(Annotator.id.in_(voted)).order_by(Annotator.id)
    if not include_set_aside:
        query = query.where(Annotator.id.not_in(set_aside()))
    found: dict[tuple[str, str], list[Judge]] = {}
    for row in connection.execute(query):
        kind = "human" if row.kind == "human" else str(row.definition.get("kind", "llm"))
        members = tuple(row.definition.get("members") or ())
        judge = Judge(row.id, row.name, kind if kind in ("human", "verifier", "jury") else "llm", members)
        same = found.setdefault((row.name, row.kind), [])
        if row.kind != "human":
            same.clear()
        same.append(judge)
    everyone = [judge for same in found.values() for judge in same]
    if names is None:
        return sorted(everyone, key=lambda judge: judge.id)
    known = dict.fromkeys(judge.name for judge in everyone)
    chosen: dict[Judge, None] = {}
    for name in names:
        fitting = [judge for judge in everyone if judge.name == name]
        fitting = fitting or [judge for judge in everyone if fnmatchcase(judge.name, name)]
        if not fitting:
            there = f"there are: {', '.join(list(known)[:10])}" if known else "there are none"
            raise UserError(f"no judge {name!r} has given verdicts on {criterion!r}; {there}", code=2)
        chosen |= dict.fromkeys(fitting)
    return list(chosen)


def clip(text: Any, limit: int) -> str:
    """Returns a text of at most `limit` characters, saying how many were cut off."""
    whole = text if isinstance(text, str) else str(text)
    return whole if len(whole) <= limit else f"{whole[:limit]} … [{len(whole) - limit:,} more characters]"
