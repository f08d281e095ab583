"""Votes: item_id, model_a, model_b, winner, annotator, annotator_kind, and what else is known of a verdict."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import sqlalchemy as sa

from evalkit.store.arena import PROBE
from evalkit.store.formats.columns import Layout, read_frame
from evalkit.store.formats.names import (
    annotator_names,
    annotators_by_name,
    import_run,
    items_by_name,
    models_by_name,
    pages,
    stored_responses,
)
from evalkit.store.formats.tables import LARGEST, Row, read_table, unique, write_table
from evalkit.store.ledger import Ledger
from evalkit.store.reading import model_names
from evalkit.store.rows import WINNERS, AnnotatorKind, BattleRow, VerdictRow, Winner
from evalkit.store.schema import Battle, Item, Verdict
from evalkit.store.schema_app import set_aside
from evalkit.store.write_judgments import battle_key
from evalkit.store.writing import chunks

if TYPE_CHECKING:
    import pandas as pd

REQUIRED = ("item_id", "model_a", "model_b", "winner", "annotator", "annotator_kind")
COLUMNS: dict[str, type] = {
    **dict.fromkeys((*REQUIRED, "criterion"), str),
    "turn": int,
    "order": str,
    "replicate": int,
    "probability": float,
    "timestamp": str,
    "category": str,
    "error": str,
}
LAYOUT = Layout(
    required=REQUIRED,
    texts={"criterion": "overall", "category": None, "error": None},
    choices={"winner": (*WINNERS, ""), "annotator_kind": ("human", "judge"), "order": ("ab", "ba", "")},
    numbers={"turn": (1, LARGEST), "replicate": (0, LARGEST), "probability": (0, 1)},
    whole={"turn": 1, "replicate": None},
    times=("timestamp",),
    unless_failed="winner",
)
Order = Literal["ab", "ba", ""]
_SWAPPED: dict[Any, Any] = {"model_a": "model_b", "model_b": "model_a", "ab": "ba", "ba": "ab"}


@dataclass(frozen=True, slots=True)
class Vote:
    """One checked row of a votes file."""

    item: str
    model_a: str
    model_b: str
    winner: Winner | None
    annotator: tuple[AnnotatorKind, str]
    criterion: str = "overall"
    turn: int = 1
    order: Order = ""
    replicate: int | None = None
    probability: float | None = None
    timestamp: str | None = None
    category: str = ""
    error: str | None = None
    rationale: str | None = None
    seconds: float | None = None
    answers: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    """What each model said, turn by turn, where the file itself says which texts were compared."""


def _vote(row: Row) -> Vote:
    error = row.text("error", "") or None
    kind = cast(AnnotatorKind, row.choice("annotator_kind", ("human", "judge")))
    return Vote(
        item=row.text("item_id"),
        model_a=row.text("model_a"),
        model_b=row.text("model_b"),
        # Only a verdict that failed has no winner.
        winner=cast(Winner, row.choice("winner", WINNERS)) if error is None else None,
        annotator=(kind, row.text("annotator")),
        criterion=row.text("criterion", "overall"),
        turn=row.integer("turn", 1, 1) or 1,
        order=cast(Order, row.choice("order", ("ab", "ba"), "")),
        replicate=row.integer("replicate", None),
        probability=row.number("probability", 0, 1),
        timestamp=row.time("timestamp"),
        category=row.text("category", ""),
        error=error,
    )


def read_votes(path: Path, *, need: Collection[str] = (), numeric: Collection[str] = ()) -> pd.DataFrame:
    """Reads a votes file without a ledger, checked as `import_votes` does.

    A model against itself stays a row: statistics count such votes and say that they are of no use.

    Args:
        need: Further columns that must be there.
        numeric: Further columns of finite numbers that must be there; an empty cell is missing.

    Returns:
        The columns of a votes file that this one has, a row for each of its rows, and the further ones. winner is
        missing where `error` says why, `turn` and `criterion` have their defaults where a cell is empty.

    Raises:
        UserError: Something is wrong in the file, or it has no rows.
    """
    return read_frame(path, LAYOUT, _values, need=need, numeric=numeric)


def _values(row: Row) -> dict[str, Any]:
    vote = _vote(row)
    kind, annotator = vote.annotator
    return {
        "item_id": vote.item,
        **{name: getattr(vote, name) for name in ("model_a", "model_b", "winner", "criterion", "turn", "replicate")},
        "annotator": annotator,
        "annotator_kind": kind,
        "order": vote.order or None,
        "category": vote.category or None,
        **{name: getattr(vote, name) for name in ("probability", "timestamp", "error")},
    }


def ledger_votes(ledger: Ledger, *, include_set_aside: bool = False) -> pd.DataFrame:
    """Reads every verdict of a ledger as `read_votes` would read its export.

    Args:
        ledger: To read.
        include_set_aside: Also those of members who were set aside.
    """
    import pandas as pd

    rows = [row for page in _pages(ledger, include_set_aside) for row in page]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame["order"] = frame["order"].where(frame["order"] != "", None)
    return frame.astype({name: "str" for name, kind in COLUMNS.items() if kind is str} | {"probability": "float64"})


def import_votes(ledger: Ledger, path: Path) -> int:
    """Reads a votes file into battles and verdicts.

    A battle joins the ledger's own if that has exactly one between these models on this item and turn; a new one is
    tied to the models' answers where each has exactly one. Repeated votes of one annotator are replicates, unless a
    column `id` says that two rows are the same vote, which is an error.

    Returns:
        The number of rows.

    Raises:
        UserError: Something is wrong in the file; nothing was written.
    """
    rows = read_table(path, REQUIRED)
    if rows and "id" in rows[0].values:
        unique(rows, "id", lambda row: row.text("id"), "every vote has an id of its own")
    votes = [_vote(row) for row in rows]
    for source, vote in zip(rows, votes, strict=True):
        if vote.model_a == vote.model_b:
            raise source.fault("model_b", f"{vote.model_b!r} against itself; a battle in a ledger is of two models")
    models = models_by_name(ledger, [name for vote in votes for name in (vote.model_a, vote.model_b)])
    annotators = annotators_by_name(ledger, [vote.annotator for vote in votes])
    tags = {vote.item: {"category": vote.category} if vote.category else {} for vote in votes}
    items = items_by_name(ledger, path, tags)
    with import_run(ledger, "votes", path) as run_id:
        rows_of = [BattleRow(items[v.item], models[v.model_a], models[v.model_b], turn=v.turn) for v in votes]
        add_votes(ledger, run_id, votes, rows_of, annotators)
    return len(votes)


def add_votes(
    ledger: Ledger,
    run_id: int,
    votes: Sequence[Vote],
    rows: Sequence[BattleRow],
    annotators: Mapping[tuple[AnnotatorKind, str], int],
) -> None:
    """Adds votes with their battles.

    Args:
        rows: The battle of each vote, in the vote's own naming; without responses it joins or is tied to those there
            are (see `import_votes`).
    """
    seen: Counter[tuple[Any, ...]] = Counter()
    verdicts = []
    for vote, row, battle in zip(votes, rows, _battles(ledger, rows), strict=True):
        swapped = row.model_a_id > row.model_b_id
        order = _SWAPPED.get(vote.order, vote.order) if swapped else vote.order
        annotator = annotators[vote.annotator]
        unit = (battle, annotator, vote.criterion, order)
        likely = vote.probability
        verdicts.append(
            VerdictRow(
                battle,
                annotator,
                order,
                _SWAPPED.get(vote.winner, vote.winner) if swapped else vote.winner,
                criterion=vote.criterion,
                replicate=seen[unit] if vote.replicate is None else vote.replicate,
                probability=1 - likely if swapped and likely is not None else likely,
                rationale=vote.rationale,
                error=vote.error,
                seconds=vote.seconds,
                created_at=vote.timestamp,
            )
        )
        seen[unit] += 1
    ledger.add_verdicts(run_id, verdicts)


def _battles(ledger: Ledger, rows: Sequence[BattleRow]) -> list[int]:
    known: defaultdict[tuple[int, int, int, int], list[int]] = defaultdict(list)
    columns = (Battle.item_id, Battle.model_a_id, Battle.model_b_id, Battle.turn, Battle.id)
    items = sorted({row.item_id for row in rows})
    with ledger.engine.connect() as connection:
        for chunk in chunks(items):
            for found in connection.execute(sa.select(*columns).where(Battle.item_id.in_(chunk))):
                known[found[0], found[1], found[2], found[3]].append(found[4])
        answers: defaultdict[tuple[int, int, int], list[int]] = defaultdict(list)
        for (model_id, item_id, _, turn), (response_id, failed) in stored_responses(connection, items).items():
            if not failed:
                answers[model_id, item_id, turn].append(response_id)
    made = {}
    for row in rows:
        if row.response_a_id is not None:
            made[row] = row
            continue
        if len(known[battle_key(row)[:4]]) == 1:
            continue
        a, b = (answers[model, row.item_id, row.turn] for model in (row.model_a_id, row.model_b_id))
        made[row] = row
        if len(a) == len(b) == 1 and not known[battle_key(row)[:4]]:
            made[row] = replace(row, response_a_id=a[0], response_b_id=b[0])
    ids = dict(zip(made, ledger.add_battles(list(made.values())), strict=True))
    return [ids[row] if row in ids else known[battle_key(row)[:4]][0] for row in rows]


def export_votes(ledger: Ledger, path: Path, *, include_set_aside: bool = False) -> int:
    """Writes every human's and judge's verdict, failed ones included (with `error` and no winner).

    Args:
        ledger: To read.
        path: To write.
        include_set_aside: Also those of members who were set aside.

    Returns:
        The number of rows.

    Raises:
        UserError: The file cannot be written.
    """
    return write_table(path, COLUMNS, _pages(ledger, include_set_aside))


def _pages(ledger: Ledger, include_set_aside: bool) -> Iterator[list[tuple[Any, ...]]]:
    columns = (
        *(Verdict.id, Battle.item_id, Battle.model_a_id, Battle.model_b_id, Verdict.winner, Verdict.annotator_id),
        *(Verdict.criterion, Battle.turn, Verdict.order_shown, Verdict.replicate, Verdict.probability),
        *(Verdict.created_at, Verdict.error),
    )
    query = sa.select(*columns).join(Battle, Battle.id == Verdict.battle_id)
    # Probes are no votes on contestants.
    query = query.where(~Verdict.criterion.startswith(PROBE))
    if not include_set_aside:
        query = query.where(Verdict.annotator_id.not_in(set_aside()))
    with ledger.engine.connect() as connection:
        models, annotators = model_names(connection), annotator_names(connection)
        categories: dict[int, Any] = {}
        for found, items in pages(connection, query, Verdict.id):
            for chunk in chunks(sorted({row[1] for row in found} - categories.keys())):
                tags: Any = connection.execute(sa.select(Item.id, Item.tags).where(Item.id.in_(chunk)))
                categories |= {item: told.get("category") for item, told in tags}
            page = []
            for row in found:
                kind, name = annotators[row[5]]
                who = (items[row[1]], models[row[2]], models[row[3]], row[4], name, kind)
                page.append((*who, *row[6:12], categories[row[1]], row[12]))
            yield page
