"""The retrain page: its plan, the curves of a training run, and the decision at the gate."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pages
import pytest
import sqlalchemy as sa
import streamlit as st
import training_world
from pages import said
from pydantic import ValidationError
from streamlit.testing.v1 import AppTest

from evalkit.errors import UserError
from evalkit.models.base import ModelSettings
from evalkit.store import Ledger, frames_app, frames_training
from evalkit.store.schema import Slice
from evalkit.store.write_training import decide_gate
from evalkit.store.write_training_runs import start_training_run
from evalkit.yaml_file import read_yaml
from trainers.plan import FITS, RECIPES, RetrainPlan, to_yaml

opened = partial(pages.opened, "retrain")
World = tuple[Ledger, dict[str, int]]
SIMPLE = {
    "name": "x",
    "slice": "Nested JSON",
    "base": "embedded/smollm2-135m-instruct",
    "recipe": {"sources": [{"kind": "best_of_n"}]},
}


@pytest.fixture
def world(sample: tuple[Ledger, int]) -> World:
    return sample[0], training_world.fill(*sample)


def plan_of(page: AppTest, folder: Path) -> RetrainPlan:
    """Reads the plan that the page shows, as the command would."""
    path = folder / "plan.yaml"
    path.write_text(page.code[0].value)
    return read_yaml(path, RetrainPlan, "the plan", empty="a plan is a mapping")


def test_the_form_makes_a_plan_that_can_be_read(world: World, tmp_path: Path) -> None:
    ledger, ids = world
    page = opened(slice_id=str(ids["slice"]))
    plan = plan_of(page, tmp_path)
    assert (plan.name, plan.slice, plan.method) == ("nested-json", "Nested JSON", "sft")
    assert plan.base.model == "embedded/smollm2-135m-instruct", "the model that fails is the one to train"
    assert plan.gate.by_hand
    assert [source.kind for source in plan.recipe.sources] == ["new_prompts", "contrast", "replay"]
    page.selectbox(key="recipe").select("preferences").run()
    page.number_input(key="rows").set_value(50).run()
    plan = plan_of(page, tmp_path)
    assert (plan.method, plan.recipe.rows) == ("dpo", 50)
    found = page.table[0].value
    pairs = frames_training.slice_material(ledger, ids["slice"])
    assert found["In the ledger"].iloc[0].startswith(f"{pairs['preferences']:,} verdicts")
    assert pairs["preferences"] > 0


def test_a_model_of_the_run_is_trained_as_it_was_asked(world: World, tmp_path: Path) -> None:
    """The ledger knows a folder by its content alone: where it lies, and its settings, are in the run's plan."""
    ledger, ids = world
    run_id = ledger.start_run(
        "of folders",
        {
            "models": [
                {"model": "hf/models/one", "name": "one", "sampling": {"max_tokens": 12}},
                {"model": "openai/gpt-5", "name": "far"},
            ],
            "resolved": {"models": ["0" * 64]},
        },
        seed=0,
        environment={},
    )
    with ledger.write() as connection:
        connection.execute(sa.update(Slice).where(Slice.id == ids["slice"]).values(run_id=run_id))
    page = opened(slice_id=str(ids["slice"]))
    assert page.selectbox(key="base").options == ["one"], "a model behind an endpoint cannot be trained"
    base = plan_of(page, tmp_path).base
    assert (base.model, base.name, base.sampling.max_tokens) == ("hf/models/one", "one", 12)


def test_the_new_model_has_a_name_of_its_own_and_the_plan_its_settings(world: World, tmp_path: Path) -> None:
    ledger, ids = world
    ledger.add_models([ModelSettings("hf", "x", label="nested-json")])
    page = opened(slice_id=str(ids["slice"]))
    assert plan_of(page, tmp_path).name == "nested-json-2"
    assert plan_of(page, tmp_path).settings == {}, "what is left at its default is TRL's to say"
    page.text_input(key="name-nested-json-2").set_value("mine").run()
    page.number_input(key="epochs").set_value(3.0).run()
    page.number_input(key="rate").set_value(0.001).run()
    plan = plan_of(page, tmp_path)
    assert (plan.name, plan.settings) == ("mine", {"num_train_epochs": 3.0, "learning_rate": 0.001})


def test_a_plan_is_started_as_a_job(world: World) -> None:
    ledger, ids = world
    page = opened(slice_id=str(ids["slice"]))
    page.button(key="start").click().run()
    assert not page.exception
    assert page.session_state["view"] == "Training"
    assert "waits for a worker" in said(page)
    assert "evalkit worker --store" in said(page)
    [job] = frames_app.jobs(ledger).to_dict("records")
    assert (job["kind"], job["name"], job["status"]) == ("retrain", "nested-json", "queued")
    assert job["spec"]["text"].startswith("name: nested-json\n")


def test_what_is_missing_is_said_in_a_sentence(world: World) -> None:
    page = opened()
    page.selectbox(key="recipe").select("teacher").run()
    assert "needs the model that answers" in said(page).replace("\\", "")
    page.text_input(key="teacher").set_value("openai/gpt-5").run()
    assert not page.error
    assert "openai/gpt-5" in page.code[0].value


def test_material_counts_the_training_half_alone(world: World) -> None:
    ledger, ids = world
    have = frames_training.slice_material(ledger, ids["slice"])
    row = frames_training.slices(ledger).set_index("slice_id").loc[ids["slice"]]
    assert have["items"] == row["train_items"]
    assert have["items"] + row["held_out_items"] == row["support"]
    assert 0 < have["failed"] <= have["items"]
    assert have["outcomes"] <= have["accepted"] <= have["items"] == have["checked"]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_fits_each_of_its_methods(name: str, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    more = {"teacher": {"model": "openai/x"}, "domain_text": {"path": "texts"}}
    for method in recipe.methods:
        sources = [{"kind": kind, "weight": weight, **more.get(kind, {})} for kind, weight in recipe.sources]
        plan = RetrainPlan.model_validate({**SIMPLE, "method": method, "recipe": {"sources": sources}})
        assert {kind for kind, _ in recipe.sources} <= FITS[method]
        path = tmp_path / "plan.yaml"
        path.write_text(to_yaml(plan))
        assert read_yaml(path, RetrainPlan, "the plan", empty="") == plan


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"base": "openai/gpt-5"}, "only local models can be trained"),
        ({"method": "dpo"}, "cannot train on 'best_of_n'"),
        ({"recipe": {"sources": [{"kind": "teacher"}]}}, "needs the model that answers"),
        ({"recipe": {"sources": []}}, "at least 1 item"),
        ({"gate": {"margin": 2}}, "less than 1"),
        ({"sliec": "x"}, "Extra inputs"),
    ],
)
def test_a_wrong_plan_says_what_is_wrong(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        RetrainPlan.model_validate({**SIMPLE, **change})


def test_a_training_that_starts_is_shown_by_itself(world: World) -> None:
    ledger, _ = world
    page = opened(view="Training")
    assert page.selectbox(key="run").value == 1
    start_training_run(ledger, parent_id=1, training_set_id=1, method="sft", config={"seed": 2}, checkpoint="x")
    st.cache_data.clear()
    page.run()
    assert page.selectbox(key="run").value == 2
    assert "The first points come with the first steps." in said(page)


def test_curves_of_a_training_run(world: World) -> None:
    page = opened(view="Training")
    shown = {metric.label: metric.value for metric in page.metric}
    assert shown["Step"] == "60 of 60"
    assert shown["Status"] == "done"
    assert float(shown["Loss"]) == pytest.approx(0.415, abs=0.001)
    assert len(page.get("vega_lite_chart")) == 3, "loss with validation loss, gradient norm, reward"


def test_a_person_decides_once_and_says_why(world: World) -> None:
    ledger, ids = world
    page = opened(view="Gate")
    assert "Knowledge fell by more than its margin" in said(page)
    assert page.dataframe[0].value["outcome"].tolist() == ["passed", "passed", "failed", "passed"]
    yes = page.button(key=f"yes-{ids['gate']}")
    yes.click().run()
    assert "write why" in said(page)
    page.text_input(key=f"why-{ids['gate']}").set_value("The gain is worth it.")
    page.button(key=f"yes-{ids['gate']}").click().run()
    row = frames_training.gates(ledger).set_index("gate_id").loc[ids["gate"]]
    assert row["decision"] == "accepted"
    assert row["evidence"]["decided"]["why"] == "The gain is worth it."
    assert row["evidence"]["decided"]["by"] == "local"
    assert len(row["evidence"]["tests"]) == 4, "the evidence stays"
    with pytest.raises(UserError, match="accepted already by local"):
        decide_gate(ledger, ids["gate"], "refused", by="somebody", why="no")
    with pytest.raises(UserError, match="there is no gate 99"):
        decide_gate(ledger, 99, "refused", by="somebody", why="no")


def test_an_empty_ledger_says_what_is_missing(ledger: Ledger) -> None:
    for view, words in (("Plan", "failure slice"), ("Training", "appear here"), ("Gate", "are compared here")):
        assert words in said(opened(view=view))
