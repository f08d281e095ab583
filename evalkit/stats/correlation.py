"""Correlation of score columns over models: Pearson, Spearman, Kendall, with intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from evalkit.errors import UserError
from evalkit.stats.intervals import bootstrap
from evalkit.stats.votes import FloatArray, require_columns

Method = Literal["pearson", "spearman", "kendall"]
METHODS: tuple[Method, ...] = ("pearson", "spearman", "kendall")
MIN_MODELS = 8  # below, resamples of the models are so few and alike that the limits are far too narrow


@dataclass(frozen=True)
class Estimate:
    """A coefficient with its limits; NaN where undefined."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Correlation:
    """How two score columns agree over the models that have both.

    Attributes:
        a, b: Names of the columns.
        n: Models with both scores.
        pearson, spearman, kendall: Coefficients (Kendall's is tau-b).
        warnings: Sentences.
    """

    a: str
    b: str
    n: int
    pearson: Estimate
    spearman: Estimate
    kendall: Estimate
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Correlations:
    """All pairs asked for; `interval` says how the limits were made."""

    pairs: tuple[Correlation, ...]
    interval: str

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings of all pairs."""
        return tuple(sentence for pair in self.pairs for sentence in pair.warnings)

    def frame(self) -> pd.DataFrame:
        """Columns a, b, n, and for each coefficient its value, `_lower` and `_upper`."""
        rows = []
        for pair in self.pairs:
            row: dict[str, object] = {"a": pair.a, "b": pair.b, "n": pair.n}
            for method in METHODS:
                estimate: Estimate = getattr(pair, method)
                row |= {method: estimate.value, f"{method}_lower": estimate.lower, f"{method}_upper": estimate.upper}
            rows.append(row)
        return pd.DataFrame(rows, columns=_COLUMNS)

    def matrix(self, method: Method = "spearman") -> pd.DataFrame:
        """Symmetric matrix of one coefficient, ones on the diagonal, NaN for pairs not computed."""
        names = list(dict.fromkeys(name for pair in self.pairs for name in (pair.a, pair.b)))
        table = pd.DataFrame(np.eye(len(names)), index=names, columns=names).replace(0.0, np.nan)
        for pair in self.pairs:
            table.loc[pair.a, pair.b] = table.loc[pair.b, pair.a] = getattr(pair, method).value
        return table


_COLUMNS = ["a", "b", "n", *(f"{method}{suffix}" for method in METHODS for suffix in ("", "_lower", "_upper"))]


def correlate(
    scores: pd.DataFrame,
    *,
    reference: str | None = None,
    rounds: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Correlations:
    """Correlate score columns over models, each pair on the models that have both scores.

    Args:
        scores: Wide table: one row for each model (an optional column `model` names it), one numeric column for each
            benchmark or rating, empty cells allowed.
        reference: Correlate every other column with this one; all pairs if None.
        rounds, confidence, seed: Of the bootstrap over models (see `correlation`).

    Raises:
        UserError: A column is not numeric, two rows name one model, the reference is not a column, or there are fewer
            than two columns.
    """
    if "model" in scores.columns:
        repeated = scores["model"][scores["model"].duplicated()]
        if len(repeated):
            raise UserError(f"the scores name the model {repeated.iloc[0]!r} twice; one row for each model is needed.")
        # In the order of the names: the resamples, and so the limits, must not depend on the order of the rows.
        scores = scores.sort_values("model").drop(columns="model")
    for column in scores.columns:
        if not pd.api.types.is_numeric_dtype(scores[column]):
            raise UserError(f"the scores column {column!r} is not numeric.")
    names = [str(column) for column in scores.columns]
    if len(names) < 2:
        raise UserError(f"correlating needs two score columns or more; there are {len(names)}.")
    if reference is not None:
        require_columns(scores, [reference], "scores")
    pairs = combinations(names, 2) if reference is None else [(name, reference) for name in names if name != reference]
    table = scores.to_numpy(dtype=np.float64, na_value=np.nan)
    values = {name: table[:, i] for i, name in enumerate(names)}
    found = [
        correlation(values[a], values[b], names=(a, b), rounds=rounds, confidence=confidence, seed=seed)
        for a, b in pairs
    ]
    return Correlations(tuple(found), f"BCa bootstrap over models, {rounds} rounds, seed {seed}, {confidence:.0%}")


def correlation(
    x: ArrayLike,
    y: ArrayLike,
    *,
    names: tuple[str, str] = ("x", "y"),
    rounds: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Correlation:
    """Pearson's r, Spearman's rho (mid-ranks) and Kendall's tau-b of two score vectors.

    r = cov(x, y) / (s_x s_y); rho = r of the mid-ranks; tau_b = sum_{i<j} sgn(x_i - x_j) sgn(y_i - y_j) / sqrt(pairs
    untied in x * pairs untied in y) (Kendall 1945, Biometrika 33:239-251). Limits: BCa bootstrap over models. Below 8
    models, or where no resample varies (a perfect order), there is no interval and a warning says so.

    Args:
        x, y: Scores, shape (models,); NaN where a model has none.
        names: Of the two columns, for the result.
        rounds, confidence, seed: Of the bootstrap.

    Raises:
        UserError: The vectors differ in length or hold infinities.
    """
    left, right = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if left.shape != right.shape or left.ndim != 1:
        raise UserError(
            f"scores of the shapes {left.shape} and {right.shape} cannot be paired; equal lengths are needed."
        )
    both = ~(np.isnan(left) | np.isnan(right))
    left, right = left[both], right[both]
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise UserError(f"the scores of {names[0]} or {names[1]} hold an infinite value.")
    n = len(left)
    title = f"{names[0]} and {names[1]}"
    warnings = []
    if n < MIN_MODELS:
        warnings.append(
            f"{title}: only {n} models have both scores, so there is no interval ({MIN_MODELS} are needed)."
        )
    estimates = []
    for method, statistic in _statistics(left, right).items():
        value = float(statistic(np.ones((1, n)))[0]) if n > 1 else float("nan")
        lower = upper = float("nan")
        if np.isnan(value):
            warnings.append(f"{title}: no {method} coefficient, since one of them does not vary over the {n} models.")
        elif n >= MIN_MODELS:
            lower, upper, undefined = bootstrap(statistic, n, rounds=rounds, confidence=confidence, seed=seed)
            if np.isnan(lower):
                warnings.append(f"{title}: no interval for {method}, since no resample of the {n} models varies.")
            elif undefined > 0.01:
                warnings.append(f"{title}: {method} was undefined in {undefined:.0%} of the resamples of {n} models.")
        estimates.append(Estimate(value, lower, upper))
    pearson, spearman, kendall = estimates
    return Correlation(*names, n, pearson, spearman, kendall, tuple(dict.fromkeys(warnings)))


def _statistics(x: FloatArray, y: FloatArray) -> dict[Method, Callable[[FloatArray], FloatArray]]:
    """The three coefficients as functions of unit weights, shape (resamples, models) to (resamples,)."""
    sign_x, sign_y = (np.sign(v[:, None] - v) for v in (x, y))
    # A constant column must stay one: its rounding error is not a standard deviation.
    standard_x, standard_y = ((v - v.mean()) / v.std() if len(v) and np.ptp(v) > 0 else v * 0.0 for v in (x, y))

    def pearson(weight: FloatArray) -> FloatArray:
        return _weighted_pearson(weight, standard_x, standard_y)

    def spearman(weight: FloatArray) -> FloatArray:
        # Mid-rank of i in a resample: weight below it plus half the weight tied with it (constants cancel).
        return _weighted_pearson(weight, weight @ (sign_x.T / 2.0), weight @ (sign_y.T / 2.0))

    def kendall(weight: FloatArray) -> FloatArray:
        concordant, untied_x, untied_y = (
            ((weight @ table) * weight).sum(axis=1) for table in (sign_x * sign_y, np.abs(sign_x), np.abs(sign_y))
        )
        return _ratio(concordant, untied_x * untied_y)

    return {"pearson": pearson, "spearman": spearman, "kendall": kendall}


def _weighted_pearson(weight: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    total = weight.sum(axis=1, keepdims=True)
    x = x - (weight * x).sum(axis=1, keepdims=True) / total
    y = y - (weight * y).sum(axis=1, keepdims=True) / total
    xy, xx, yy = ((weight * product).sum(axis=1) for product in (x * y, x * x, y * y))
    # Variance left by rounding alone counts as none.
    noise = 1e-20 * total[:, 0]
    return _ratio(np.where((xx > noise) & (yy > noise), xy, np.nan), xx * yy)


def _ratio(numerator: FloatArray, squared: FloatArray) -> FloatArray:
    value = np.full(len(numerator), np.nan)
    defined = squared > 0
    value[defined] = numerator[defined] / np.sqrt(squared[defined])
    return np.asarray(np.clip(value, -1.0, 1.0))
