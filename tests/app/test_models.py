"""The page of all models and their family tree."""

from __future__ import annotations

from functools import partial

import pages
import training_world
from streamlit.testing.v1 import AppTest

from evalkit.store import Ledger

opened = partial(pages.opened, "models")


def diagrams(page: AppTest) -> list[str]:
    return [one.value for one in page.markdown if "flowchart" in one.value]


def test_every_model_with_its_rating_score_and_parents(sample: tuple[Ledger, int]) -> None:
    training_world.fill(*sample)
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


def test_a_models_name_cannot_write_the_diagram(sample: tuple[Ledger, int]) -> None:
    ids = training_world.fill(*sample)
    with sample[0].write() as connection:
        hostile = 'x"]; click m1 "javascript:alert(1)" %%{init: {}}%% <img src=x>'
        connection.exec_driver_sql("UPDATE model SET label = ? WHERE id = ?", (hostile, ids["child"]))
    (chart,) = diagrams(opened())
    drawn = [line for line in chart.splitlines() if line.strip().startswith(f"m{ids['child']}[")]
    assert len(drawn) == 1
    assert not set('<>%{}";[]') & set(drawn[0].split('["')[1].split('"]')[0].replace("<br/>", "").replace(";", ""))


def test_without_a_family_the_models_alone(sample: tuple[Ledger, int]) -> None:
    page = opened()
    assert not diagrams(page)
    assert len(page.dataframe[0].value) == 4


def test_an_empty_ledger_says_where_models_come_from(ledger: Ledger) -> None:
    assert "evalkit run PLAN" in opened().info[0].value
