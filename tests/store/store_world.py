"""Rows for tests of the ledger, and checks of its roll-ups."""

from __future__ import annotations

from typing import Any

import pytest

from evalkit.models.base import ModelSettings, Reply, RequestFailed, request_key
from evalkit.store import Item, Ledger, ResponseRow


class World:
    """Two models, a dataset of ten items, and a run; makes response rows."""

    def __init__(self, ledger: Ledger, n: int = 10) -> None:
        self.ledger = ledger
        self.models = ledger.add_models([ModelSettings("openai", "a", label="a"), ModelSettings("openai", "b")])
        self.dataset, self.items = ledger.add_dataset("d", [question(i) for i in range(n)], "test")
        self.run = ledger.start_run("r", {"plan": 1}, seed=0, environment={})

    def row(self, item: int, model: int = 0, *, dataset: int | None = None, **changes: Any) -> ResponseRow:
        """An answer to the item's number; `error=KIND` makes it a failure."""
        error = changes.pop("error", None)
        outcome: Reply | RequestFailed = Reply(
            f"answer {item}", finish_reason="stop", prompt_tokens=3, completion_tokens=5, seconds=0.25
        )
        if error:
            outcome = RequestFailed(error, "it broke")
        body = changes.pop("body", f'{{"item":{item},"model":{model}}}')
        place = (self.models[model], self.items[item], dataset or self.dataset)
        given = {"cost": None if error else 0.5, **changes}
        return ResponseRow(*place, request_key(body), body, given.pop("outcome", outcome), **given)


def question(i: int) -> Item:
    messages = ({"role": "user", "content": f"question {i}"},)
    return Item(messages, reference={"answer": i}, tags={"topic": "test"}, name=f"q{i}", split="test")


CELLS = """
    SELECT rr.run_id, rr.model_id, rr.dataset_id, count(*),
           sum(CASE WHEN rr.failed THEN 1 ELSE 0 END), sum(CASE WHEN rr.cached THEN 1 ELSE 0 END),
           sum(CASE WHEN NOT rr.cached AND NOT rr.failed AND r.cost IS NULL THEN 1 ELSE 0 END),
           sum(CASE WHEN rr.cached THEN 0 ELSE coalesce(r.prompt_tokens, 0) END),
           sum(CASE WHEN rr.cached THEN 0 ELSE coalesce(r.completion_tokens, 0) END),
           sum(CASE WHEN rr.cached THEN 0 ELSE coalesce(r.cost, 0) END),
           sum(CASE WHEN rr.cached THEN 0 ELSE coalesce(r.seconds, 0) END)
    FROM run_response rr JOIN response r ON r.id = rr.response_id
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""


def check_cells(ledger: Ledger) -> None:
    """Asserts that every roll-up row is what its links and responses add up to, and failed flags are right."""
    with ledger.engine.connect() as connection:
        expected = [[float(v) for v in row] for row in connection.exec_driver_sql(CELLS)]
        found = [
            [float(v) for v in row]
            for row in connection.exec_driver_sql(
                "SELECT run_id, model_id, dataset_id, n, errors, cached, unpriced, prompt_tokens, completion_tokens,"
                " cost, seconds FROM run_cell ORDER BY 1, 2, 3"
            )
        ]
        wrong = connection.exec_driver_sql(
            "SELECT count(*) FROM run_response rr JOIN response r ON r.id = rr.response_id"
            " WHERE rr.failed <> (r.error_kind IS NOT NULL)"
        ).scalar()
    assert len(found) == len(expected)
    for got, want in zip(found, expected, strict=True):
        assert got == pytest.approx(want, abs=1e-6)
    assert wrong == 0


def check_tally(ledger: Ledger) -> None:
    """Asserts that the tally is what the verdicts give when folded from scratch."""
    units: dict[tuple[Any, ...], list[str | None]] = {}
    with ledger.engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT v.annotator_id, v.criterion, b.turn, b.model_a_id, b.model_b_id, v.battle_id, v.replicate, v.winner"
            " FROM verdict v JOIN battle b ON b.id = v.battle_id"
        )
        for *unit, winner in rows:
            units.setdefault(tuple(unit), []).append(winner)
        stored = connection.exec_driver_sql(
            "SELECT annotator_id, criterion, turn, model_a_id, model_b_id, wins_a, wins_b, ties, both_bad, errors"
            " FROM tally"
        )
        names = ("model_a", "model_b", "tie", "both_bad", "error")
        found = {(*row[:5], name): n for row in stored for name, n in zip(names, row[5:], strict=True) if n}
    expected: dict[tuple[Any, ...], int] = {}
    for unit, winners in units.items():
        said = {winner for winner in winners if winner is not None}
        for outcome in (["tie"] if len(said) > 1 else list(said)) + ["error"] * winners.count(None):
            expected[*unit[:5], outcome] = expected.get((*unit[:5], outcome), 0) + 1
    assert found == expected
