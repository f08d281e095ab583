"""The page of failure slices, on made rows."""

from __future__ import annotations

from functools import partial

import pages
import pytest
import training_world
from pages import said

from evalkit.store import Ledger, frames_training

opened = partial(pages.opened, "slices")
World = tuple[Ledger, int, dict[str, int]]


@pytest.fixture
def world(sample: tuple[Ledger, int]) -> World:
    return *sample, training_world.fill(*sample, mark=True)


def test_slices_have_their_rates_from_the_half_that_the_search_never_saw(world: World) -> None:
    table = opened().dataframe[0].value.set_index("slice")
    row = table.loc["Nested JSON"]
    assert row["rate"] == pytest.approx(5 / 6, abs=0.005)  # to the percent
    assert row["answers"] == 6
    assert row["half"] == "held-out"
    assert 0.4 < row["lower"] < row["rate"] < row["upper"] < 1
    weak = table.loc["Lists"]
    assert weak["half"] == "discovery"
    assert weak["rate"] == 1.0
    assert weak["lower"] < 1.0, "seven of seven are no certainty"


def test_nobody_sees_the_held_out_half(world: World) -> None:
    ledger, _, ids = world
    page = opened()
    assert training_world.HELD_OUT not in said(page)
    assert "Give" in said(page), "examples of the other half are shown"
    answers = frames_training.slice_answers(ledger, ids["slice"], limit=None)
    assert len(answers) == len(set(answers["item_id"])) > 1
    assert training_world.HELD_OUT not in set(answers["prompt"])
    graded = answers["grade"].dropna()
    assert graded.is_monotonic_increasing, "failed answers come first"


def test_a_models_hostile_answer_is_shown_as_text(world: World) -> None:
    ledger, _, _ = world
    with ledger.write() as connection:
        connection.exec_driver_sql("UPDATE response SET text = '<script>alert(1)</script> ![x](http://e.org/x.png)'")
    told = said(opened())
    assert "<script>" not in told.replace("\\<script\\>", "")
    assert "](http" not in told


def test_without_slices_the_tags_are_counted(world: World) -> None:
    ledger, run_id, _ = world
    with ledger.write() as connection:
        for table in ("training_row", "curve_point", "training_run", "training_set", "slice_item", "slice"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    page = opened()
    assert "Nobody has searched this ledger for slices" in said(page)
    table = page.dataframe[0].value
    assert (table["effect"] > 0).all()
    assert "slices were looked at" in said(page)
    assert page.selectbox(key="run").value == run_id


def test_an_empty_ledger_says_what_to_type(ledger: Ledger) -> None:
    assert "evalkit run PLAN" in said(opened())
