"""The page of failure slices, on made rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason="no Streamlit: pip install 'evalkit[app]'")

import sample_ledger
import streamlit as st
import training_world
from streamlit.testing.v1 import AppTest

from evalkit.store import Ledger, frames_training

PAGE = str(Path(__file__).parents[2] / "app" / "app_pages" / "slices.py")
World = tuple[Ledger, int, dict[str, int]]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    path = tmp_path / "ledger.db"
    monkeypatch.setenv("EVALKIT_STORE", str(path))
    monkeypatch.delenv("EVALKIT_TEAM", raising=False)
    st.cache_resource.clear()
    st.cache_data.clear()
    ledger, run_id = sample_ledger.make(path, items=20)
    yield ledger, run_id, training_world.fill(ledger, run_id, mark=True)
    st.cache_resource.clear()
    st.cache_data.clear()
    ledger.close()


def opened(**query: str) -> AppTest:
    page = AppTest.from_file(PAGE, default_timeout=60)
    for name, value in query.items():
        page.query_params[name] = value
    page.run()
    assert not page.exception
    return page


def text(page: AppTest) -> str:
    return "\n".join(str(one.value) for one in [*page.markdown, *page.caption, *page.info, *page.subheader])


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
    assert training_world.HELD_OUT not in text(page)
    assert "Give" in text(page), "examples of the other half are shown"
    answers = frames_training.slice_answers(ledger, ids["slice"], limit=None)
    assert len(answers) == len(set(answers["item_id"])) > 1
    assert training_world.HELD_OUT not in set(answers["prompt"])
    graded = answers["grade"].dropna()
    assert graded.is_monotonic_increasing, "failed answers come first"


def test_a_models_hostile_answer_is_shown_as_text(world: World) -> None:
    ledger, _, _ = world
    with ledger.write() as connection:
        connection.exec_driver_sql("UPDATE response SET text = '<script>alert(1)</script> ![x](http://e.org/x.png)'")
    said = text(opened())
    assert "<script>" not in said.replace("\\<script\\>", "")
    assert "](http" not in said


def test_without_slices_the_tags_are_counted(world: World) -> None:
    ledger, run_id, _ = world
    with ledger.write() as connection:
        for table in ("training_row", "curve_point", "training_run", "training_set", "slice_item", "slice"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    page = opened()
    assert "Nobody has searched this ledger for slices" in text(page)
    table = page.dataframe[0].value
    assert (table["effect"] > 0).all()
    assert "slices were looked at" in text(page)
    assert page.selectbox(key="run").value == run_id


def test_an_empty_ledger_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "empty.db")
    Ledger.open(path).close()
    monkeypatch.setenv("EVALKIT_STORE", path)
    st.cache_resource.clear()
    st.cache_data.clear()
    assert "evalkit run PLAN" in text(opened())
    st.cache_resource.clear()
