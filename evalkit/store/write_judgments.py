"""Writes of grades, battles, verdicts, and the roll-up `tally`."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from evalkit.store.database import now, storable
from evalkit.store.rows import BattleRow, GradeRow, VerdictRow
from evalkit.store.schema import Battle, Grade, Tally, Verdict
from evalkit.store.writing import add_up, chunks, insert_tuples, next_id, update_tuples

GRADE = (
    *("id", "response_id", "annotator_id", "criterion", "replicate"),
    *("value", "error", "detail", "created_at"),
)
BATTLE = ("item_id", "model_a_id", "model_b_id", "turn", "response_a_id", "response_b_id", "id")
VERDICT = (
    *("id", "battle_id", "annotator_id", "criterion", "order_shown", "replicate", "winner", "probability", "seconds"),
    *("run_id", "response_id", "created_at", "error", "rationale"),
)
OUTCOMES = {"model_a": 0, "model_b": 1, "tie": 2, "both_bad": 3, "error": 4}
"""Places of the counters in a row of `tally`."""

Unit = tuple[int, int, str, int]  # battle, annotator, criterion, replicate: what gives one outcome
BattleKey = tuple[int, int, int, int, int | None, int | None]


def add_grades(connection: sa.Connection, rows: Sequence[GradeRow], replace: bool) -> None:
    """See `Ledger.add_grades`."""
    if not rows:
        return
    first, created = next_id(connection, Grade), now()
    values = []
    for index, row in enumerate(rows):
        value, error = row.value, row.error
        if value is not None and not math.isfinite(value):
            value, error = None, error or f"the value {row.value} is not a finite number"
        if (value is None) == (error is None):
            raise ValueError(f"a grade has either a value or an error: {row}")
        detail = json.dumps(dict(row.detail)) if row.detail is not None else None
        error = storable(error) if error is not None else None
        place = (first + index, row.response_id, row.annotator_id, row.criterion, row.replicate)
        values.append((*place, value, error, detail, created))
    new = ", ".join(f"{name} = excluded.{name}" for name in GRADE[5:])
    which = "" if replace else " WHERE grade.error IS NOT NULL"
    insert_tuples(connection, Grade, GRADE, values, f"({', '.join(GRADE[1:5])}) DO UPDATE SET {new}{which}")


def battle_key(row: BattleRow) -> BattleKey:
    """Returns a battle's identity: the unordered pair, the lower model id first.

    Raises:
        ValueError: A model against itself.
    """
    if row.model_a_id == row.model_b_id:
        raise ValueError(f"a battle needs two models: {row}")
    a, b = (row.model_a_id, row.response_a_id), (row.model_b_id, row.response_b_id)
    if row.model_a_id > row.model_b_id:
        a, b = b, a
    return (row.item_id, a[0], b[0], row.turn, a[1], b[1])


def add_battles(connection: sa.Connection, rows: Sequence[BattleRow]) -> list[int]:
    """See `Ledger.add_battles`."""
    keys = [battle_key(row) for row in rows]
    first = next_id(connection, Battle)
    ids = {key: first + index for index, key in enumerate(dict.fromkeys(keys))}
    if insert_tuples(connection, Battle, BATTLE, [(*key, new) for key, new in ids.items()]) == len(ids):
        return [ids[key] for key in keys]
    stored = set(connection.scalars(sa.select(Battle.id).where(Battle.id >= first)))
    items = sorted({key[0] for key, new in ids.items() if new not in stored})
    columns = [getattr(Battle, name) for name in BATTLE]
    for chunk in chunks(items):
        for row in connection.execute(sa.select(*columns).where(Battle.item_id.in_(chunk))):
            key = (row[0], row[1], row[2], row[3], row[4], row[5])
            if key in ids:
                ids[key] = row[6]
    return [ids[key] for key in keys]


def outcome(winners: Collection[str]) -> str | None:
    """Returns what the successful verdicts of one annotator on one battle say together: a tie if they disagree."""
    if not winners:
        return None
    return next(iter(winners)) if len(set(winners)) == 1 else "tie"


def add_verdicts(connection: sa.Connection, run_id: int | None, rows: Sequence[VerdictRow], replace: bool) -> int:
    """See `Ledger.add_verdicts`."""
    return sum(_add_verdicts(connection, run_id, chunk, replace) for chunk in chunks(rows, 5000))


def _add_verdicts(connection: sa.Connection, run_id: int | None, rows: Sequence[VerdictRow], replace: bool) -> int:
    ids = sorted({row.battle_id for row in rows})
    pairs: dict[int, tuple[int, int, int]] = {}
    known: defaultdict[Unit, dict[str, tuple[int, str | None]]] = defaultdict(dict)
    for chunk in chunks(ids):
        battles = sa.select(Battle.id, Battle.turn, Battle.model_a_id, Battle.model_b_id).where(Battle.id.in_(chunk))
        pairs.update((row[0], (row[1], row[2], row[3])) for row in connection.execute(battles))
        columns = (Verdict.battle_id, Verdict.annotator_id, Verdict.criterion, Verdict.replicate)
        verdicts = sa.select(*columns, Verdict.order_shown, Verdict.id, Verdict.winner).where(
            Verdict.battle_id.in_(chunk)
        )
        for found in connection.execute(verdicts):
            known[found[0], found[1], found[2], found[3]][found[4]] = (found[5], found[6])
    changes: defaultdict[tuple[str, int, int, int, int], list[int]] = defaultdict(lambda: [0] * len(OUTCOMES))
    new: dict[int, tuple[Any, ...]] = {}
    next_verdict, created = next_id(connection, Verdict), now()
    replaced: dict[int, tuple[Any, ...]] = {}
    for row in rows:
        _check(row)
        orders = known[row.battle_id, row.annotator_id, row.criterion, row.replicate]
        before = orders.get(row.order)
        if before is not None and before[1] is not None and not replace:
            continue
        if before is None:
            verdict, table = next_verdict, new
            next_verdict += 1
        else:
            verdict, table = before[0], new if before[0] in new else replaced
        table[verdict] = _values(row, verdict, run_id, created)
        turn, *pair = pairs[row.battle_id]
        cell = changes[row.criterion, pair[0], pair[1], row.annotator_id, turn]
        _count(cell, orders, -1)
        orders[row.order] = (verdict, row.winner)
        _count(cell, orders, 1)
    insert_tuples(connection, Verdict, VERDICT, list(new.values()))
    update_tuples(connection, Verdict, VERDICT, list(replaced.values()))
    add_up(connection, Tally, changes)
    return len(new) + len(replaced)


def _count(cell: list[int], orders: Mapping[str, tuple[int, str | None]], sign: int) -> None:
    """Adds to (or with sign -1 takes from) a cell what one annotator's verdicts on one battle say together."""
    winners = [winner for _, winner in orders.values() if winner is not None]
    won = outcome(winners)
    if won is not None:
        cell[OUTCOMES[won]] += sign
    cell[-1] += sign * (len(orders) - len(winners))


def remove_verdict(connection: sa.Connection, verdict_id: int) -> None:
    """Takes a verdict away and keeps `tally` exact.

    Raises:
        KeyError: There is no such verdict.
    """
    columns = (Verdict.battle_id, Verdict.annotator_id, Verdict.criterion, Verdict.replicate)
    unit = connection.execute(sa.select(*columns).where(Verdict.id == verdict_id)).first()
    if unit is None:
        raise KeyError(f"verdict {verdict_id}")
    places = (Battle.turn, Battle.model_a_id, Battle.model_b_id)
    turn, *pair = connection.execute(sa.select(*places).where(Battle.id == unit[0])).one()
    same = [column == value for column, value in zip(columns, unit, strict=True)]
    found = connection.execute(sa.select(Verdict.order_shown, Verdict.id, Verdict.winner).where(*same))
    orders = {order: (number, winner) for order, number, winner in found}
    cell = [0] * len(OUTCOMES)
    _count(cell, orders, -1)
    _count(cell, {order: one for order, one in orders.items() if one[0] != verdict_id}, 1)
    connection.execute(sa.delete(Verdict).where(Verdict.id == verdict_id))
    add_up(connection, Tally, {(unit[2], pair[0], pair[1], unit[1], turn): cell})
    # No row of zeros: whoever has a row in the tally is taken to have voted.
    counters = (Tally.wins_a, Tally.wins_b, Tally.ties, Tally.both_bad, Tally.errors)
    of_cell = (Tally.criterion == unit[2], Tally.model_a_id == pair[0], Tally.model_b_id == pair[1])
    of_voter = (Tally.annotator_id == unit[1], Tally.turn == turn)
    connection.execute(sa.delete(Tally).where(*of_cell, *of_voter, *(counter == 0 for counter in counters)))


def _check(row: VerdictRow) -> None:
    if (row.winner is None) == (row.error is None):
        raise ValueError(f"a verdict has either a winner or an error: {row}")
    if row.probability is not None and not 0 <= row.probability <= 1:
        raise ValueError(f"a probability lies between 0 and 1: {row}")


def _values(row: VerdictRow, verdict_id: int, run_id: int | None, created: str) -> tuple[Any, ...]:
    """Returns the row's values in the order of VERDICT."""
    return (
        verdict_id,
        row.battle_id,
        row.annotator_id,
        row.criterion,
        row.order,
        row.replicate,
        row.winner,
        row.probability,
        row.seconds,
        run_id,
        row.response_id,
        row.created_at or created,
        storable(row.error) if row.error is not None else None,
        storable(row.rationale) if row.rationale is not None else None,
    )
