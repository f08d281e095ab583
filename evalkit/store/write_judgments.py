"""Writes of grades, battles, verdicts, and the roll-up `tally`."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from evalkit.store.database import now, storable
from evalkit.store.rows import BattleRow, GradeRow, VerdictRow
from evalkit.store.schema import Battle, Grade, Tally, Verdict
from evalkit.store.writing import add_up, chunks, insert, insert_new, next_id

Unit = tuple[int, int, str, int]  # battle, annotator, criterion, replicate: what gives one outcome
BattleKey = tuple[int, int, int, int, int | None, int | None]


def add_grades(connection: sa.Connection, rows: Sequence[GradeRow]) -> None:
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
        values.append(
            {
                "id": first + index,
                "response_id": row.response_id,
                "annotator_id": row.annotator_id,
                "criterion": row.criterion,
                "replicate": row.replicate,
                "value": value,
                "error": storable(error) if error is not None else None,
                "detail": dict(row.detail) if row.detail is not None else None,
                "created_at": created,
            }
        )
    statement = insert(connection, Grade)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["response_id", "annotator_id", "criterion", "replicate"],
            set_={name: statement.excluded[name] for name in ("value", "error", "detail", "created_at")},
            where=Grade.error.is_not(None),
        ),
        values,
    )


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
    names = ("item_id", "model_a_id", "model_b_id", "turn", "response_a_id", "response_b_id")
    first = next_id(connection, Battle)
    ids = {key: first + index for index, key in enumerate(dict.fromkeys(keys))}
    insert_new(connection, Battle, [{"id": new, **dict(zip(names, key, strict=True))} for key, new in ids.items()])
    stored = set(connection.scalars(sa.select(Battle.id).where(Battle.id >= first)))
    items = sorted({key[0] for key, new in ids.items() if new not in stored})
    columns = [getattr(Battle, name) for name in names]
    for chunk in chunks(items):
        for row in connection.execute(sa.select(*columns, Battle.id).where(Battle.item_id.in_(chunk))):
            key = (row[0], row[1], row[2], row[3], row[4], row[5])
            if key in ids:
                ids[key] = row[6]
    return [ids[key] for key in keys]


def outcome(winners: Collection[str]) -> str | None:
    """Returns what the successful verdicts of one annotator on one battle say together: a tie if they disagree."""
    if not winners:
        return None
    return next(iter(winners)) if len(set(winners)) == 1 else "tie"


def add_verdicts(connection: sa.Connection, run_id: int | None, rows: Sequence[VerdictRow]) -> int:
    """See `Ledger.add_verdicts`."""
    return sum(_add_verdicts(connection, run_id, chunk) for chunk in chunks(rows, 5000))


def _add_verdicts(connection: sa.Connection, run_id: int | None, rows: Sequence[VerdictRow]) -> int:
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
    change: Counter[tuple[int, str, int, int, int, str]] = Counter()
    new: dict[int, dict[str, Any]] = {}
    next_verdict, created = next_id(connection, Verdict), now()
    replaced: dict[int, dict[str, Any]] = {}
    for row in rows:
        _check(row)
        orders = known[row.battle_id, row.annotator_id, row.criterion, row.replicate]
        before = orders.get(row.order)
        if before is not None and before[1] is not None:
            continue
        values = _values(row, run_id, created)
        if before is None:
            values["id"] = next_verdict
            new[next_verdict] = values
            next_verdict += 1
        else:
            values["id"] = before[0]
            (new if before[0] in new else replaced)[before[0]] = values
        cell = (row.annotator_id, row.criterion, *pairs[row.battle_id])
        for sign in (-1, 1):
            if sign == 1:
                orders[row.order] = (values["id"], row.winner)
            winner = outcome([won for _, won in orders.values() if won is not None])
            if winner is not None:
                change[*cell, winner] += sign
            change[*cell, "error"] += sign * sum(won is None for _, won in orders.values())
    insert_new(connection, Verdict, list(new.values()))
    if replaced:
        table = Verdict.__table__
        statement = sa.update(table).where(table.c.id == sa.bindparam("key"))  # type: ignore[arg-type]
        values_by_key = [{("key" if k == "id" else k): v for k, v in row.items()} for row in replaced.values()]
        connection.execute(statement, values_by_key)
    names = ("annotator_id", "criterion", "turn", "model_a_id", "model_b_id", "outcome", "count")
    add_up(
        connection,
        Tally,
        [dict(zip(names, (*key, count), strict=True)) for key, count in change.items() if count],
        ("count",),
    )
    return len(new) + len(replaced)


def _check(row: VerdictRow) -> None:
    if (row.winner is None) == (row.error is None):
        raise ValueError(f"a verdict has either a winner or an error: {row}")
    if row.probability is not None and not 0 <= row.probability <= 1:
        raise ValueError(f"a probability lies between 0 and 1: {row}")


def _values(row: VerdictRow, run_id: int | None, created: str) -> dict[str, Any]:
    return {
        "battle_id": row.battle_id,
        "annotator_id": row.annotator_id,
        "criterion": row.criterion,
        "order_shown": row.order,
        "replicate": row.replicate,
        "winner": row.winner,
        "probability": row.probability,
        "seconds": row.seconds,
        "run_id": run_id,
        "response_id": row.response_id,
        "created_at": row.created_at or created,
        "error": storable(row.error) if row.error is not None else None,
        "rationale": storable(row.rationale) if row.rationale is not None else None,
    }
