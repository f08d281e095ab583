"""From a failing slice to a better model: the plan, the training as it goes, and the gate's evidence."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app import answers, charts, tables
from app import reads_training as training
from app.retrain_gate import decisions
from app.retrain_plan import make_plan
from evalkit.jobs import queue

LIVE_SECONDS = 2.0
RUNNING = "running"
CURVES = {
    "loss": "Loss",
    "grad_norm": "Gradient norm",
    "reward": "Reward",
    "kl": "Distance from the parent (KL)",
    "margin": "Margin of chosen over rejected",
    "accuracy": "Chosen above rejected",
}
HOW_FAR = re.compile(r"step (\d+) of (\d+)")

st.title("Retrain")
st.caption("From a failing slice to a new model, which must pass the gate before it replaces its parent.")


def runs() -> None:
    """Training runs: the curves of one of them, live while it runs."""
    found = training.training_runs()
    if found.empty:
        st.info("Its loss, validation loss and gradient norm appear here while it runs.", icon=":material/timeline:",
                title="No model has been trained yet")  # fmt: skip
        return
    names = {
        row["training_run_id"]: f"{row['training_run_id']} · {row['model'] or row['training_set'] or 'a new model'}: "
        f"{row['method'].upper()} of {row['parent']}"
        for row in found.to_dict("records")
    }
    tables.follow("run", list(names))
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
    running = row["status"] == RUNNING
    told = HOW_FAR.search(row["message"]) if running else None
    step = int(points["step"].max()) if len(points) else 0
    total = int(told[2]) if told else row["config"].get("max_steps") or 0
    with st.container(horizontal=True):
        st.metric("Step", f"{step:,}" + (f" of {total:,}" if total > 0 else ""))
        for metric, label in (("loss", "Loss"), ("eval_loss", "Validation loss"), ("grad_norm", "Gradient norm")):
            if metric in latest:
                st.metric(label, f"{latest[metric]['value']:.3g}")
        st.metric("Status", row["status"])
    if told:
        st.progress(min(step / total, 1.0), answers.one_line(row["message"]))
    elif row["message"]:
        st.caption(answers.one_line(row["message"]))
    if points.empty:
        said = "The first points come with the first steps." if running else "No curve was stored."
        st.info(said, icon=":material/timeline:")
        return
    points["line"] = points["metric"].str.startswith("eval_").map({True: "validation", False: "training"})
    points["metric"] = points["metric"].str.removeprefix("eval_")
    metrics = dict.fromkeys([*CURVES, *points["metric"]])
    drawn = [name for name in metrics if (points["metric"] == name).any()]
    show_curves(points, [name for name in drawn if name in CURVES])
    with st.expander("More curves", icon=":material/ssid_chart:", on_change="rerun", key="more-curves") as more:
        if more.open:
            show_curves(points, [name for name in drawn if name not in CURVES])
    tables.download(points, f"curves of training run {training_run_id}", key="get-curves")


def show_curves(points: pd.DataFrame, metrics: Sequence[str]) -> None:
    """Curves, two in a row: of training and of validation, where there are both."""
    grid = st.columns(2, gap="medium")
    for place, metric in enumerate(metrics):
        # The training's colour first.
        frame = points[points["metric"] == metric].sort_values(["line", "step"])
        title = CURVES.get(metric, metric.replace("_", " ").replace("/", ", ").capitalize())
        lowest = float(frame["value"].min())
        with grid[place % 2]:
            charts.show(
                charts.curve(
                    frame, "step", "value", title=title, x_title="step", y_title=title.lower(),
                    series="line" if frame["line"].nunique() > 1 else None,
                    description=f"{title} over {frame['step'].nunique()} steps, lowest {lowest:.3g}",
                )
            )  # fmt: skip


def state() -> tuple[object, ...]:
    """What the page must be drawn anew for: jobs, trainings and gates that came or ended."""
    return (
        tuple(training.open_jobs()[["job_id", "status"]].itertuples(index=False, name=None)),
        tuple(training.training_runs()[["training_run_id", "status"]].itertuples(index=False, name=None)),
        tuple(training.gates()[["gate_id", "decision"]].itertuples(index=False, name=None)),
    )


def at_work(drawn: tuple[object, ...]) -> None:
    """The jobs that retrain just now, in a line each."""
    if state() != drawn:
        st.rerun()
    waiting = training.open_jobs()
    for row in waiting.sort_values("job_id").to_dict("records"):
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{answers.one_line(row['name'])}** :gray[{how_far(row)}]", width="stretch")
            tables.link("jobs", "Its log", ":material/terminal:", job=str(row["job_id"]))
    if len(waiting) and queue.has_worker(os.environ["EVALKIT_STORE"]) is False:
        st.warning(
            f"Type: `evalkit worker --store {tables.plain(os.environ['EVALKIT_STORE'])}`",
            title="No worker runs, so the job waits",
            icon=":material/warning:",
        )


def how_far(row: Mapping[Any, Any]) -> str:
    """What a job does just now, in words."""
    if row["status"] != RUNNING:
        return f"job {row['job_id']}, waits for a worker"
    runs = training.training_runs()
    trains = runs.loc[runs["status"] == RUNNING, "message"]
    if len(trains):
        return f"job {row['job_id']}, trains: {tables.plain(trains.iloc[0] or 'the first step')}"
    if pd.isna(row["total"]):
        return f"job {row['job_id']}, starts"
    if (runs["finished_at"] >= str(row["started_at"])).any() and not row["message"]:
        return f"job {row['job_id']}, has trained; both models are asked next"
    what = f"evaluates: {tables.plain(row['message'])}" if row["message"] else "makes the training set"
    return f"job {row['job_id']}, {what}, {int(row['progress']):,} of {int(row['total']):,} requests"


now = state()
busy = len(training.open_jobs()) > 0 or (training.training_runs()["status"] == RUNNING).any()
st.fragment(at_work, run_every=LIVE_SECONDS if busy else None)(now)
views = {"Plan": make_plan, "Training": runs, "Gate": decisions}
for tab, view in zip(
    st.tabs(list(views), key="view", on_change="rerun", bind="query-params"), views.values(), strict=True
):
    if tab.open:
        with tab:
            view()
