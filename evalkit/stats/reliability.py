"""How reliable a score is over models: split half, noise ceiling, and correlations corrected for attenuation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from evalkit.errors import UserError
from evalkit.stats.correlation import MIN_MODELS, Estimate, standardised, weighted_pearson
from evalkit.stats.intervals import bootstrap
from evalkit.stats.item_scores import ItemScores, item_scores
from evalkit.stats.votes import FloatArray, require_columns

# Maps weights of the models, shape (k, models), to the reliabilities, shape (k,).
_ReliabilityOf = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class SplitHalf:
    """Split-half reliability of a benchmark's scores over models.

    Attributes:
        value: Share of the scores' variance over models that is not noise of the items; NaN where undefined.
        lower, upper: Confidence limits; NaN below 8 models.
        ceiling: sqrt(value): the highest Pearson correlation with anything free of noise; NaN where value is below 0.
        half: Mean correlation of the two halves, over the splits.
        n: Models.
        n_items: Items.
        n_failures: Rows without a value; in no mean.
        definition: Formula and interval in words.
        warnings: Sentences.
    """

    value: float
    lower: float
    upper: float
    ceiling: float
    half: float
    n: int
    n_items: int
    n_failures: int
    definition: str
    warnings: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """One row: reliability, lower, upper, ceiling, n, n_items, n_failures."""
        row = {"reliability": self.value, "lower": self.lower, "upper": self.upper, "ceiling": self.ceiling}
        return pd.DataFrame([row | {"n": self.n, "n_items": self.n_items, "n_failures": self.n_failures}])


@dataclass(frozen=True)
class Disattenuation:
    """A Pearson correlation as observed, and as it would be without noise in either score.

    Attributes:
        observed: Correlation over the models, with limits.
        corrected: The same divided by the ceiling; may pass 1, being an estimate.
        reliability_a, reliability_b: Of the two scores; 1 where none could be estimated (see `warnings`).
        ceiling: sqrt(reliability_a reliability_b), the correlation expected if both measured one thing; NaN where a
            reliability is not above 0.
        n: Models with both scores.
        definition: Formula and interval in words.
        warnings: Sentences.
    """

    observed: Estimate
    corrected: Estimate
    reliability_a: float
    reliability_b: float
    ceiling: float
    n: int
    definition: str
    warnings: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """One row: n, observed and corrected with limits, reliabilities, ceiling."""
        row: dict[str, float] = {"n": self.n}
        for name, found in (("observed", self.observed), ("corrected", self.corrected)):
            row |= {name: found.value, f"{name}_lower": found.lower, f"{name}_upper": found.upper}
        row |= {"reliability_a": self.reliability_a, "reliability_b": self.reliability_b, "ceiling": self.ceiling}
        return pd.DataFrame([row])


def split_half(
    items: pd.DataFrame,
    *,
    name: str = "the benchmark",
    splits: int = 100,
    rounds: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> SplitHalf:
    """Reliability of a benchmark's scores by random halves of its items: the noise ceiling of any correlation with it.

    r = mean over the splits of the Pearson correlation, over models, of the mean scores on the two halves; the whole
    has the reliability 2 r / (1 + r) (Spearman 1910, Brit. J. Psychol. 3:271-295; Brown 1910, ibid. 3:296-322), and a
    correlation with a noise-free score cannot be expected to pass its square root. Limits: BCa bootstrap over models,
    the splits kept; none below 8 models. It is the reliability over these models: more alike models have a lower one.

    Args:
        items: Columns model, item_id, value; samples of one model on one item are averaged first.
        name: Of the score, for messages.
        splits: Random halves.
        rounds, confidence, seed: Of the bootstrap; the seed is also that of the splits.

    Raises:
        UserError: A column is missing, a value is not a number, or there are fewer than two items or splits below 1.
    """
    table = item_scores(items, name)
    n = len(table.models)
    half, reliability = _split_half(table, name, splits, seed)
    observed = np.ones((1, n))
    value = float(reliability(observed)[0]) if n > 2 else float("nan")
    warnings = [f"{table.n_failures} item values are missing (failures); they are in no mean."] * (table.n_failures > 0)
    lower, upper = _limits(reliability, n, value, name, warnings, rounds, confidence, seed)
    if value < 0:
        warnings.append(f"{name}: the halves do not agree at all, so there is no ceiling.")
    return SplitHalf(
        value=value,
        lower=lower,
        upper=upper,
        ceiling=float(np.sqrt(value)) if value >= 0 else float("nan"),
        half=float(half(observed)[0]) if n > 2 else float("nan"),
        n=n,
        n_items=len(table.items),
        n_failures=table.n_failures,
        definition=(
            f"Spearman-Brown 2 r / (1 + r), r the mean correlation of {splits} random halves of the items; ceiling its "
            f"square root; BCa bootstrap over models, {rounds} rounds, seed {seed}, {confidence:.0%}"
        ),
        warnings=tuple(warnings),
    )


def disattenuate(
    a: pd.DataFrame,
    b: pd.DataFrame,
    *,
    names: tuple[str, str] = ("a", "b"),
    splits: int = 100,
    rounds: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Disattenuation:
    """Pearson correlation of two scores over models, corrected for the noise in both.

    r / sqrt(R_a R_b) (Spearman 1904, Amer. J. Psychol. 15:72-101). A score given item by item has the reliability of
    `split_half`; one given with standard errors, such as a rating, R = 1 - mean(se^2) / s^2, s^2 the variance of the
    scores over models; any other counts as free of noise, R = 1, with a warning. Limits: BCa bootstrap over models, the
    reliabilities estimated anew in every resample, so that their error is in the interval; none below 8 models. The
    noise of the two must be independent: with the same items on both sides the correction is too large, and a warning
    says so.

    Args:
        a, b: Columns model, item_id, value (a row for each item), or model, value, se, or model, value (a row for
            each model).
        names: Of the two, for messages.
        splits, rounds, confidence, seed: As for `split_half`.

    Raises:
        UserError: A column is missing, a model is named twice, or a number is not finite or an error negative.
    """
    warnings: list[str] = []
    scores = [_scores(frame, name, warnings) for frame, name in zip((a, b), names, strict=True)]
    shared = sorted(set(scores[0].index) & set(scores[1].index))
    x, y = (standardised(np.asarray(side.loc[shared], dtype=np.float64)) for side in scores)
    reliability_x, reliability_y = (
        _reliability(frame, name, shared, splits, seed, warnings) for frame, name in zip((a, b), names, strict=True)
    )
    n = len(shared)
    if "item_id" in a.columns and "item_id" in b.columns:
        common = len(set(a["item_id"].astype(str)) & set(b["item_id"].astype(str)))
        if common:
            warnings.append(f"{names[0]} and {names[1]} share {common} items: their noise may not be independent.")

    def correlation(weight: FloatArray) -> FloatArray:
        return weighted_pearson(weight, x, y)

    def corrected(weight: FloatArray) -> FloatArray:
        found = np.stack([reliability_x(weight), reliability_y(weight)])
        return np.asarray(correlation(weight) / np.sqrt(np.where(found > 0, found, np.nan)).prod(axis=0))

    observed = np.ones((1, n))
    enough = n > 2
    reliabilities = [float(found(observed)[0]) if enough else float("nan") for found in (reliability_x, reliability_y)]
    estimates = []
    for statistic, title in ((correlation, "correlation"), (corrected, "corrected correlation")):
        value = float(statistic(observed)[0]) if enough else float("nan")
        limits = _limits(
            statistic, n, value, f"{title} of {names[0]} and {names[1]}", warnings, rounds, confidence, seed
        )
        estimates.append(Estimate(value, *limits))
    if abs(estimates[1].value) > 1:
        warnings.append(f"The corrected correlation of {names[0]} and {names[1]} is above 1: read it as about 1.")
    positive = min(reliabilities) > 0
    return Disattenuation(
        observed=estimates[0],
        corrected=estimates[1],
        reliability_a=reliabilities[0],
        reliability_b=reliabilities[1],
        ceiling=float(np.sqrt(reliabilities[0] * reliabilities[1])) if positive else float("nan"),
        n=n,
        definition=(
            "Pearson r / sqrt(R_a R_b), reliabilities by split half of the items or from standard errors; BCa "
            f"bootstrap over models, {rounds} rounds, seed {seed}, {confidence:.0%}"
        ),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _split_half(table: ItemScores, name: str, splits: int, seed: int) -> tuple[_ReliabilityOf, _ReliabilityOf]:
    """The mean correlation of halves and the reliability of the whole, for weights of the models."""
    n_items = len(table.items)
    if n_items < 2:
        raise UserError(f"{name} has {n_items} items; splitting them needs two or more.")
    if splits < 1:
        raise UserError(f"{splits} splits make no halves; use 1 or more.", code=2)
    rng = np.random.default_rng(seed)
    first = rng.permuted(np.tile(np.arange(n_items) < n_items // 2, (splits, 1)), axis=1).astype(np.float64)
    left, right = (table.means(weight).T for weight in (first, 1.0 - first))  # (models, splits)
    # A split that leaves a model without a value on one side cannot be used.
    usable = ~(np.isnan(left) | np.isnan(right)).any(axis=0)
    # Near 0 and of unit size, so that the sums of squares below lose nothing.
    spread = float(left[:, usable].std()) if usable.any() else 0.0
    left, right = ((part[:, usable] - part[:, usable].mean(axis=0)) / (spread or 1.0) for part in (left, right))

    def half(weight: FloatArray) -> FloatArray:
        total = weight.sum(axis=1, keepdims=True)
        mean_x, mean_y = weight @ left / total, weight @ right / total
        xy = weight @ (left * right) / total - mean_x * mean_y
        xx = weight @ left**2 / total - mean_x**2
        yy = weight @ right**2 / total - mean_y**2
        varies = (xx > 1e-12) & (yy > 1e-12)
        r = np.divide(xy, np.sqrt(np.where(varies, xx * yy, 1.0)), out=np.full_like(xy, np.nan), where=varies)
        count = varies.sum(axis=1)
        mean = np.divide(np.nansum(r, axis=1), count, out=np.full(len(r), np.nan), where=count > 0)
        return np.asarray(mean)

    def reliability(weight: FloatArray) -> FloatArray:
        r = half(weight)
        return np.asarray(2.0 * r / (1.0 + np.maximum(r, -0.999)))

    return half, reliability


def _scores(frame: pd.DataFrame, name: str, warnings: list[str]) -> pd.Series[float]:
    """A model's score, where it has one."""
    if "item_id" in frame.columns:
        table = item_scores(frame, name)
        if table.n_failures:
            warnings.append(f"{name}: {table.n_failures} item values are missing (failures); they are in no mean.")
        return pd.Series(table.means(np.ones((1, len(table.items))))[0], index=list(table.models)).dropna()
    require_columns(frame, ["model", "value"], f"scores of {name}")
    model = frame["model"].astype(str)
    if model.duplicated().any():
        raise UserError(f"the scores of {name} name the model {model[model.duplicated()].iloc[0]!r} twice.")
    for column in {"value", "se"} & set(frame.columns):
        number = pd.to_numeric(frame[column], errors="coerce")
        bad = np.isinf(number) | (number.isna() & frame[column].notna()) | ((number < 0) & (column == "se"))
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise UserError(f"row {row + 1} of the scores of {name} has the {column} {str(frame[column].iloc[row])!r}.")
    complete = frame[["value", *({"se"} & set(frame.columns))]].notna().all(axis=1).to_numpy()
    if not complete.all():
        warnings.append(f"{name}: {int((~complete).sum())} models have no score or no standard error; left out.")
    return pd.Series(pd.to_numeric(frame["value"]).to_numpy(np.float64), index=model)[complete]


def _reliability(
    frame: pd.DataFrame, name: str, models: list[str], splits: int, seed: int, warnings: list[str]
) -> _ReliabilityOf:
    """The reliability of a score for weights of the models."""
    if "item_id" in frame.columns:
        return _split_half(item_scores(frame, name).of(models), name, splits, seed)[1]
    if "se" not in frame.columns:
        warnings.append(f"{name} has no items and no standard errors: it counts as free of noise.")
        return lambda weight: np.ones(len(weight))
    table = frame.set_index(frame["model"].astype(str)).loc[models]
    value, squared_error = table["value"].to_numpy(np.float64), table["se"].to_numpy(np.float64) ** 2

    def reliability(weight: FloatArray) -> FloatArray:
        total = weight.sum(axis=1)
        mean = weight @ value / total
        variance = (weight * (value - mean[:, None]) ** 2).sum(axis=1) / (total - 1.0)
        noise = weight @ squared_error / total
        return np.asarray(1.0 - np.divide(noise, variance, out=np.full_like(noise, np.nan), where=variance > 0))

    return reliability


def _limits(
    statistic: Callable[[FloatArray], FloatArray],
    n: int,
    value: float,
    title: str,
    warnings: list[str],
    rounds: int,
    confidence: float,
    seed: int,
) -> tuple[float, float]:
    """BCa limits; NaN, and a warning, where there are none."""
    if n < MIN_MODELS or np.isnan(value):
        reason = f"{n} models are too few ({MIN_MODELS} are needed)" if n < MIN_MODELS else "it is undefined"
        warnings.append(f"No interval for {title}: {reason}.")
        return float("nan"), float("nan")
    lower, upper, undefined = bootstrap(statistic, n, rounds=rounds, confidence=confidence, seed=seed)
    if undefined > 0.01:
        warnings.append(f"{title} was undefined in {undefined:.0%} of the resamples of {n} models.")
    return lower, upper
