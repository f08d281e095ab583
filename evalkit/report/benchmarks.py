"""Every benchmark's main score in a whole ledger, as a table and as boards with intervals and rank ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from evalkit.report.board import MEAN
from evalkit.report.scores import GROUP, listed_metrics, main_metric
from evalkit.store import frames
from evalkit.store.ledger import Ledger
from evalkit.store.schema import Dataset

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["model", "value", "lower", "upper", "rank_low", "rank_high", "n", "errors"]
DEFINITION = (
    "Intervals 95%: Wilson's at the count that the standard error stands for, within 0 to 1; else 1.96 standard "
    "errors. The mean is over the benchmarks with scores in 0 to 1, of models that have all of them, its error that of "
    "independent scores. Rank ranges: tests of all pairwise differences, max-t step-down, family-wise error 5%."
)


def benchmark_scores(ledger: Ledger) -> pd.DataFrame:
    """Reads every model's newest score of every benchmark's main metric.

    Returns:
        model, benchmark, metric, value, lower, upper (see `DEFINITION`; NaN where no error is known), n, errors,
        higher_is_better, member (whether the benchmark counts through its group only).
    """
    import numpy as np

    table = frames.scores(ledger)
    with ledger.engine.connect() as connection:
        listed = listed_metrics(connection)
        sources = connection.scalars(sa.select(Dataset.source).where(Dataset.source.startswith(GROUP))).all()
    members = {name for source in sources for name in source.removeprefix(GROUP).split(", ")}
    main = {name: main_metric(str(name), set(part), listed) for name, part in table.groupby("dataset")["metric"]}
    table = table[table["metric"] == table["dataset"].map(main)].rename(columns={"dataset": "benchmark"})
    limits = [_limits(*row) for row in table[["value", "stderr", "n"]].itertuples(index=False)]
    table[["lower", "upper"]] = np.array(limits, dtype=np.float64).reshape(-1, 2)
    table["member"] = table["benchmark"].isin(members)
    wanted = ["model", "benchmark", "metric", "value", "lower", "upper", "n", "errors", "higher_is_better", "member"]
    return table[wanted].reset_index(drop=True)


def _limits(value: float, stderr: float, n: float) -> tuple[float, float]:
    import math

    from evalkit.stats import wilson

    if not math.isfinite(value) or not math.isfinite(stderr):
        return math.nan, math.nan
    if not 0 <= value <= 1:
        return value - 1.96 * stderr, value + 1.96 * stderr
    # Scores that are all alike have no standard error, which proves no certainty.
    effective = value * (1 - value) / stderr**2 if stderr > 0 and 0 < value < 1 else n
    return wilson(value * effective, effective) if math.isfinite(effective) and effective else (math.nan, math.nan)


def benchmark_board(scores: pd.DataFrame, benchmark: str = MEAN) -> pd.DataFrame:
    """Ranks the models by one benchmark, or by the mean of all.

    Args:
        scores: From `benchmark_scores`.
        benchmark: Its name, or `board.MEAN`.

    Returns:
        model, value, lower, upper, rank_low, rank_high (NaN where a model has no interval), n (documents scored),
        errors; best first.
    """
    import numpy as np
    import pandas as pd

    from evalkit.stats.ranks import rank_ranges

    part = mean_scores(scores) if benchmark == MEAN else scores[scores["benchmark"] == benchmark]
    higher = bool(part["higher_is_better"].all())
    part = part.dropna(subset=["value"]).sort_values(["value", "model"], ascending=[not higher, True])
    board = part.assign(rank_low=np.nan, rank_high=np.nan)[COLUMNS].reset_index(drop=True)
    half = ((board["upper"] - board["lower"]) / (2 * 1.96)).to_numpy()
    if len(board) and np.isfinite(half).all():
        strength = board["value"].to_numpy() * (1.0 if higher else -1.0)
        low, high = rank_ranges(strength, np.diag(half**2), float("inf"), 0.05)
        board["rank_low"], board["rank_high"] = pd.Series(low), pd.Series(high)
    return board


def mean_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """The mean over the benchmarks that lie in 0 to 1 and are in no group, of models that have all of them.

    Returns:
        The columns of `benchmark_scores`, one row a model.
    """
    import numpy as np

    known = scores[~scores["member"] & scores["value"].notna()]
    shares = known.groupby("benchmark").filter(
        lambda part: part["value"].between(0, 1).all() and part["higher_is_better"].all()
    )
    count = shares.groupby("model")["benchmark"].transform("nunique")
    whole = shares[count == shares["benchmark"].nunique()]
    squared = ((whole["upper"] - whole["lower"]) / (2 * 1.96)) ** 2
    grouped = whole.assign(squared=squared).groupby("model")
    k = grouped.size()
    value = grouped["value"].mean()
    half = 1.96 * np.sqrt(grouped["squared"].sum(min_count=1)) / k
    table = value.to_frame().assign(
        lower=(value - half).clip(lower=0.0),
        upper=(value + half).clip(upper=1.0),
        n=grouped["n"].sum(),
        errors=grouped["errors"].sum(),
        benchmark=MEAN,
        metric="",
        higher_is_better=True,
        member=False,
    )
    return table.reset_index()[list(scores.columns)]
