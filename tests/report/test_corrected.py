"""A judge's board corrected with human votes: from a ledger, and in the report."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
from small import run, settings

from evalkit.errors import UserError
from evalkit.models.base import Reply
from evalkit.report import build_report
from evalkit.report.corrected import corrected_board, corrected_leaderboard
from evalkit.report.html import render
from evalkit.stats import ppi_bradley_terry
from evalkit.store import BattleRow, Item, Ledger, ResponseRow, VerdictRow
from evalkit.store.formats.generic import ledger_votes

MODELS = ("able", "boastful", "clumsy")
TRUE = dict(zip(MODELS, (1.0, -0.2, -0.8), strict=True))
SEEN = dict(zip(MODELS, (0.6, 0.9, -1.5), strict=True))  # the judge falls for the boastful one


def judged(ledger: Ledger, *, voted: float, battles: int = 450, seed: int = 1) -> tuple[int, list[int]]:
    """Battles that a judge decides in both orders by what it sees, and humans, on some of them, by what is true."""
    draw = random.Random(seed)
    run_id = run(ledger, {"judges": [{"name": "eager"}]})
    models = ledger.add_models([settings(name) for name in MODELS])
    items = [Item(({"role": "user", "content": f"question {i}"},), name=str(i)) for i in range(battles // 3)]
    dataset, item_ids = ledger.add_dataset("questions", items)
    rows = [
        ResponseRow(model, item, dataset, f"{model:032x}{item:032x}", "{}", Reply("text"))
        for item in item_ids
        for model in models
    ]
    ledger.add_responses(run_id, rows)
    pairs = [(i, a, b) for i in item_ids for a, b in ((0, 1), (0, 2), (1, 2))]
    ids = ledger.add_battles([BattleRow(i, models[a], models[b]) for i, a, b in pairs])
    judge = ledger.add_annotator("judge", "eager", {"kind": "llm"})
    people = [ledger.add_annotator("human", f"person {k}", {}) for k in range(3)]

    def won(skill: dict[str, float], a: int, b: int) -> str:
        p = 1 / (1 + np.exp(skill[MODELS[b]] - skill[MODELS[a]]))
        return "model_a" if draw.random() < p else "model_b"

    verdicts = []
    for battle, (_, a, b) in zip(ids, pairs, strict=True):
        said = won(SEEN, a, b)
        verdicts += [VerdictRow(battle, judge, order, said) for order in ("ab", "ba")]  # type: ignore[arg-type]
        if draw.random() < voted:
            verdicts.append(VerdictRow(battle, draw.choice(people), "", won(TRUE, a, b)))  # type: ignore[arg-type]
    ledger.add_verdicts(run_id, verdicts)
    return run_id, models


def test_human_votes_put_the_order_right_and_the_shift_says_so(ledger: Ledger) -> None:
    judged(ledger, voted=0.4)
    found = corrected_leaderboard(ledger, names=["eager"])
    rows = {row.model: row for row in found.rows}
    raw = sorted(MODELS, key=lambda m: -(rows[m].raw_rating or 0))
    assert raw[0] == "boastful" and found.rows[0].model == "able"
    assert (rows["able"].shift or 0) > 0 > (rows["boastful"].shift or 0)
    for row in found.rows:
        assert None not in (row.lower, row.rating, row.upper, row.raw_rating, row.shift)
        assert row.lower < row.rating < row.upper  # type: ignore[operator]
        assert row.shift == pytest.approx(row.rating - row.raw_rating)  # type: ignore[operator]
    assert found.judges == ("eager",) and found.humans == 3
    assert (found.n, found.n_failed) == (450, 0) and 140 < found.n_labelled < 220
    assert sum(row.human_votes for row in found.rows) == 2 * found.n_labelled
    assert found.warnings == ()


def test_the_ledger_gives_what_the_statistics_give(ledger: Ledger) -> None:
    judged(ledger, voted=0.4)
    expected = ppi_bradley_terry(ledger_votes(ledger), "eager", "person*", cluster="item_id")
    found = corrected_leaderboard(ledger)
    assert [row.model for row in found.rows] == list(expected.models)
    assert [row.rating for row in found.rows] == pytest.approx(expected.rating.tolist())
    assert [row.raw_rating for row in found.rows] == pytest.approx(
        [dict(zip(expected.judge.models, expected.judge.rating, strict=True))[row.model] for row in found.rows]
    )
    one = corrected_leaderboard(ledger, humans="person 1")
    assert one.humans == 1 and one.n_labelled < found.n_labelled


def test_few_human_votes_are_said(ledger: Ledger) -> None:
    judged(ledger, voted=0.04)
    found = corrected_leaderboard(ledger)
    assert any("have a human label: below 30" in sentence for sentence in found.warnings)


def test_without_human_votes_there_is_no_correction(ledger: Ledger) -> None:
    run_id, models = judged(ledger, voted=0.0)
    with pytest.raises(UserError, match="there is no human vote"):
        corrected_leaderboard(ledger)
    assert build_report(ledger, run_id).corrected is None
    board = build_report(ledger, run_id).board
    assert board is not None and corrected_board(ledger, dataclasses.replace(board, judges=()), models) is None


def test_the_report_has_both_boards(ledger: Ledger) -> None:
    run_id, _ = judged(ledger, voted=0.3)
    report = build_report(ledger, run_id)
    assert report.board is not None and report.corrected is not None
    assert report.board.rows[0].model == "boastful" and report.corrected.rows[0].model == "able"
    page = render(report)
    assert "Corrected by human votes" in page and "PPI++" in page and '<a href="#corrected">' in page
