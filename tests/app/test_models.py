"""The page of all models and their family tree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason="no Streamlit: pip install 'evalkit[app]'")

import sample_ledger
import streamlit as st
import training_world
from streamlit.testing.v1 import AppTest

from evalkit.store import Ledger

PAGE = str(Path(__file__).parents[2] / "app" / "app_pages" / "models.py")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("EVALKIT_STORE", str(tmp_path / "ledger.db"))
    monkeypatch.delenv("EVALKIT_TEAM", raising=False)
    st.cache_resource.clear()
    st.cache_data.clear()
    yield tmp_path / "ledger.db"
    st.cache_resource.clear()
    st.cache_data.clear()


def opened() -> AppTest:
    page = AppTest.from_file(PAGE, default_timeout=60).run()
    assert not page.exception
    return page


def diagrams(page: AppTest) -> list[str]:
    return [one.value for one in page.markdown if "flowchart" in one.value]


def test_every_model_with_its_rating_score_and_parents(path: Path) -> None:
    ledger, run_id = sample_ledger.make(path, items=20)
    training_world.fill(ledger, run_id)
    page = opened()
    table = page.dataframe[0].value.set_index("model")
    assert table.loc["smollm2-json", "made"] == "trained from smollm2"
    assert table.loc["smollm2-json-merged", "made"] == "merged from smollm2, smollm2-json"
    assert table.loc["smollm2-json", "gate"] == "refused"
    best = table.iloc[0]
    assert best.name == "gpt-4-recorded"
    assert best["lower"] < best["rating"] < best["upper"]
    assert best["score_lower"] < best["score"] < best["score_upper"]
    assert table["rating"].isna().sum() == 2, "what was never in a battle has no rating"
    (chart,) = diagrams(page)
    assert "m1 -->|" in chart
    assert "smollm2-json-merged" in chart
    ledger.close()


def test_a_models_name_cannot_write_the_diagram(path: Path) -> None:
    ledger, run_id = sample_ledger.make(path, items=20)
    ids = training_world.fill(ledger, run_id)
    with ledger.write() as connection:
        hostile = 'x"]; click m1 "javascript:alert(1)" %%{init: {}}%% <img src=x>'
        connection.exec_driver_sql("UPDATE model SET label = ? WHERE id = ?", (hostile, ids["child"]))
    (chart,) = diagrams(opened())
    drawn = [line for line in chart.splitlines() if line.strip().startswith(f"m{ids['child']}[")]
    assert len(drawn) == 1
    assert not set('<>%{}";[]') & set(drawn[0].split('["')[1].split('"]')[0].replace("<br/>", "").replace(";", ""))
    ledger.close()


def test_without_a_family_the_models_alone(path: Path) -> None:
    ledger, _ = sample_ledger.make(path, items=20)
    page = opened()
    assert not diagrams(page)
    assert len(page.dataframe[0].value) == 4
    ledger.close()


def test_an_empty_ledger_says_where_models_come_from(path: Path) -> None:
    Ledger.open(str(path)).close()
    assert "evalkit run PLAN" in opened().info[0].value
