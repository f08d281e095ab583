"""The correlation page: the matrix, what predicts human preference, the scatter of a pair."""

from __future__ import annotations

from functools import partial

import pages
import pytest
from pages import said

from evalkit.stats import correlate
from evalkit.store import Ledger

opened = partial(pages.opened, "correlation")


def test_an_empty_ledger_says_what_it_takes(ledger: Ledger) -> None:
    at = opened()
    assert "Nothing to correlate yet" in at.info[0].proto.title or "two kinds of evidence" in said(at)


def test_the_nearest_to_people_is_named_with_its_interval(board_ledger: Ledger) -> None:
    at = opened()
    pairs, columns = at.dataframe[0].value, at.dataframe[1].value
    assert {"People", "Judges", "sums", "facts"} <= set(columns)
    assert pairs["n"].eq(9).all()
    found = correlate(columns[["model", "People", "sums"]]).pairs[0].spearman
    row = pairs[pairs["a"].isin(["People", "sums"]) & pairs["b"].isin(["People", "sums"])].iloc[0]
    assert row["value"] == pytest.approx(found.value) and row["from"] == pytest.approx(found.lower)
    assert "Nearest to people's ratings here" in said(at) and "over 9 models" in said(at)


def test_the_pair_of_the_url_is_drawn(board_ledger: Ledger) -> None:
    at = opened(across="sums", up="facts", method="kendall")
    assert (at.selectbox(key="across").value, at.selectbox(key="up").value) == ("sums", "facts")
    assert "facts against sums" in at.get("vega_lite_chart")[1].proto.spec


def test_few_models_get_no_claim(ledger: Ledger) -> None:
    from evalkit.models.base import ModelSettings
    from evalkit.store import BattleRow, Item, ScoreRow, VerdictRow

    models = ledger.add_models([ModelSettings("openai", name) for name in "abc"])
    dataset, items = ledger.add_dataset("p", [Item(({"role": "user", "content": "?"},), name="0")], "")
    pairs = [(0, 1), (1, 2), (0, 2)]
    battles = ledger.add_battles([BattleRow(items[0], models[a], models[b]) for a, b in pairs])
    people = [ledger.add_annotator("human", name, {}) for name in ("x", "y")]
    winners = ("model_a", "model_b")
    for person, winner in zip(people, winners, strict=True):
        ledger.add_verdicts(None, [VerdictRow(battle, person, "ab", winner) for battle in battles])
    run = ledger.start_run("r", {}, seed=0, environment={})
    ledger.set_scores(run, [ScoreRow(m, dataset, "acc", 0.1 * m, 0.01, 100) for m in models])
    told = said(opened())
    assert "only 3 models" in told or "No other kind" in told
    assert "Nearest to people" not in told
