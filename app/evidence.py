"""Every kind of evidence as a column over the models, and how the columns correlate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from app import reads
from app.stale_reads import State

if TYPE_CHECKING:
    import pandas as pd

PEOPLE, JUDGES = "People", "Judges"


@dataclass(frozen=True)
class ScoreColumns:
    """What the models score by each kind of evidence.

    Attributes:
        table: model, then a column each, higher is better: people, judges and benchmarks.
        limits: By column, a frame with model, lower and upper.
        notes: What its reader must know.
    """

    table: pd.DataFrame
    limits: dict[str, pd.DataFrame]
    notes: tuple[str, ...]


@st.cache_data(max_entries=4, show_spinner=False)
def _columns(at: State, criterion: str) -> ScoreColumns:
    import pandas as pd

    from evalkit.report.benchmarks import mean_scores
    from evalkit.report.board import MEAN

    found, limits, notes = reads._voters(at, criterion), {}, []
    judges = tuple(name for name in found.usual if name in dict(found.judges))
    series: dict[str, pd.Series[float]] = {}
    for name, names in ((PEOPLE, found.people), (JUDGES, judges)):
        rows = [row for row in reads._board(at, names, criterion).rows if row.rating is not None] if names else []
        if rows:
            series[name] = pd.Series({row.model: row.rating for row in rows}, dtype=float)
            drawn = pd.DataFrame(
                [(row.model, row.lower, row.upper) for row in rows], columns=["model", "lower", "upper"]
            )
            limits[name] = drawn.astype({"lower": float, "upper": float})
    scores = reads._scores(at)
    single = scores[~scores["member"]]
    parts = {str(name): part for name, part in single.groupby("benchmark", sort=False)}
    if len(parts) > 1:
        parts = {MEAN: mean_scores(scores), **parts}
    for name, part in parts.items():
        sign = 1.0 if part["higher_is_better"].all() else -1.0
        if sign < 0:
            notes.append(f"{name}: lower is better, so its sign is turned.")
        values = part.set_index("model")["value"].dropna() * sign
        if len(values):
            series[name] = values
            ends = part[["model", "lower", "upper"]]
            limits[name] = ends.assign(lower=ends["lower"] * sign, upper=ends["upper"] * sign)
    table = pd.DataFrame(series).rename_axis("model").reset_index() if series else pd.DataFrame({"model": []})
    return ScoreColumns(table, limits, tuple(notes))


def columns(criterion: str = "overall") -> ScoreColumns:
    """Returns every kind of evidence as a column over the models; see `stale_while_revalidate`."""
    return reads.stale_while_revalidate(_columns, criterion)


@st.cache_data(max_entries=32, show_spinner=False)
def correlations(
    table: pd.DataFrame, names: tuple[str, ...], reference: str | None = None
) -> tuple[pd.DataFrame, str, tuple[str, ...]]:
    """Correlates columns of `columns` over the models.

    Args:
        table: model and the columns.
        names: Columns, two or more.
        reference: Each other with this one alone; all pairs if None.

    Returns:
        One row a pair: a, b, n, and of pearson, spearman and kendall the value, `_lower` and `_upper`; how the limits
        were made; and warnings.
    """
    from evalkit.stats import correlate

    # Two thousand rounds over 200 models take half a second a pair.
    found = correlate(table[["model", *names]], reference=reference, rounds=2000 if len(table) <= 60 else 1000)
    return found.frame(), found.interval, found.warnings
