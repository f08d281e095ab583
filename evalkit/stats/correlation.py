"""Correlation of score columns over models: Pearson, Spearman, Kendall, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from evalkit.errors import UserError
from evalkit.stats.intervals import bootstrap
from evalkit.stats.item_scores import ItemScores, item_scores
from evalkit.stats.votes import FloatArray

Method = Literal["pearson", "spearman", "kendall"]
METHODS: tuple[Method, ...] = ("pearson", "spearman", "kendall")
_CELLS = 4_000_000
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


@dataclass(frozen=True, eq=False)
class CorrelationMatrix:
    """One coefficient between all columns; every table has the column names on both axes.

    Attributes:
        method: Coefficient.
        value: Coefficients, 1 on the diagonal, NaN for pairs that are undefined or were not computed.
        lower, upper: Limits, NaN where there is no interval.
        n: Models with both scores (on the diagonal: with the score), 0 for pairs that were not computed.
        interval: How the limits were made.
    """

    method: Method
    value: pd.DataFrame
    lower: pd.DataFrame
    upper: pd.DataFrame
    n: pd.DataFrame
    interval: str


@dataclass(frozen=True)
class Correlations:
    """All pairs asked for.

    Attributes:
        pairs: Correlations.
        interval: How the limits were made.
        n_models: Models with a score, by column.
        notes: Warnings about the columns.
    """

    pairs: tuple[Correlation, ...]
    interval: str
    n_models: Mapping[str, int]
    notes: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings of the columns and of all pairs."""
        return (*self.notes, *(sentence for pair in self.pairs for sentence in pair.warnings))

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

    def matrix(self, method: Method = "spearman") -> CorrelationMatrix:
        """One coefficient as symmetric tables.

        Raises:
            UserError: There is no such coefficient.
        """
        if method not in METHODS:
            raise UserError(f"the coefficient is {method!r}; it must be one of {', '.join(METHODS)}.", code=2)
        names = list(self.n_models)
        place = {name: i for i, name in enumerate(names)}
        value = np.eye(len(names))
        value[value == 0] = np.nan
        lower, upper = (np.full_like(value, np.nan) for _ in range(2))
        n = np.diag([self.n_models[name] for name in names])
        for pair in self.pairs:
            estimate: Estimate = getattr(pair, method)
            for cell in ((place[pair.a], place[pair.b]), (place[pair.b], place[pair.a])):
                value[cell], lower[cell], upper[cell], n[cell] = estimate.value, estimate.lower, estimate.upper, pair.n
        value_frame, lower_frame, upper_frame, n_frame = (
            pd.DataFrame(table, index=names, columns=names) for table in (value, lower, upper, n)
        )
        return CorrelationMatrix(method, value_frame, lower_frame, upper_frame, n_frame, self.interval)


_COLUMNS = ["a", "b", "n", *(f"{method}{suffix}" for method in METHODS for suffix in ("", "_lower", "_upper"))]


def correlate(
    scores: pd.DataFrame,
    *,
    reference: str | None = None,
    items: Mapping[str, pd.DataFrame] | None = None,
    rounds: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Correlations:
    """Correlate score columns over models, each pair on the models that have both scores.

    A column may be given item by item instead: its score is then a model's mean over the items, and the bootstrap
    resamples models and items (prompts) independently, an item with all its values in both columns. That interval is
    about the correlation over models and items like these; resampling models alone takes the items as given.

    Args:
        scores: Wide table: one row for each model (a column `model` names it; optional without `items`), one numeric
            column for each benchmark or rating, empty cells allowed.
        reference: Correlate every other column with this one; all pairs if None.
        items: Further columns, each a long frame with the columns model, item_id, value (no value: a failure, counted
            and in no mean). An item_id names the same item in all of them.
        rounds, confidence, seed: Of the bootstrap over models (see `correlation`).

    Raises:
        UserError: A column is not numeric or given twice, two rows name one model, the reference is not a column,
            there are fewer than two columns, or an item value is not a number.
    """
    by_item = {name: item_scores(frame, name) for name, frame in (items or {}).items()}
    if "model" in scores.columns:
        repeated = scores["model"][scores["model"].duplicated()]
        if len(repeated):
            raise UserError(f"the scores name the model {repeated.iloc[0]!r} twice; one row for each model is needed.")
        # In the order of the names: the resamples, and so the limits, must not depend on the order of the rows.
        scores = scores.set_index(scores["model"].astype(str)).drop(columns="model").sort_index()
    elif by_item and len(scores.columns):
        raise UserError("the scores have no column model, so their rows cannot be matched with the item values.")
    for column in scores.columns:
        if not pd.api.types.is_numeric_dtype(scores[column]):
            raise UserError(f"the scores column {column!r} is not numeric.")
        if column in by_item:
            raise UserError(f"the column {column!r} is given twice: as a score and item by item; give it once.")
    names = [*map(str, scores.columns), *by_item]
    if len(names) < 2:
        raise UserError(f"correlating needs two score columns or more; there are {len(names)}.")
    if reference is not None and reference not in names:
        raise UserError(f"the reference {reference!r} is no score column; there are {', '.join(names)}.", code=2)
    if by_item:
        known = {name for column in by_item.values() for name in column.models}
        scores = scores.reindex(sorted({*scores.index, *known}))
    table = scores.to_numpy(dtype=np.float64, na_value=np.nan)
    models = [str(name) for name in scores.index]
    columns: dict[str, FloatArray | ItemScores] = {name: table[:, i] for i, name in enumerate(map(str, scores.columns))}
    columns |= {name: column.of(models) for name, column in by_item.items()}
    pairs = combinations(names, 2) if reference is None else [(name, reference) for name in names if name != reference]
    found = [_pair(columns[a], columns[b], (a, b), rounds, confidence, seed) for a, b in pairs]
    units = f"models, and over items of {', '.join(by_item)}" if by_item else "models"
    failures = [
        f"{name}: {column.n_failures} values are missing (failures); they are in no mean."
        for name, column in by_item.items()
        if column.n_failures
    ]
    return Correlations(
        tuple(found),
        f"BCa bootstrap over {units}, {rounds} rounds, seed {seed}, {confidence:.0%}",
        {name: int((~np.isnan(_means(column))).sum()) for name, column in columns.items()},
        tuple(failures),
    )


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
    return _pair(left, right, names, rounds, confidence, seed)


def _means(column: FloatArray | ItemScores) -> FloatArray:
    """A column's scores, shape (models,)."""
    return column.means(np.ones((1, len(column.items))))[0] if isinstance(column, ItemScores) else column


def _pair(
    x: FloatArray | ItemScores,
    y: FloatArray | ItemScores,
    names: tuple[str, str],
    rounds: int,
    confidence: float,
    seed: int,
) -> Correlation:
    left, right = _means(x), _means(y)
    both = np.flatnonzero(~(np.isnan(left) | np.isnan(right)))
    left, right = left[both], right[both]
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise UserError(f"the scores of {names[0]} or {names[1]} hold an infinite value.")
    n = len(both)
    sides = [side.of([side.models[i] for i in both]) if isinstance(side, ItemScores) else side[both] for side in (x, y)]
    by_item = [side for side in sides if isinstance(side, ItemScores)]
    title = f"{names[0]} and {names[1]}"
    warnings = []
    if n < MIN_MODELS:
        warnings.append(
            f"{title}: only {n} models have both scores, so there is no interval ({MIN_MODELS} are needed)."
        )
    units: tuple[int, ...] = (n,)
    statistics = _statistics(left, right)
    items = np.unique(np.concatenate([side.items for side in by_item])) if by_item else np.array([])
    if len(items) > 1 and n > 1:
        units = (n, len(items))
        statistics = _statistics_by_item(sides[0], sides[1], items)
    elif by_item:
        warnings.append(f"{title}: {len(items)} items cannot be resampled; the interval is over models only.")
    estimates = []
    for method, statistic in statistics.items():
        value = float(statistic(np.ones((1, sum(units))))[0]) if n > 1 else float("nan")
        lower = upper = float("nan")
        if np.isnan(value):
            warnings.append(f"{title}: no {method} coefficient, since one of them does not vary over the {n} models.")
        elif n >= MIN_MODELS:
            lower, upper, undefined = bootstrap(statistic, units, rounds=rounds, confidence=confidence, seed=seed)
            if np.isnan(lower):
                warnings.append(f"{title}: no interval for {method}, since no resample of the {n} models varies.")
            elif undefined > 0.01:
                warnings.append(f"{title}: {method} was undefined in {undefined:.0%} of the resamples of {n} models.")
        estimates.append(Estimate(value, lower, upper))
    pearson, spearman, kendall = estimates
    return Correlation(*names, n, pearson, spearman, kendall, tuple(dict.fromkeys(warnings)))


def _statistics_by_item(
    x: FloatArray | ItemScores, y: FloatArray | ItemScores, items: NDArray[Any]
) -> dict[Method, Callable[[FloatArray], FloatArray]]:
    """As `_statistics`, of weights of the models, then of `items`: the scores change with the weights of the items."""
    n = len(_means(x))

    def scaled(side: FloatArray | ItemScores) -> Callable[[FloatArray], FloatArray]:
        observed = _means(side)
        # A constant column must stay one, as in `standardised`.
        spread = observed.std() if np.ptp(observed) > 0 else np.inf
        if not isinstance(side, ItemScores):
            return lambda weight: np.broadcast_to((side - observed.mean()) / spread, (len(weight), n))
        place = np.searchsorted(items, side.items)
        return lambda weight: (side.means(weight[:, place]) - observed.mean()) / spread

    scores = scaled(x), scaled(y)

    def pearson(weight: FloatArray) -> FloatArray:
        return weighted_pearson(weight[:, :n], *(score(weight[:, n:]) for score in scores))

    def by_signs(
        function: Callable[[FloatArray, FloatArray, FloatArray], FloatArray],
    ) -> Callable[[FloatArray], FloatArray]:
        def statistic(weight: FloatArray) -> FloatArray:
            step = max(1, _CELLS // n**2)
            values = []
            for start in range(0, len(weight), step):
                part = weight[start : start + step]
                found = [score(part[:, n:]) for score in scores]
                values.append(function(part[:, :n], *(np.sign(v[:, :, None] - v[:, None, :]) for v in found)))
            return np.concatenate(values)

        return statistic

    def spearman(weight: FloatArray, sign_x: FloatArray, sign_y: FloatArray) -> FloatArray:
        return weighted_pearson(weight, *((sign @ weight[:, :, None])[:, :, 0] / 2.0 for sign in (sign_x, sign_y)))

    def kendall(weight: FloatArray, sign_x: FloatArray, sign_y: FloatArray) -> FloatArray:
        concordant, untied_x, untied_y = (
            (weight * (table @ weight[:, :, None])[:, :, 0]).sum(axis=1)
            for table in (sign_x * sign_y, np.abs(sign_x), np.abs(sign_y))
        )
        return _ratio(concordant, untied_x * untied_y)

    return {"pearson": pearson, "spearman": by_signs(spearman), "kendall": by_signs(kendall)}


def _statistics(x: FloatArray, y: FloatArray) -> dict[Method, Callable[[FloatArray], FloatArray]]:
    """The three coefficients as functions of unit weights, shape (resamples, models) to (resamples,)."""
    sign_x, sign_y = (np.sign(v[:, None] - v) for v in (x, y))
    standard_x, standard_y = standardised(x), standardised(y)

    def pearson(weight: FloatArray) -> FloatArray:
        return weighted_pearson(weight, standard_x, standard_y)

    def spearman(weight: FloatArray) -> FloatArray:
        # Mid-rank of i in a resample: weight below it plus half the weight tied with it (constants cancel).
        return weighted_pearson(weight, weight @ (sign_x.T / 2.0), weight @ (sign_y.T / 2.0))

    def kendall(weight: FloatArray) -> FloatArray:
        concordant, untied_x, untied_y = (
            ((weight @ table) * weight).sum(axis=1) for table in (sign_x * sign_y, np.abs(sign_x), np.abs(sign_y))
        )
        return _ratio(concordant, untied_x * untied_y)

    return {"pearson": pearson, "spearman": spearman, "kendall": kendall}


def standardised(values: FloatArray) -> FloatArray:
    """Mean 0 and variance 1; zeros for a constant, whose rounding error is not a standard deviation."""
    if not len(values) or np.ptp(values) == 0:
        return np.zeros_like(values)
    return np.asarray((values - values.mean()) / values.std())


def weighted_pearson(weight: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Pearson's r for weights of the models, shape (k, models), of standardised scores of either shape."""
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
