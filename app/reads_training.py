"""Cached reads of the pages on failure slices, retraining and the family of models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from app import reads
from app.reads import FRESH, ledger, stale_while_revalidate
from app.stale_reads import State
from trainers.plan import TRAINABLE

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.report.failures import ModelFailures

LIVE = "1s"
"""So old may the curves of a training run be while it runs."""
RETRAINS = ("retrain", "loop")
"""Kinds of jobs that train models."""


@st.cache_data(ttl=FRESH, show_spinner=False)
def slices() -> pd.DataFrame:
    """Lists the failure slices with their failure rates.

    Returns:
        Columns of `evalkit.store.frames_training.slices`, and rate, lower, upper (Wilson's, 95 %), answers, rest_rate,
        half (held-out, or discovery where the slice was not confirmed).
    """
    import pandas as pd

    from evalkit.stats import wilson
    from evalkit.store import frames_training

    found = frames_training.slices(ledger())
    told: list[tuple[Any, ...]] = []
    for row in found.to_dict("records"):
        confirmed = pd.notna(row["held_out_n"]) and row["held_out_n"] > 0
        n, failed, rest_n, rest_failed = (
            row[f"held_out_{name}" if confirmed else name] for name in ("n", "failed", "rest_n", "rest_failed")
        )
        if pd.isna(n) or not n:
            told.append((None, None, None, None, None, "not stated"))
            continue
        rest = rest_failed / rest_n if pd.notna(rest_n) and rest_n else None
        told.append((failed / n, *wilson(failed, n), n, rest, "held-out" if confirmed else "discovery"))
    columns = ["rate", "lower", "upper", "answers", "rest_rate", "half"]
    found[columns] = pd.DataFrame(told, columns=columns, index=found.index)
    return found.astype(dict.fromkeys(columns[:-1], float))


@st.cache_data(ttl=FRESH, max_entries=32, show_spinner=False)
def slice_answers(slice_id: int, limit: int | None = 50) -> pd.DataFrame:
    """Reads answers of a slice's training half (see `evalkit.store.frames_training.slice_answers`)."""
    from evalkit.store import frames_training

    return frames_training.slice_answers(ledger(), slice_id, limit=limit)


@st.cache_data(ttl=FRESH, max_entries=32, show_spinner=False)
def slice_material(slice_id: int) -> dict[str, int]:
    """Counts what there is to train on (see `evalkit.store.frames_training.slice_material`).

    Returns:
        Also templates: items that prompts like them can be made of.
    """
    from evalkit.store import frames_training
    from trainers.training_set import yield_of

    found = frames_training.slice_material(ledger(), slice_id)
    return {**found, "templates": round(yield_of(ledger(), slice_id) * found["items"])}


@dataclass(frozen=True)
class Tagged:
    """Where models of a run fail more than elsewhere, by tag.

    Attributes:
        table: model, slice, rate, lower, upper, answers, failed, rest_rate, effect, clear.
        models: The parts of `evalkit.report.failures`.
    """

    table: pd.DataFrame
    models: tuple[ModelFailures, ...]
    definition: str


@st.cache_data(max_entries=8, show_spinner="Counting failures by tag")
def _by_tag(at: State, run_id: int) -> Tagged:
    import pandas as pd

    from evalkit.report.failures import failures

    found = failures(ledger(), run_id, k=0)
    rows = [
        {
            "model": model.model,
            "slice": f"{one.tag} = {one.value}",
            "rate": one.rate.value,
            "lower": one.rate.lower,
            "upper": one.rate.upper,
            "answers": one.rate.n,
            "rest_rate": one.rest,
            "effect": one.difference,
            "clear": one.clear,
        }
        for model in found.models
        for one in model.slices
    ]
    names = ["model", "slice", "rate", "lower", "upper", "answers", "rest_rate", "effect", "clear"]
    return Tagged(pd.DataFrame(rows, columns=names), found.models, found.definition)


def by_tag(run_id: int) -> Tagged:
    """Counts a run's failures by tag (`evalkit.report.failures`); see `stale_while_revalidate`.

    Raises:
        UserError: There is no such run.
    """
    return stale_while_revalidate(_by_tag, run_id)


@st.cache_data(ttl=LIVE, show_spinner=False)
def open_jobs() -> pd.DataFrame:
    """Lists the jobs that retrain, and wait or run (see `evalkit.store.frames_app.jobs`)."""
    from evalkit.store import frames_app

    jobs = frames_app.jobs(ledger(), status=("queued", "running"))
    return jobs[jobs["kind"].isin(RETRAINS)]


@st.cache_data(ttl=LIVE, show_spinner=False)
def training_runs() -> pd.DataFrame:
    """Lists training runs, newest first (see `evalkit.store.frames_training.training_runs`)."""
    from evalkit.store import frames_training

    return frames_training.training_runs(ledger())


@st.cache_data(ttl=LIVE, max_entries=16, show_spinner=False)
def training_run(training_run_id: int) -> dict[str, Any]:
    """Reads one training run as it is now; empty if there is none."""
    from evalkit.store import frames_training

    rows = frames_training.training_runs(ledger())
    rows = rows[rows["training_run_id"] == training_run_id]
    return dict(rows.iloc[0]) if len(rows) else {}


@st.cache_data(ttl=LIVE, max_entries=16, show_spinner=False)
def curve_points(training_run_id: int) -> pd.DataFrame:
    """Reads the curves of a training run: metric, step, value."""
    from evalkit.store import frames_training

    return frames_training.curve_points(ledger(), training_run_id)


@st.cache_data(ttl=FRESH, max_entries=16, show_spinner=False)
def training_rows(training_set_id: int) -> pd.DataFrame:
    """Reads the first rows of a training set (see `evalkit.store.frames_training.training_rows`)."""
    from evalkit.store import frames_training

    return frames_training.training_rows(ledger(), training_set_id)


@st.cache_data(ttl=LIVE, show_spinner=False)
def gates() -> pd.DataFrame:
    """Lists gates, newest first (see `evalkit.store.frames_training.gates`)."""
    from evalkit.store import frames_training

    return frames_training.gates(ledger())


@st.cache_data(ttl=FRESH, show_spinner=False)
def family() -> pd.DataFrame:
    """Lists which model was made from which (see `evalkit.store.frames_training.family`)."""
    from evalkit.store import frames_training

    return frames_training.family(ledger())


@st.cache_data(ttl=FRESH, show_spinner=False)
def models() -> pd.DataFrame:
    """Lists the contestants (see `evalkit.store.frames.models`)."""
    from evalkit.store import frames

    return frames.models(ledger())


@st.cache_data(ttl=FRESH, max_entries=16, show_spinner=False)
def bases(run_id: int, model_id: int | None) -> tuple[dict[str, str | dict[str, Any]], str | None]:
    """Lists the models that can be trained, as a plan has them: the local ones of a run.

    The ledger knows a folder by its content, so only the run's plan says where it lies, and how the model was asked.

    Returns:
        By name; and the name of one of them, if it is there.
    """
    known = models()
    names, hashes = known.set_index("model_id")["model"], known.set_index("hash")["model"]
    plan = ledger().run_plan(run_id)
    told = plan.get("resolved", {}).get("models", [])
    found: dict[str, str | dict[str, Any]] = {}
    for place, one in enumerate(plan.get("models", [])):
        if one["model"].partition("/")[0] in TRAINABLE:
            name = hashes.get(told[place]) if place < len(told) else None
            found[str(name or one.get("name") or one["model"])] = dict(one)
    return found, names.get(model_id)


def model_table() -> pd.DataFrame:
    """Puts a model's rating, scores and place in the family on one row.

    Returns:
        model_id, model, made (in words: from which parents), rating, lower, upper, votes (of the usual board: judges'
        or people's), score, score_lower, score_upper (mean of the benchmarks; NaN where it lacks one), benchmarks (how
        many it has), gate (the newest decision on it), provider, name, created_at.
    """
    import pandas as pd

    from evalkit.report.benchmarks import benchmark_board
    from evalkit.report.board import MEAN

    table = models()[["model_id", "model", "provider", "name", "created_at"]].copy()
    edges, decided = family(), gates().drop_duplicates("candidate_id")
    verbs = {"trained_from": "trained from", "merged_from": "merged from"}
    made = {
        key: f"{verbs.get(part['relation'].iloc[0], part['relation'].iloc[0])} {', '.join(part['parent'])}"
        for key, part in edges.groupby("model_id")
    }
    decisions = dict(zip(decided["candidate_id"], decided["decision"], strict=True))
    table["made"] = [made.get(key, "") for key in table["model_id"]]
    table["gate"] = [decisions.get(key, "") for key in table["model_id"]]
    scores = reads.scores()
    if scores.empty:
        table[["score", "score_lower", "score_upper"]] = float("nan")
    else:
        means = benchmark_board(scores, MEAN).set_index("model")
        for name, column in (("score", "value"), ("score_lower", "lower"), ("score_upper", "upper")):
            table[name] = table["model"].map(means[column]).astype(float)
    counts = scores.groupby("model", observed=True).size()
    table["benchmarks"] = table["model"].map(counts).fillna(0).astype(int)
    names: tuple[str, ...] = reads.voters().usual if reads.criteria() else ()
    rows = reads.board(names).rows if names else ()
    rated = {row.model: (row.rating, row.lower, row.upper, row.votes) for row in rows}
    values = [rated.get(name, (None, None, None, 0)) for name in table["model"]]
    columns = ["rating", "lower", "upper", "votes"]
    table[columns] = pd.DataFrame(values, columns=columns, index=table.index).astype(float)
    return table
