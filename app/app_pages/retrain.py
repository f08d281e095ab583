"""From a failing slice to a better model: the plan, the training as it goes, and the gate's evidence."""

import os
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st
from pydantic import ValidationError

from app import access, answers, ballots, charts, reads, tables
from app import reads_training as training
from evalkit.errors import UserError
from evalkit.jobs import queue
from evalkit.jobs.tasks import KINDS
from evalkit.store.write_training import WAITING, decide_gate
from trainers.plan import METHODS, RECIPES, SOURCES, TRAINABLE, Adapter, Recipe, RetrainPlan, to_yaml

ADAPTERS: dict[Adapter, str] = {"lora": "LoRA", "qlora": "QLoRA (4-bit)", "full": "All weights"}
LIVE_SECONDS = 2.0
RUNNING = "running"
DECISIONS = {"accepted": ":green-badge[accepted]", "refused": ":red-badge[refused]", WAITING: ":orange-badge[waiting]"}
CURVES = {"loss": "Loss", "grad_norm": "Gradient norm", "reward": "Reward", "kl": "Distance from the parent (KL)"}
number = st.column_config.NumberColumn

st.title("Retrain")
st.caption("From a failing slice to a new model, which must pass the gate before it replaces its parent.")


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
        material(slice_id, recipe_name)
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
    models = training.models()
    local = models[models["provider"].isin(TRAINABLE)]
    bases = list(dict.fromkeys(f"{one['provider']}/{one['name']}" for one in local.to_dict("records")))
    own = local.loc[local["model_id"] == row["model_id"]]
    usual = f"{own['provider'].iloc[0]}/{own['name'].iloc[0]}" if len(own) else None
    given: dict[str, Any] = {}
    given["base"] = st.selectbox(
        "Base model",
        bases,
        index=bases.index(usual) if usual in bases else 0 if bases else None,
        accept_new_options=True,
        placeholder="embedded/NAME or hf/NAME",
        help="The model to train: embedded/NAME, or hf/ and a hub id or folder. Models behind an endpoint cannot be.",
        key="base",
    )
    if recipe_name == "teacher":
        given["teacher"] = st.text_input(
            "Teacher", placeholder="openai/NAME", key="teacher", help="PROVIDER/NAME of the model that answers"
        )
    if recipe_name == "domain_text":
        given["path"] = st.text_input("Folder of the text", placeholder="texts/", key="path")
    first, second = st.columns([3, 2])
    with first:
        given["method"] = st.selectbox(
            "Method", recipe.methods, format_func=lambda key: METHODS[key], key=f"method-{recipe_name}"
        )
        given["rows"] = st.number_input("Rows to train on, at most", 10, 100_000, 400, 50, key="rows")
        given["margin"] = st.number_input(
            "Margin of the gate",
            0.0,
            0.5,
            0.03,
            0.01,
            key="margin",
            help="Nothing else may fall by more than this share",
        )
    with second:
        given["adapter"] = st.selectbox(
            "Weights",
            list(ADAPTERS),
            format_func=lambda key: ADAPTERS[key],
            key="adapter",
            help="LoRA trains small weights beside the model's own",
        )
        given["minutes"] = st.number_input("Budget in minutes", 1, 10_000, 60, 15, key="minutes")
        given["trials"] = st.number_input(
            "Settings to try",
            1,
            100,
            1,
            key="trials",
            help="1 takes TRL's own; more are compared on a validation split",
        )
    given["by_hand"] = st.toggle(
        "A person decides", value=True, key="by-hand", help="The gate gathers its evidence and waits for your decision."
    )
    return given


def planned(row: Mapping[Any, Any], recipe: Recipe, given: dict[str, Any], *, unique: bool) -> RetrainPlan:
    """Returns the plan that the form describes.

    Raises:
        ValidationError: A field is missing or wrong.
    """
    more = {"teacher": {"model": given.get("teacher") or None}, "domain_text": {"path": given.get("path") or None}}
    store = os.environ["EVALKIT_STORE"]
    name = "-".join("".join(c if c.isalnum() else " " for c in row["slice"]).lower().split()) or "retrain"
    return RetrainPlan.model_validate(
        {
            "name": name,
            "store": store if "://" not in store else reads.ledger().url,  # without its password
            "slice": row["slice"] if unique else row["slice_id"],
            "base": given["base"] or "",
            "recipe": {
                "sources": [{"kind": kind, "weight": weight, **more.get(kind, {})} for kind, weight in recipe.sources],
                "rows": given["rows"],
            },
            "method": given["method"],
            "adapter": given["adapter"],
            "budget": {"minutes": given["minutes"], "trials": given["trials"]},
            "gate": {"margin": given["margin"], "by_hand": given["by_hand"]},
        }
    )


def material(slice_id: int, recipe_name: str) -> None:
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
        "new_prompts": "made when the job runs",
        "preferences": f"{have['preferences']:,} verdicts with a winner",
        "outcomes": f"{have['outcomes']:,} prompts with an answer that passes and one that fails",
        "prompts": f"{have['checked']:,} prompts with a check",
        "domain_text": "the text you name",
        "replay": "made when the job runs",
        "contrast": "made when the job runs",
    }
    sources = RECIPES[recipe_name].sources
    whole = sum(weight for _, weight in sources)
    rows = [(SOURCES[kind], f"{weight / whole:.0%}", known[kind]) for kind, weight in sources]
    st.table(pd.DataFrame(rows, columns=["Rows", "Share", "In the ledger"]), hide_index=True, alt="Sources of the rows")
    usable = max((have[key] for key in ("accepted", "checked", "preferences", "outcomes")), default=0)
    if recipe_name != "domain_text" and not usable:
        st.warning("These prompts carry no check, reference or verdict to train by.", icon=":material/warning:")


def offer(plan: RetrainPlan) -> None:
    """The plan as a file, and as a job where jobs of its kind can be run."""
    text = to_yaml(plan)
    with st.expander("The plan as a file", icon=":material/description:"):
        st.code(text, language="yaml")
    with st.container(horizontal=True):
        if "retrain" in KINDS and st.button("Start", type="primary", icon=":material/play_arrow:", key="start"):
            try:
                job = queue.submit(os.environ["EVALKIT_STORE"], "retrain", {"text": text}, plan.name)
            except UserError as error:
                st.error(tables.plain(error), icon=":material/error:")
            else:
                st.success(f"Job {job} waits for a worker; the Jobs page shows its log.", icon=":material/check:")
        st.download_button(
            "Download plan",
            text,
            f"{plan.name}.yaml",
            "application/yaml",
            icon=":material/download:",
            on_click="ignore",
            key="get-plan",
        )
    if "retrain" not in KINDS:
        st.caption("This installation has no trainers, so the plan cannot be started here.")


def runs() -> None:
    """Training runs: the curves of one of them, live while it runs."""
    found = training.training_runs()
    if found.empty:
        st.info("Its loss, validation loss and gradient norm appear here while it runs.", icon=":material/timeline:",
                title="No model has been trained yet")  # fmt: skip
        return
    names = {
        row["training_run_id"]: f"{row['training_run_id']} · {row['method']} of {row['parent']}, {row['status']}"
        for row in found.to_dict("records")
    }
    chosen = st.selectbox(
        "Training run", list(names), format_func=lambda key: names.get(key, str(key)), key="run", bind="query-params"
    )
    if chosen not in names:
        return
    row = training.training_run(chosen)
    st.fragment(curves, run_every=LIVE_SECONDS if row.get("status") == RUNNING else None)(chosen)
    if not pd.isna(row["training_set_id"]):
        with st.expander(
            "Rows it was trained on", icon=":material/dataset:", on_change="rerun", key="rows-shown"
        ) as box:
            if box.open:
                rows = training.training_rows(int(row["training_set_id"]))
                st.dataframe(rows.astype({"provenance": str, "content": str}), hide_index=True, alt="Training rows")
                st.caption(f"The first {len(rows):,} of {int(row['rows']):,} rows.")
    listed = found.astype({"config": str})
    with st.expander("All training runs", icon=":material/table:"):
        order = ["training_run_id", "method", "status", "parent", "model", "training_set", "rows", "created_at"]
        st.dataframe(listed, hide_index=True, column_order=order, alt="Training runs")
        tables.download(listed, "training runs", key="get-runs")


def curves(training_run_id: int) -> None:
    """One run's state and curves."""
    row, points = training.training_run(training_run_id), training.curve_points(training_run_id)
    latest = {metric: part.iloc[-1] for metric, part in points.dropna(subset=["value"]).groupby("metric")}
    with st.container(horizontal=True):
        total = row["config"].get("max_steps")
        step = int(points["step"].max()) if len(points) else 0
        st.metric("Step", f"{step:,}" + (f" of {total:,}" if isinstance(total, int) and total > 0 else ""))
        for metric, label in (("loss", "Loss"), ("eval_loss", "Validation loss"), ("grad_norm", "Gradient norm")):
            if metric in latest:
                st.metric(label, f"{latest[metric]['value']:.3g}")
        st.metric("Status", row["status"])
    if row["message"]:
        st.caption(answers.one_line(row["message"]))
    if row["status"] == RUNNING and isinstance(total, int) and total > 0:
        st.progress(min(step / total, 1.0), f"Step {step:,} of {total:,}")
    if points.empty:
        st.info("No curve has been stored yet.", icon=":material/timeline:")
        return
    both = points[points["metric"].isin(["loss", "eval_loss"])].copy()
    both = both.sort_values("metric", key=lambda column: column != "loss", kind="stable")  # its colour first
    both["line"] = both["metric"].map({"loss": "training", "eval_loss": "validation"})
    others = [m for m in dict.fromkeys(points["metric"]) if m not in ("loss", "eval_loss")]
    drawn: list[tuple[pd.DataFrame, str, str | None]] = [(both, CURVES["loss"], "line")] if len(both) else []
    drawn += [(points[points["metric"] == m], CURVES.get(m, m.replace("_", " ").capitalize()), None) for m in others]
    grid = st.columns(2, gap="medium")
    for place, (frame, title, series) in enumerate(drawn):
        with grid[place % 2]:
            lowest = float(frame["value"].min())
            charts.show(
                charts.curve(
                    frame, "step", "value", title=title, x_title="step", y_title=title.lower(), series=series,
                    description=f"{title} over {len(frame)} steps, lowest {lowest:.3g}",
                )
            )  # fmt: skip
    tables.download(points, f"curves of training run {training_run_id}", key="get-curves")


def decisions() -> None:
    """The gate: parent and candidate side by side, and the decision where a person must make it."""
    found = training.gates()
    if found.empty:
        st.info("A retrained model and its parent are compared here.", icon=":material/rule:",
                title="No model has come to the gate yet")  # fmt: skip
        return
    waiting_first = found.sort_values("decision", key=lambda column: column != WAITING, kind="stable")
    names = {
        row["gate_id"]: f"{row['candidate']} against {row['parent']}: {row['decision']}"
        for row in waiting_first.to_dict("records")
    }
    chosen = st.selectbox(
        "Comparison", list(names), format_func=lambda key: names.get(key, str(key)), key="gate", bind="query-params"
    )
    if chosen not in names:
        return
    row = found[found["gate_id"] == chosen].iloc[0]
    evidence = row["evidence"]
    parent, child = answers.one_line(row["parent"]), answers.one_line(row["candidate"])
    st.markdown(f"**{child}** against its parent **{parent}** {DECISIONS.get(row['decision'], '')}")
    if evidence.get("reason"):
        st.markdown(answers.one_line(evidence["reason"]))
    if evidence.get("advice"):
        st.caption(f"What to do next: {answers.one_line(evidence['advice'])}")
    tests = pd.DataFrame(evidence.get("tests") or [])
    if tests.empty:
        st.info("This gate has stored no test.", icon=":material/info:")
    else:
        show_tests(tests)
    done = evidence.get("decided")
    if done:
        st.caption(
            answers.one_line(
                f"Decided by {done.get('by', 'somebody')}, {done.get('at', '')[:16]}: {done.get('why', '')}"
            )
        )
    if row["decision"] == WAITING:
        decide(int(row["gate_id"]), row["candidate"])


def show_tests(tests: pd.DataFrame) -> None:
    """Before and after on each test."""
    for name in ("name", "kind", "metric", "n", "parent", "candidate", "difference", "lower", "upper", "margin",
                 "p_value", "passed", "minimum_effect"):  # fmt: skip
        if name not in tests:
            tests[name] = None
    values = ["n", "parent", "candidate", "difference", "lower", "upper", "margin", "p_value", "minimum_effect"]
    tests = tests.astype(dict.fromkeys(values, float))
    tests["kind"] = tests["kind"].astype(str).str.replace("_", " ")
    tests["outcome"] = tests["passed"].map({True: "passed", False: "failed"}).fillna("not decided")
    tests["test"] = tests["name"].astype(str) + " (" + tests["outcome"] + ")"
    failed = int((tests["outcome"] == "failed").sum())
    charts.show(
        charts.interval_chart(
            tests, "test", "difference", "lower", "upper", title="What changed, candidate less parent",
            value_title="difference", value_format="+.2f", reference=0.0, tooltip=["kind", "margin", "n"],
            description=f"Differences of {len(tests)} tests, {failed} of them failed",
        )
    )  # fmt: skip
    order = ["name", "kind", "parent", "candidate", "difference", "lower", "upper", "margin", "n", "minimum_effect",
             "outcome"]  # fmt: skip
    st.dataframe(
        tests,
        hide_index=True,
        column_order=order,
        column_config={
            "name": "Test",
            "kind": "Kind",
            "parent": number("Before", format="%.3f"),
            "candidate": number("After", format="%.3f"),
            "difference": number("Difference", format="%+.3f"),
            "lower": number("From", format="%+.3f"),
            "upper": number("To", format="%+.3f"),
            "margin": number("Margin", format="%.3f", help="A fall of more than this fails"),
            "n": number("n", format="%d", help="Pairs of answers"),
            "minimum_effect": number("Smallest effect", format="%.3f", help="That this many answers could have shown"),
            "outcome": "Outcome",
        },
        placeholder="",
        alt="The gate's tests, before and after",
    )
    tables.download(tests[order], "gate", key="get-gate")
    st.caption(
        "Bars are 95% intervals. An improvement must lie above zero; everything else may not fall by more than its "
        "margin. A test without the smallest effect could not have seen a small change."
    )


def decide(gate_id: int, candidate: str) -> None:
    """Approve or reject, with a reason that is stored."""
    visitor = access.current()
    with st.form(f"decide-{gate_id}", border=True):
        st.markdown(f"**Your decision on {answers.one_line(candidate)}**")
        why = st.text_input("Why", key=f"why-{gate_id}", placeholder="Stored with the decision, with your name")
        with st.container(horizontal=True):
            yes = st.form_submit_button("Approve", type="primary", icon=":material/check:", key=f"yes-{gate_id}")
            no = st.form_submit_button("Reject", icon=":material/close:", key=f"no-{gate_id}")
    if not (yes or no):
        return
    try:
        decide_gate(ballots.people().ledger, gate_id, "accepted" if yes else "refused", by=visitor.member.name, why=why)
    except UserError as error:
        st.error(tables.plain(error), icon=":material/error:")
        return
    training.gates.clear()
    st.rerun()


views = {"Plan": make_plan, "Training": runs, "Gate": decisions}
for tab, view in zip(
    st.tabs(list(views), key="view", on_change="rerun", bind="query-params"), views.values(), strict=True
):
    if tab.open:
        with tab:
            view()
