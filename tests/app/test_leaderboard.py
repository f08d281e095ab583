"""The leaderboard page: each kind of evidence, style control, win rates, cost, groups, and state in the URL."""

from __future__ import annotations

from functools import partial
from typing import Any

import pages
import pandas as pd
import pytest
from board_world import NAMES
from pages import said

from evalkit.store import Ledger

opened = partial(pages.opened, "leaderboard")


def table(at: Any) -> pd.DataFrame:
    found: pd.DataFrame = at.dataframe[0].value
    return found


def test_an_empty_ledger_says_what_to_type(ledger: Ledger) -> None:
    at = opened()
    assert "evalkit run" in said(at)
    assert not at.dataframe


def test_people_are_shown_first_with_intervals_ranks_and_n(board_ledger: Ledger) -> None:
    at = opened()
    board = table(at)
    assert next(iter(board["model"])) in NAMES[-3:] and set(board["model"]) == set(NAMES)
    assert (board["interval"] != "").all() and (board["rank"] != "").all()
    assert "votes of 4 people on overall" in said(at) and "half a win" in said(at)


def test_judges_that_may_not_make_a_board_are_left_out_with_the_reason(board_ledger: Ledger) -> None:
    at = opened(evidence="Judges")
    assert "votes of fair" in said(at)
    assert "blind" in at.warning[0].value and "not used" in said(at)
    assert "1 verdicts could not be read" in said(at)


def test_one_judge_can_be_asked_for_in_the_url(board_ledger: Ledger) -> None:
    at = opened(evidence="Judges", judge="blind")
    assert at.selectbox(key="judge").value == "blind"
    assert "votes of blind" in said(at)


def test_corrected_board_stands_beside_the_raw_one(board_ledger: Ledger) -> None:
    at = opened(evidence="Judges, corrected", judge="fair")
    board = table(at)
    assert {"rating", "raw_rating", "shift", "human_votes"} <= set(board)
    assert board["human_votes"].gt(0).all()


def test_benchmarks_have_intervals_and_rank_ranges(board_ledger: Ledger) -> None:
    at = opened(evidence="Benchmarks", benchmark="sums")
    board = table(at)
    assert board["model"].iloc[0] == NAMES[-1] and board["value"].is_monotonic_decreasing
    assert (board["rank"] != "").all() and board["n"].eq(100).all()


def test_style_control_names_what_style_is_worth(board_ledger: Ledger) -> None:
    at = opened(style="true")
    assert {"raw_rating", "change"} <= set(table(at))
    assert "tokens" in said(at) and "rating points" in said(at)


def test_win_rates_of_a_pair_add_up_to_one(board_ledger: Ledger) -> None:
    at = opened(view="Win rates")
    pairs = table(at).set_index(["model", "against"])["win_rate"]
    turned = pairs.swaplevel().loc[pairs.index]
    assert (pairs.to_numpy() + turned.to_numpy() == pytest.approx(1.0)) and len(pairs) > 20


def test_the_pareto_front_is_what_no_cheaper_model_beats(board_ledger: Ledger) -> None:
    at = opened(view="Cost and speed", evidence="Benchmarks", benchmark="sums")
    costs = table(at)
    front = set(costs.loc[costs["front"], "model"])
    beaten = {
        row.model
        for row in costs.itertuples()
        if ((costs["dollars_per_1000"] <= row.dollars_per_1000) & (costs["value"] > row.value)).any()
    }
    assert front == set(costs["model"]) - beaten
    assert costs.set_index("model").loc["model-1", "dollars_per_1000"] == pytest.approx(2.0)


def test_boards_by_category(board_ledger: Ledger) -> None:
    at = opened(view="By group")
    assert set(table(at)["group"]) == {"code", "maths"}
    assert "code" in said(at) and "maths" in said(at)


def test_a_name_with_markup_is_shown_as_it_is(ledger: Ledger) -> None:
    from evalkit.models.base import ModelSettings
    from evalkit.store import BattleRow, Item, VerdictRow

    models = ledger.add_models(
        [ModelSettings("openai", name, label=name) for name in ("**b** [x](http://y)", "c.d[0]:e")]
    )
    _, items = ledger.add_dataset("p", [Item(({"role": "user", "content": "?"},), name="0")], "")
    [battle] = ledger.add_battles([BattleRow(items[0], *models)])
    person = ledger.add_annotator("human", "<b>Ann</b>", {})
    ledger.add_verdicts(None, [VerdictRow(battle, person, "ab", "model_a")])
    at = opened()
    assert "<b>" not in said(at) and "[x](" not in said(at)
    assert "**b** [x](http://y)" in set(table(at)["model"])
