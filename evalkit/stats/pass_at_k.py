"""pass@k (some sample of k is right) and pass^k (all k are right) without bias, with clustered errors over items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from evalkit.errors import UserError
from evalkit.stats.intervals import bounded_mean
from evalkit.stats.votes import FloatArray, IntArray, require_columns

Metric = Literal["pass@k", "pass^k"]


@dataclass(frozen=True)
class PassRate:
    """Mean over items of the chance that some (pass@k) or all (pass^k) of k samples are right.

    Attributes:
        metric: pass@k or pass^k.
        k: Samples drawn.
        value: 0 to 1; NaN without items.
        se: Standard error over items or clusters of items; NaN with fewer than two.
        lower, upper: Confidence limits, within 0 and 1.
        n: Items scored.
        n_samples: Graded samples of these items.
        n_missing: Items left with fewer than k graded samples by failures: not scored.
        n_failures: Samples without a grade, over all items: neither right nor wrong.
        n_clusters: Clusters of items scored (n without clusters).
        model: Name; empty where counts were given.
    """

    metric: Metric
    k: int
    value: float
    se: float
    lower: float
    upper: float
    n: int
    n_samples: int
    n_missing: int
    n_failures: int
    n_clusters: int
    model: str = ""


@dataclass(frozen=True)
class PassRates:
    """pass@k and pass^k of several models.

    Attributes:
        rates: One for each model, k and metric.
        definition: Formulas and interval in words.
        warnings: Sentences.
    """

    rates: tuple[PassRate, ...]
    definition: str
    warnings: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """Columns model, metric, k, value, se, lower, upper, n, n_samples, n_missing, n_failures, n_clusters."""
        table = pd.DataFrame([asdict(rate) for rate in self.rates], columns=[field.name for field in fields(PassRate)])
        return table[["model", *table.columns.drop("model")]]


def pass_at_k(
    correct: ArrayLike,
    samples: ArrayLike,
    k: int,
    *,
    clusters: ArrayLike | None = None,
    confidence: float = 0.95,
) -> PassRate:
    """Chance that at least one of k samples is right, without bias.

    pass@k = mean over items of 1 - C(n - c, k) / C(n, k), c of n samples right (Chen et al. 2021, "Evaluating large
    language models trained on code", arXiv:2107.03374, equation 1), as a product of k factors, so that nothing
    overflows. Standard error over items, clustered where clusters are given (CR1); interval as in
    `intervals.bounded_mean`.

    Args:
        correct: Right samples c of each item, shape (items,), whole numbers.
        samples: Samples n of each item, shape (items,), or one number for all.
        k: Samples drawn, from 1 to the smallest n.
        clusters: Labels of groups of like items, shape (items,).
        confidence: Level.

    Raises:
        UserError: k is below 1 or above an item's number of samples, a count is negative, not whole, or above the
            number of samples, or the lengths differ.
    """
    c, n = _counts(correct, samples, k)
    return _rate("pass@k", k, 1.0 - _all_of(n - c, n, k), n, clusters, confidence)


def pass_hat_k(
    correct: ArrayLike,
    samples: ArrayLike,
    k: int,
    *,
    clusters: ArrayLike | None = None,
    confidence: float = 0.95,
) -> PassRate:
    """Chance that all of k samples are right, without bias: how reliable a model is.

    pass^k = mean over items of C(c, k) / C(n, k), c of n samples right (Yao et al. 2024, "tau-bench", arXiv:2406.12045,
    section 3).

    Args:
        correct, samples, k, clusters, confidence: As for `pass_at_k`.

    Raises:
        UserError: As `pass_at_k`.
    """
    c, n = _counts(correct, samples, k)
    return _rate("pass^k", k, _all_of(c, n, k), n, clusters, confidence)


def pass_rates(
    grades: pd.DataFrame, ks: Sequence[int], *, cluster: str | None = None, confidence: float = 0.95
) -> PassRates:
    """pass@k and pass^k of every model in a grades frame with several samples an item.

    A sample without a value (a failure) is neither right nor wrong: it is counted in `n_failures`, and an item left
    with fewer than k graded samples is in `n_missing` and not scored.

    Args:
        grades: Columns item_id, model, value (1 right, 0 wrong, NaN for a failure), and `cluster` if given; one row
            for each sample; one criterion only.
        ks: Numbers of samples drawn.
        cluster: Column with the group an item belongs to.
        confidence: Level.

    Raises:
        UserError: A column is missing, a value is not 0 or 1, the grades mix criteria, or k is below 1 or above the
            number of samples, failures included, of an item.
    """
    require_columns(grades, ["item_id", "model", "value", *([cluster] if cluster else [])], "grades")
    if "criterion" in grades.columns and grades["criterion"].nunique() > 1:
        names = ", ".join(sorted(map(str, grades["criterion"].unique())))
        raise UserError(f"the grades mix the criteria {names}; choose one.")
    value = pd.to_numeric(grades["value"], errors="coerce").astype(np.float64)
    bad = grades["value"].notna() & ~value.isin([0.0, 1.0])
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise UserError(f"grade {row + 1} is {grades['value'].iloc[row]}; pass@k takes 1 (right) and 0 (wrong) only.")
    table = pd.DataFrame({"model": grades["model"], "item": grades["item_id"], "value": value})
    table["cluster"] = grades[cluster] if cluster else grades["item_id"]
    found, warnings = [], []
    for model, of_model in table.groupby("model", sort=True, observed=True):
        items = of_model.groupby("item", observed=True)
        counts = items["value"].agg(["sum", "count", "size"])
        labels = items["cluster"].first()
        failures = int((counts["size"] - counts["count"]).sum())
        if failures:
            warnings.append(f"{model}: {failures} of {len(of_model)} samples have no grade; neither right nor wrong.")
        for k in ks:
            short = counts["size"] < k
            if short.any():
                at = f"item {short.idxmax()} of {model}"
                raise UserError(f"k = {k} is above the {counts['size'][short].iloc[0]} samples of {at}.", code=2)
            enough = counts["count"] >= k
            kept, missing = counts[enough], int((~enough).sum())
            if missing:
                warnings.append(f"{model}: {missing} items have fewer than {k} graded samples; not in pass@{k}.")
            for function in (pass_at_k, pass_hat_k):
                groups = labels[enough].to_numpy()
                rate = function(kept["sum"], kept["count"], k, clusters=groups, confidence=confidence)
                found.append(replace(rate, model=str(model), n_missing=missing, n_failures=failures))
    return PassRates(
        tuple(found),
        "pass@k: mean over items of 1 - C(n - c, k) / C(n, k) (Chen et al. 2021); pass^k: of C(c, k) / C(n, k) (Yao et "
        f"al. 2024); {confidence:.0%} interval over {'clusters by ' + cluster if cluster else 'items'}",
        tuple(warnings),
    )


def _all_of(hits: IntArray, n: IntArray, k: int) -> FloatArray:
    """C(hits, k) / C(n, k): the chance that k of n drawn without replacement are all hits."""
    chance = np.ones(len(n))
    for drawn in range(k):
        chance *= np.maximum(hits - drawn, 0) / (n - drawn)
    return chance


def _counts(correct: ArrayLike, samples: ArrayLike, k: int) -> tuple[IntArray, IntArray]:
    c = np.asarray(correct, dtype=np.float64)
    if c.ndim != 1 or np.ndim(samples) > 1 or (np.ndim(samples) == 1 and np.shape(samples) != c.shape):
        raise UserError(f"counts of the shapes {c.shape} and {np.shape(samples)} do not go together, item by item.")
    n = np.broadcast_to(np.asarray(samples, dtype=np.float64), c.shape)
    if k < 1:
        raise UserError(f"k is {k}; it must be 1 or more.", code=2)
    for fault, text in (
        (~np.isfinite(c) | (c < 0) | (c != np.floor(c)), "{c:g} right samples; whole numbers from 0 are needed"),
        (~np.isfinite(n) | (n != np.floor(n)), "{n:g} samples; whole numbers are needed"),
        (c > n, "{c:g} right samples of {n:g}"),
        (n < k, "{n:g} samples, fewer than k = {k}"),
    ):
        if fault.any():
            item = int(np.flatnonzero(fault)[0])
            raise UserError(f"item {item + 1} has {text.format(c=c[item], n=n[item], k=k)}.", code=2)
    return c.astype(np.int64), n.astype(np.int64)


def _rate(
    metric: Metric, k: int, chance: FloatArray, n: IntArray, clusters: ArrayLike | None, confidence: float
) -> PassRate:
    mean = bounded_mean(chance, clusters, confidence)
    return PassRate(metric, k, mean.value, mean.se, mean.lower, mean.upper, mean.n, int(n.sum()), 0, 0, mean.n_clusters)
