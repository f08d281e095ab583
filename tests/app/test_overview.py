"""The overview page: counts, what needs a decision, what runs, three boards."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pages
import pytest
import sample_ledger
import training_world
from pages import said

from evalkit.store import Ledger

opened = partial(pages.opened, "overview")


def test_an_empty_ledger_says_what_to_type(ledger: Ledger) -> None:
    at = opened()
    assert "evalkit init" in said(at) and "Nothing waits for a decision" in said(at)
    assert at.metric[0].value == "0"


def test_counts_and_boards(board_ledger: Ledger) -> None:
    at = opened()
    counts = {one.label: one for one in at.metric}
    assert counts["Models"].value == "9" and counts["Requests"].value == "108" and counts["People"].value == "4"
    assert counts["Requests"].delta == "1 unanswered" and counts["Verdicts"].delta == "1 unreadable"
    assert len(at.get("vega_lite_chart")) == 3
    assert "of 4 people" in said(at) and "Mean of 2 benchmarks" in said(at)


def test_what_needs_a_decision_is_said_with_numbers(board_ledger: Ledger) -> None:
    told = said(opened())
    assert "Unfit judge" in told and "blind" in told
    assert "Uncertified judge" in told and "fair" in told
    assert "Failed requests" in told and "model-0 1 of 12" in told
    assert "Unreadable verdicts" in told


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("", "Gate waiting] smollm2-json-merged: tested, neither approved nor rejected."),
        ("DELETE FROM gate", "Gate missing] smollm2-json: trained, and no gate has tested it."),
    ],
)
def test_models_before_the_gate(change: str, told: str, store: Path) -> None:
    ledger, run = sample_ledger.make(store, items=3)
    training_world.fill(ledger, run)
    if change:
        with ledger.write() as connection:
            connection.exec_driver_sql(change)
    ledger.close()
    shown = said(opened()).replace("\\", "")
    assert told in shown
    assert "1 slice fails more often" in shown


@pytest.mark.parametrize("change", ["DELETE FROM gate WHERE id = 1", "UPDATE training_run SET method = 'reward'"])
def test_models_that_no_gate_has_to_test(change: str, store: Path) -> None:
    """One whose merge with its parent was tested in its stead, and a reward model."""
    ledger, run = sample_ledger.make(store, items=3)
    training_world.fill(ledger, run)
    with ledger.write() as connection:
        if "reward" in change:
            connection.exec_driver_sql("DELETE FROM gate")
        connection.exec_driver_sql(change)
    ledger.close()
    assert "Gate missing" not in said(opened())


def test_a_running_run_shows_its_progress(board_ledger: Ledger) -> None:
    run = board_ledger.start_run("nightly", {}, seed=0, environment={})
    board_ledger.update_run(run, stage="answers", done=30, total=120)
    at = opened()
    assert at.progress[0].value == 25 and "nightly" in at.progress[0].text


def test_new_votes_appear_while_the_page_is_open(board_ledger: Ledger) -> None:
    from app import reads
    from evalkit.store import VerdictRow

    at = opened()
    before = {one.label: one.value for one in at.metric}["Verdicts"]
    person = board_ledger.add_annotator("human", "late", {})
    board_ledger.add_verdicts(None, [VerdictRow(1, person, "ab", "tie")])
    reads.state.clear()  # five seconds later
    after = {one.label: one.value for one in at.run().metric}["Verdicts"]
    assert int(after.replace(",", "")) == int(before.replace(",", "")) + 1
