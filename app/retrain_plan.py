"""The form of a retrain plan: what it asks, what it would train on, and the plan as a file or a job."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st
from pydantic import ValidationError

from app import access, reads, tables
from app import reads_training as training
from evalkit.errors import UserError
from evalkit.jobs import queue
from trainers.plan import METHODS, RECIPES, SOURCES, Adapter, Recipe, RetrainPlan, to_yaml

ADAPTERS: dict[Adapter, str] = {"lora": "LoRA", "qlora": "QLoRA (4-bit)", "full": "All weights"}
FAULT = "retrain-fault"


def make_plan() -> None:
    """The form of a retrain plan, and what it would train on."""
    found = training.slices()
    if found.empty:
        st.info(
            "A plan starts from a failure slice, and nobody has searched this ledger for slices.",
            icon=":material/filter_alt:",
            title="No slice to retrain on yet",
        )
        return
    rows = {row["slice_id"]: row for row in found.to_dict("records")}
    left, right = st.columns(2, gap="large")
    with left:
        slice_id = st.selectbox(
            "Slice",
            list(rows),
            format_func=lambda key: f"{rows[key]['slice']} · {rows[key]['model']}" if key in rows else str(key),
            key="slice_id",  # not the name that the page of slices uses: that one is bound there
            bind="query-params",
        )
        row = rows[slice_id]
        recipe_name = st.selectbox(
            "Recipe", list(RECIPES), format_func=lambda key: RECIPES[key].title, key="recipe", bind="query-params"
        )
        recipe = RECIPES[recipe_name]
        st.caption(recipe.said)
        given = ask(row, recipe_name)
    with right:
        material(slice_id, recipe_name, given["rows"])
    try:
        plan = planned(row, recipe, given, unique=list(found["slice"]).count(row["slice"]) == 1)
    except ValidationError as error:
        for fault in error.errors():
            st.error(tables.plain(fault["msg"].removeprefix("Value error, ")), icon=":material/error:")
        return
    offer(plan)


def ask(row: Mapping[Any, Any], recipe_name: str) -> dict[str, Any]:
    """The fields of the plan that follow from no other choice."""
    recipe = RECIPES[recipe_name]
    bases, own = training.bases(int(row["run_id"]), row["model_id"])
    given: dict[str, Any] = {}
    chosen = st.selectbox(
        "Base model",
        list(bases),
        index=list(bases).index(own) if own in bases else 0 if bases else None,
        accept_new_options=True,
        placeholder="embedded/NAME or hf/NAME",
        help="The model to train: one of the slice's run, or embedded/NAME, or hf/ and a hub id or folder. Models "
        "behind an endpoint cannot be trained.",
        key="base",
    )
    given["base"] = bases.get(chosen or "", chosen or "")
    usual = usual_name(row["slice"])
    given["name"] = st.text_input("Name of the new model", usual, key=f"name-{usual}", help="What boards call it")
    if recipe_name == "teacher":
        given["teacher"] = st.text_input(
            "Teacher", placeholder="openai/NAME", key="teacher", help="PROVIDER/NAME of the model that answers"
        )
    if recipe_name == "domain_text":
        given["path"] = st.text_input("Folder of the text", placeholder="texts/", key="path")
    given["method"] = st.selectbox(
        "Method", recipe.methods, format_func=lambda key: METHODS[key], key=f"method-{recipe_name}"
    )
    first, second = st.columns(2)
    with first:
        given["rows"] = st.number_input("Rows, at most", 10, 100_000, 400, 50, key="rows")
        given["epochs"] = st.number_input("Passes over the rows", 0.1, 1000.0, 1.0, 1.0, "%g", key="epochs")
    with second:
        given["adapter"] = st.selectbox(
            "Weights",
            list(ADAPTERS),
            format_func=lambda key: ADAPTERS[key],
            key="adapter",
            help="LoRA trains small weights beside the model's own",
        )
        given["minutes"] = st.number_input("Minutes, at most", 1, 10_000, 60, 15, key="minutes",
                                           help="Of training; what is learned by then is kept")  # fmt: skip
    with st.expander("More settings", icon=":material/tune:"):
        more(given)
    given["by_hand"] = st.toggle(
        "A person decides", value=True, key="by-hand", help="The gate gathers its evidence and waits for your decision."
    )
    return given


def more(given: dict[str, Any]) -> None:
    """Fields whose usual values are mostly right."""
    first, second = st.columns(2)
    with second:
        given["trials"] = st.number_input(
            "Settings to try", 1, 100, 1, key="trials",
            help="1 takes those given; more are compared on a validation split",
        )  # fmt: skip
    with first:
        given["rate"] = st.number_input(
            "Learning rate", 1e-7, 1.0, None, format="%g", key="rate", placeholder="by method and weights"
        )
        given["margin"] = st.number_input(
            "Margin of the gate", 0.0, 0.5, 0.03, 0.01, key="margin",
            help="Nothing else may fall by more than this share of the answers",
        )  # fmt: skip


def usual_name(slice_name: str) -> str:
    """Returns what a model is called that was trained for a slice: no two have one name."""
    bare = "-".join("".join(c if c.isalnum() else " " for c in slice_name).lower().split())[:40] or "retrain"
    taken = set(training.models()["label"].dropna())
    return next(name for n in range(1, len(taken) + 2) if (name := bare if n == 1 else f"{bare}-{n}") not in taken)


def planned(row: Mapping[Any, Any], recipe: Recipe, given: dict[str, Any], *, unique: bool) -> RetrainPlan:
    """Returns the plan that the form describes.

    Raises:
        ValidationError: A field is missing or wrong.
    """
    more = {"teacher": {"model": given.get("teacher") or None}, "domain_text": {"path": given.get("path") or None}}
    store = os.environ["EVALKIT_STORE"]
    settings = {"num_train_epochs": given["epochs"], "learning_rate": given["rate"]}
    return RetrainPlan.model_validate(
        {
            "name": given["name"].strip() or usual_name(row["slice"]),
            "store": store if "://" not in store else reads.ledger().url,  # without its password
            "slice": row["slice"] if unique else row["slice_id"],
            "base": given["base"],
            "recipe": {
                "sources": [{"kind": kind, "weight": weight, **more.get(kind, {})} for kind, weight in recipe.sources],
                "rows": given["rows"],
            },
            "method": given["method"],
            "adapter": given["adapter"],
            "settings": {key: value for key, value in settings.items() if value not in (None, 1)},
            "budget": {"minutes": given["minutes"], "trials": given["trials"]},
            "gate": {"margin": given["margin"], "by_hand": given["by_hand"]},
        }
    )


def material(slice_id: int, recipe_name: str, n: int) -> None:
    """What the ledger holds for the recipe, and what it would still have to make."""
    st.subheader("What it would train on", anchor=False)
    have = training.slice_material(slice_id)
    st.caption(
        f"{have['items']:,} prompts of the training half, {have['failed']:,} failed answers to them. The held-out half "
        "stays untouched."
    )
    known = {
        "best_of_n": f"{have['checked']:,} prompts with a check; answers are drawn when the job runs",
        "teacher": f"{have['accepted']:,} prompts with an accepted answer already, of {have['checked']:,} with a check",
        "new_prompts": f"templates for {have['templates']:,} of {have['items']:,} prompts; made when the job runs",
        "preferences": f"{have['preferences']:,} verdicts with a winner",
        "outcomes": f"{have['outcomes']:,} prompts with an answer that passes and one that fails",
        "prompts": f"{have['checked']:,} prompts with a check",
        "domain_text": "the text you name",
        "replay": "made when the job runs",
        "contrast": "made when the job runs",
    }
    sources = RECIPES[recipe_name].sources
    whole = sum(weight for _, weight in sources)
    rows = [(SOURCES[kind], f"{n * weight / whole:,.0f}", known[kind]) for kind, weight in sources]
    st.table(pd.DataFrame(rows, columns=["What", "Rows", "In the ledger"]), hide_index=True, alt="Sources of the rows")
    st.caption("Rows at most: what fails its check, says the same twice or touches an evaluated prompt is left out.")
    usable = max(have[key] for key in ("accepted", "checked", "preferences", "outcomes"))
    if recipe_name == "new_prompts" and not have["templates"]:
        st.warning("No template makes prompts like these; take another recipe.", icon=":material/warning:")
    elif recipe_name != "domain_text" and not usable:
        st.warning("These prompts carry no check, reference or verdict to train by.", icon=":material/warning:")


def offer(plan: RetrainPlan) -> None:
    """The plan as a file, and as a job where jobs of its kind can be run."""
    text = to_yaml(plan)
    with st.expander("The plan as a file", icon=":material/description:"):
        st.code(text, language="yaml")
    may = access.current().may("admin")
    with st.container(horizontal=True):
        if may:
            st.button("Start", type="primary", icon=":material/play_arrow:", key="start", on_click=start,
                      args=(text, plan.name))  # fmt: skip
        st.download_button(
            "Download plan",
            text,
            f"{plan.name}.yaml",
            "application/yaml",
            icon=":material/download:",
            on_click="ignore",
            key="get-plan",
        )
    fault = st.session_state.pop(FAULT, None)
    if fault:
        st.error(tables.plain(fault), icon=":material/error:")
    if not may:
        st.caption("A job runs on this machine with its keys, so that only admins start one.")


def start(text: str, name: str) -> None:
    """Queues the plan, and turns to where its training will be seen."""
    try:
        queue.submit(os.environ["EVALKIT_STORE"], "retrain", {"text": text}, name)
    except UserError as error:
        st.session_state[FAULT] = str(error)
        return
    training.open_jobs.clear()
    st.session_state["view"] = "Training"
