"""The graded answers of a model in a run, and what else the ledger knows about them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from evalkit.report.failures import PASS_FROM, graded_answers, graders, passable
from evalkit.report.scores import score_table
from evalkit.store.ledger import Ledger
from evalkit.store.reading import frame
from evalkit.store.schema import Annotator, Battle, Dataset, Grade, Item, Response, RunResponse, Verdict
from evalkit.store.schema_app import set_aside
from evalkit.store.writing import chunks

if TYPE_CHECKING:
    import pandas as pd

BATTLES = "battles"
"""The metric of answers that no benchmark graded: an answer fails if it loses more battles than it wins."""
HEAD = ("item_id", "response_id", "dataset_id", "characters", "finish_reason", "failed")


@dataclass(frozen=True)
class Answers:
    """A model's answers that count.

    Attributes:
        table: item_id, response_id, dataset_id, characters (of the answer), finish_reason, failed (True or False);
            a row for each graded answer.
        graders: Who graded each dataset, by dataset id; empty where battles decide.
        metrics: Name of each dataset's metric, by dataset id.
        datasets: Names by dataset id.
        left_out: Sentences on what is not in the table.
    """

    table: pd.DataFrame
    graders: Mapping[int, int]
    metrics: Mapping[int, str]
    datasets: Mapping[int, str]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """What is known of a prompt before anyone answers it."""

    messages: Sequence[Mapping[str, Any]]
    reference: Any
    tags: Mapping[str, Any]


def read_answers(ledger: Ledger, run_id: int, model_id: int) -> Answers:
    """Reads a model's graded answers. What fails is what the report calls so (see `evalkit.report.failures`).

    Where no task of the run has a metric that says right or wrong, battles decide: an answer fails that lost more of
    them than it won, ties apart; answers without a battle are left out.

    Raises:
        UserError: There is no such run.
    """
    tasks, left_out = passable(score_table(ledger, run_id))
    with ledger.engine.connect() as connection:
        datasets: dict[int, str] = {key: name for key, name in connection.execute(sa.select(Dataset.id, Dataset.name))}
        graded_by = graders(connection, tasks)
        if graded_by:
            query = (
                graded_answers(run_id, graded_by)
                .with_only_columns(
                    *(Response.item_id, Response.id, RunResponse.dataset_id, sa.func.length(Response.text)),
                    *(Response.finish_reason, Grade.value < PASS_FROM),
                )
                .where(RunResponse.model_id == model_id, Grade.value.is_not(None))
            )
            rows = [tuple(row) for row in connection.execute(query.order_by(Response.item_id, Response.id))]
        else:
            rows = []
    metrics = {key: metric for key, (_, metric) in tasks.items() if key in graded_by}
    if not graded_by:
        rows = _by_battles(ledger, run_id, model_id)
        metrics = {row[2]: BATTLES for row in rows}
    table = frame(rows, HEAD, {"characters"}).astype({"failed": bool})
    # An answer may stand in two versions of a dataset.
    table = table.drop_duplicates("response_id", ignore_index=True)
    return Answers(table, graded_by, metrics, datasets, tuple(left_out))


def _by_battles(ledger: Ledger, run_id: int, model_id: int) -> list[tuple[Any, ...]]:
    fought = battles(ledger, model_id)
    query = (
        sa.select(Response.item_id, Response.id, RunResponse.dataset_id, sa.func.length(Response.text))
        .add_columns(Response.finish_reason)
        .join(Response, Response.id == RunResponse.response_id)
        .where(RunResponse.run_id == run_id, RunResponse.model_id == model_id)
        .order_by(Response.item_id, Response.id)
    )
    with ledger.engine.connect() as connection:
        rows = [(row, fought.get(row[1], Record())) for row in connection.execute(query)]
    return [(*row, record.lost > record.won) for row, record in rows if record.lost or record.won]


@dataclass(slots=True)
class Record:
    """Battles of one answer: verdicts won and lost, and battles that people and judges decided alike or not."""

    won: int = 0
    lost: int = 0
    agreed: int = 0
    differed: int = 0


def battles(ledger: Ledger, model_id: int) -> dict[int, Record]:
    """Reads how each answer of a model fared in battles, by response id; votes that are set aside do not count."""
    side = sa.case((Battle.model_a_id == model_id, "model_a"), else_="model_b")
    response = sa.case((Battle.model_a_id == model_id, Battle.response_a_id), else_=Battle.response_b_id)
    query = (
        sa.select(response, Battle.id, Annotator.kind, side, Verdict.winner, sa.func.count())
        .join(Verdict, Verdict.battle_id == Battle.id)
        .join(Annotator, Annotator.id == Verdict.annotator_id)
        .where((Battle.model_a_id == model_id) | (Battle.model_b_id == model_id), Verdict.winner.is_not(None))
        .where(Verdict.annotator_id.not_in(set_aside()))
        .group_by(response, Battle.id, Annotator.kind, side, Verdict.winner)
    )
    lead: defaultdict[tuple[int, int], dict[str, int]] = defaultdict(dict)  # of the model, by answer and battle
    found: defaultdict[int, Record] = defaultdict(Record)
    with ledger.engine.connect() as connection:
        for response_id, battle_id, kind, mine, winner, n in connection.execute(query):
            if response_id is None:
                continue  # an imported vote on an answer that nobody kept
            record, by_kind = found[response_id], lead[response_id, battle_id]
            step = 0 if winner not in ("model_a", "model_b") else n if winner == mine else -n
            record.won += max(step, 0)
            record.lost += max(-step, 0)
            by_kind[kind] = by_kind.get(kind, 0) + step
    for (response_id, _), by_kind in lead.items():
        if "human" in by_kind and "judge" in by_kind:
            same = _sign(by_kind["human"]) == _sign(by_kind["judge"])
            found[response_id].agreed += same
            found[response_id].differed += not same
    return dict(found)


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)


def read_items(ledger: Ledger, item_ids: Sequence[int]) -> dict[int, ItemFacts]:
    """Reads messages, reference and tags of items."""
    found: dict[int, ItemFacts] = {}
    with ledger.engine.connect() as connection:
        for chunk in chunks(sorted(set(item_ids))):
            query = sa.select(Item.id, Item.messages, Item.reference, Item.tags).where(Item.id.in_(chunk))
            for item_id, messages, reference, tags in connection.execute(query):
                found[item_id] = ItemFacts(messages, reference, tags or {})
    return found


def rationales(ledger: Ledger, run_id: int, model_id: int, *, limit: int = 50_000) -> dict[int, str]:
    """Reads what judges said of each answer of a model in a run: reasons of their verdicts and grades, by response id.

    Args:
        limit: Reasons of each kind; the first so many.
    """
    own = sa.select(RunResponse.response_id).where(RunResponse.run_id == run_id, RunResponse.model_id == model_id)
    said: defaultdict[int, list[str]] = defaultdict(list)
    with ledger.engine.connect() as connection:
        judges = sa.select(Annotator.id).where(Annotator.kind == "judge")
        for column, model in ((Battle.response_a_id, Battle.model_a_id), (Battle.response_b_id, Battle.model_b_id)):
            query = sa.select(column, Verdict.rationale).join(Verdict, Verdict.battle_id == Battle.id)
            query = query.where(model == model_id, Verdict.rationale.is_not(None), column.in_(own))
            query = query.where(Verdict.annotator_id.in_(judges)).limit(limit)
            for response_id, text in connection.execute(query):
                if response_id is not None:
                    said[response_id].append(str(text))
        graded = sa.select(Grade.response_id, Grade.detail).where(Grade.annotator_id.in_(judges))
        for response_id, detail in connection.execute(graded.where(Grade.response_id.in_(own)).limit(limit)):
            if detail and detail.get("rationale"):
                said[response_id].append(str(detail["rationale"]))
    return {key: " ".join(texts) for key, texts in said.items()}
