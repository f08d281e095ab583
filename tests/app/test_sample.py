"""The page of one sample."""

from __future__ import annotations

from functools import partial

import pages
import pytest
import samples_world
import streamlit as st
from pages import said

from app.difference import difference
from evalkit.store import Ledger

opened = partial(pages.opened, "sample")


def test_without_a_number_it_says_where_to_find_one(ledger: Ledger) -> None:
    assert "evalkit run" in opened().info[0].value
    samples_world.fill(ledger)
    st.cache_data.clear()
    assert "Runs" in opened().info[0].value
    assert "no response 999" in opened(response="999").info[0].value


def test_prompt_answers_grades_and_verdicts(ledger: Ledger) -> None:
    world = samples_world.fill(ledger)
    page = opened(response=str(world.responses["alpha", 3]))
    told = said(page)
    assert "Frage 3" in told
    assert "alpha says 3" in told.replace("\\", "")
    assert "beta says 3" in told.replace("\\", ""), "another model's answer stands beside it at first"
    grades, _, verdicts = (one.value for one in page.dataframe)
    assert grades.iloc[0]["value"] == 1.0
    assert verdicts["verdict"].tolist().count("won") == 2
    assert verdicts["verdict"].tolist().count("lost") == 3
    assert set(verdicts.loc[verdicts["kind"] == "judge", "shown"]) == {"first", "second"}
    assert "Reason 3 in order ab" in told
    assert "as expected" in told


def test_probabilities_are_those_of_the_answer_on_the_page(ledger: Ledger) -> None:
    world = samples_world.fill(ledger)
    verdicts = opened(response=str(world.responses["beta", 3])).dataframe[-1].value
    assert verdicts["probability"].dropna().unique() == pytest.approx(0.1)


def test_a_failed_request_says_so(ledger: Ledger) -> None:
    world = samples_world.fill(ledger)
    page = opened(response=str(world.responses["gamma", 0]))
    assert "overloaded" in page.error[0].value
    page.segmented_control(key="as").set_value("Difference, word by word").run()
    assert not page.exception
    assert any("nothing to compare" in one.value for one in page.info)


def test_verdicts_that_could_not_be_read_are_shown(ledger: Ledger) -> None:
    world = samples_world.fill(ledger)
    verdicts = opened(response=str(world.responses["alpha", 7])).dataframe[-1].value
    failed = verdicts[verdicts["verdict"] == "failed"]
    assert failed["error"].tolist() == ["no verdict in the reply"] * 2


def test_difference_marks_what_only_one_has_and_holds_no_tags_of_theirs(ledger: Ledger) -> None:
    world = samples_world.fill(ledger)
    page = opened(response=str(world.responses["alpha", 1]), **{"as": "Difference, word by word"})
    blocks = [one.value for one in page.html if "<div" in one.value]
    assert "<del>alpha</del>" in blocks[0]
    assert "<ins>beta</ins>" in blocks[1]
    assert not any(tag in "".join(blocks) for tag in ("<script", "<img", "onerror"))
    assert "&lt;script&gt;" in blocks[0]


def test_words_in_common() -> None:
    found = difference("the cat  sat down", "the dog sat\ndown")
    assert found.shared == 0.75, "spaces are no words"
    assert found.left == "the <del>cat</del>  sat down"
    assert found.right == "the <ins>dog</ins> sat\ndown"
    assert difference("", "").shared == 1.0
    assert difference("a " * 4000, "b").cut
    assert difference("<b>", "<i>").left == "&lt;<del>b</del>&gt;"
