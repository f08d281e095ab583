"""Intervals: Wilson's for a share, clustered standard errors of a mean, the bootstrap over units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special

from evalkit.errors import UserError
from evalkit.stats.ranks import critical_value, two_sided_p
from evalkit.stats.votes import FloatArray, IntArray

_BOOTSTRAP_CELLS = 4_000_000
_MIN_ROUNDS = 1000
_EXACT_FLIPS = 16
_NORMAL_FLIPS = 20_000


@dataclass(frozen=True)
class Share:
    """A share with its interval.

    Attributes:
        value: successes / n; NaN where n is 0.
        lower, upper: Confidence limits.
        successes: Count.
        n: Count.
    """

    value: float
    lower: float
    upper: float
    successes: int
    n: int


@dataclass(frozen=True)
class Mean:
    """A mean with its standard error.

    Attributes:
        value, se, lower, upper: In the units of the data; se NaN and limits infinite with fewer than two clusters.
        n: Values.
        n_clusters: Clusters (equal to n without clusters).
        df: Degrees of freedom of the t distribution, n_clusters - 1.
    """

    value: float
    se: float
    lower: float
    upper: float
    n: int
    n_clusters: int
    df: float

    def p_value(self, null: float = 0.0) -> float:
        """Two-sided p-value of the t test that the mean is `null`; NaN where the standard error is 0 or NaN."""
        if not self.se > 0:
            return float("nan")
        return float(two_sided_p(np.array([(self.value - null) / self.se]), self.df)[0])


def wilson(successes: float, n: float, confidence: float = 0.95, df: float = float("inf")) -> tuple[float, float]:
    """Wilson's score interval for a share.

    (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n) (Wilson 1927, JASA 22:209-212).

    Args:
        successes: 0 to n; need not be whole (an effective count).
        n: Trials; (0, 1) is returned for 0.
        confidence: Level.
        df: Degrees of freedom where n is an effective count from an estimated standard error: z is then t's.
    """
    if n <= 0 or not df > 0:
        return 0.0, 1.0
    z = critical_value(confidence, df)
    p = successes / n
    center = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    width = z * float(np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))) / (1 + z**2 / n)
    # Rounding must not move the limits off 0 and 1 when every trial has one result.
    return (0.0 if successes == 0 else max(0.0, center - width)), (1.0 if successes == n else min(1.0, center + width))


def share(hits: ArrayLike, clusters: ArrayLike | None = None, confidence: float = 0.95) -> Share:
    """Share of true values with Wilson's interval, adjusted for clusters where they are given.

    With clusters, n is replaced by n* = p (1 - p) / SE^2, SE the CR1 standard error, at most n, and at most the number
    of clusters where SE is 0 (Dean & Pagano 2015, J. Surv. Stat. Methodol. 3:484-503).

    Args:
        hits: Booleans, shape (n,).
        clusters: Labels, shape (n,).
        confidence: Level.
    """
    values = np.asarray(hits, dtype=np.float64)
    n, successes = len(values), int(values.sum())
    if not n:
        return Share(float("nan"), 0.0, 1.0, 0, 0)
    p, effective = successes / n, float(n)
    if clusters is not None:
        mean = clustered_mean(values, clusters, confidence)
        effective = min(n, p * (1 - p) / mean.se**2 if mean.se > 0 else mean.n_clusters)
    return Share(p, *wilson(p * effective, effective, confidence), successes, n)


def clustered_mean(
    values: ArrayLike,
    clusters: ArrayLike | None = None,
    confidence: float = 0.95,
    correction: Literal["CR0", "CR1"] = "CR1",
) -> Mean:
    """Mean with a standard error that allows for values of one cluster being alike.

    SE^2 = (1 / n^2) sum_c (sum_{i in c} (x_i - mean))^2 (CR0), times G / (G - 1) for G clusters (CR1): the clustered
    standard error of Miller 2024, "Adding error bars to evals", section 2.2. With one value a cluster CR1 is the usual
    s / sqrt(n). Limits from t with G - 1 degrees of freedom.

    Args:
        values: Finite, shape (n,).
        clusters: Labels, shape (n,), such as the passage a question belongs to; None for independent values.
        confidence: Level.
        correction: CR1, or CR0 without the small-sample factor.

    Raises:
        UserError: A value is not finite, a label is missing, or the lengths differ.
    """
    x = np.asarray(values, dtype=np.float64)
    n = len(x)
    if not np.isfinite(x).all():
        raise UserError(f"value {int(np.flatnonzero(~np.isfinite(x))[0]) + 1} of {n} is not a finite number.")
    if not n:
        return Mean(float("nan"), float("nan"), -np.inf, np.inf, 0, 0, 0.0)
    codes: IntArray = np.arange(n) if clusters is None else cluster_codes(clusters, n)
    mean = float(x.mean())
    sums = np.bincount(codes, x - mean)
    g = len(sums)
    if g < 2:
        return Mean(mean, float("nan"), -np.inf, np.inf, n, g, 0.0)
    factor = g / (g - 1) if correction == "CR1" else 1.0
    se = float(np.sqrt(factor * (sums**2).sum())) / n
    width = critical_value(confidence, g - 1) * se
    return Mean(mean, se, mean - width, mean + width, n, g, g - 1.0)


def bounded_mean(values: ArrayLike, clusters: ArrayLike | None = None, confidence: float = 0.95) -> Mean:
    """`clustered_mean` of values from 0 to 1, with limits that stay within 0 and 1.

    Wilson's interval at the effective count p (1 - p) / SE^2 with t in place of z (Dean & Pagano 2015, J. Surv. Stat.
    Methodol. 3:484-503); at the number of clusters where SE is 0, since values that are all alike prove no certainty.

    Args:
        values: From 0 to 1, shape (n,).
        clusters, confidence: As for `clustered_mean`.

    Raises:
        UserError: As `clustered_mean`; or a value is below 0 or above 1.
    """
    x = np.asarray(values, dtype=np.float64)
    mean = clustered_mean(x, clusters, confidence)
    if not mean.n:
        return replace(mean, lower=0.0, upper=1.0)
    if x.min() < 0 or x.max() > 1:
        row = int(np.flatnonzero((x < 0) | (x > 1))[0])
        raise UserError(f"value {row + 1} of {mean.n} is {x[row]:g}; values from 0 to 1 are needed.")
    spread = mean.value * (1 - mean.value)
    effective = spread / mean.se**2 if mean.se > 0 and spread > 0 else float(mean.n_clusters)
    lower, upper = wilson(mean.value * effective, effective, confidence, mean.df)
    return replace(mean, lower=lower, upper=upper)


def cluster_codes(clusters: ArrayLike, n: int) -> IntArray:
    """Codes 0, 1, ... of n cluster labels.

    Raises:
        UserError: The number of labels differs, or one is missing.
    """
    labels = np.asarray(clusters)
    if labels.shape != (n,):
        raise UserError(
            f"there are {n} values and cluster labels of shape {labels.shape}; one label a value is needed."
        )
    codes, _ = pd.factorize(labels)
    if (codes < 0).any():
        raise UserError(f"value {int(np.flatnonzero(codes < 0)[0]) + 1} of {n} has no cluster label.")
    return np.asarray(codes, dtype=np.int64)


def sign_test_p(successes: int, n: int) -> float:
    """Exact two-sided binomial p-value against a share of one half: min(1, 2 P(X <= min(k, n - k))); 1 for n = 0."""
    if n == 0:
        return 1.0
    return min(1.0, 2.0 * float(special.bdtr(min(successes, n - successes), n, 0.5)))


def sign_flip_p(differences: ArrayLike, *, rounds: int = 9999, seed: int = 0) -> tuple[float, str]:
    """Two-sided p-value of the sign-flip permutation test that differences are symmetric about 0.

    Share of the sign flips with |sum s_i d_i| >= |sum d_i| (Fisher 1935, The design of experiments, section 21). Exact
    where the differences that are not 0 are all of one size (then binomial) or at most 16; otherwise sampled, the
    observed signs counted among the samples, (1 + hits) / (1 + rounds) (Phipson & Smyth 2010, SAGMB 9:39). From 20,000
    differences of several sizes on, the null distribution's normal limit with the variance sum d_i^2 is taken.

    Args:
        differences: Finite, shape (n,); sums over clusters where items come in clusters.
        rounds: Sampled sign flips.
        seed: Of the random signs.

    Returns:
        (p, method in words); p is NaN for n = 0 and 1 where every difference is 0.
    """
    d = np.asarray(differences, dtype=np.float64)
    if not len(d):
        return float("nan"), "no items"
    # Rounding must not make sizes differ, nor take the observed sum out of its own tail.
    tolerance = 1e-9 * float(np.abs(d).max())
    d = d[np.abs(d) > tolerance]
    n, size = len(d), np.abs(d)
    if not n:
        return 1.0, "no difference anywhere"
    if np.ptp(size) <= tolerance:
        return sign_test_p(int((d > 0).sum()), n), f"exact, binomial over {n} sign flips of one size"
    observed = abs(float(d.sum())) - tolerance * n**0.5
    if n <= _EXACT_FLIPS:
        sums = np.zeros(1)
        for step in size:
            sums = np.concatenate([sums - step, sums + step])
        return float((np.abs(sums) >= observed).mean()), f"exact over 2^{n} sign flips"
    if n >= _NORMAL_FLIPS:
        z = float(d.sum()) / float(np.sqrt((size**2).sum()))
        return float(two_sided_p(np.array([z]), float("inf"))[0]), f"normal limit of {n} sign flips"
    rng = np.random.default_rng(seed)
    step, hits = max(1, _BOOTSTRAP_CELLS // n), 0
    for start in range(0, rounds, step):
        flips = min(step, rounds - start)
        plus = np.unpackbits(rng.integers(256, size=(flips, -(-n // 8)), dtype=np.uint8), axis=1, count=n)
        hits += int((np.abs(2.0 * (plus @ size) - size.sum()) >= observed).sum())
    return (1 + hits) / (1 + rounds), f"{rounds} random sign flips, seed {seed}"


def bootstrap(
    statistic: Callable[[FloatArray], FloatArray],
    n_units: int | Sequence[int],
    *,
    rounds: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Bias-corrected and accelerated (BCa) interval by resampling units.

    A resample is how often each unit was drawn, so the statistic is computed for many resamples at once. Limits are
    the quantiles Phi(z0 + (z0 + z) / (1 - a (z0 + z))) of the resampled values, z0 from the share of them below the
    estimate (ties half), a = sum d^3 / (6 (sum d^2)^1.5) from the leave-one-out values (Efron 1987, JASA 82:171-185),
    d centred within each kind of unit where there are several (models and items, resampled independently).

    Args:
        statistic: Maps unit weights, shape (resamples, units), to values, shape (resamples,); NaN where undefined.
        n_units: Units (models, items), at least 2; or the numbers of several kinds of units, which then stand one
            kind after the other in the weights.
        rounds: Resamples, at least 1,000.
        confidence: Level.
        seed: Of the random numbers.

    Returns:
        (lower, upper, share of resamples where the statistic is undefined). The limits are NaN where the resampled
        values do not vary: they then say nothing about the error.

    Raises:
        UserError: Too few rounds or units.
    """
    if rounds < _MIN_ROUNDS:
        raise UserError(f"a bootstrap interval needs {_MIN_ROUNDS} rounds or more, not {rounds}.", code=2)
    sizes = (n_units,) if isinstance(n_units, int) else tuple(n_units)
    if min(sizes) < 2:
        raise UserError(f"a bootstrap needs 2 units or more, not {min(sizes)}.")
    rng = np.random.default_rng(seed)
    step = max(1, _BOOTSTRAP_CELLS // sum(sizes))
    values = np.concatenate(
        [
            statistic(np.hstack([_resamples(rng, min(step, rounds - start), size) for size in sizes]))
            for start in range(0, rounds, step)
        ]
    )
    estimate = float(statistic(np.ones((1, sum(sizes))))[0])
    defined = values[np.isfinite(values)]
    undefined = 1.0 - len(defined) / rounds
    if len(defined) < rounds / 2 or not np.isfinite(estimate) or np.ptp(defined) < 1e-12:
        return float("nan"), float("nan"), undefined
    below = ((defined < estimate - 1e-12).mean() + (defined <= estimate + 1e-12).mean()) / 2
    bias = float(special.ndtri(np.clip(below, 1 / rounds, 1 - 1 / rounds)))
    influence = np.concatenate([_influence(statistic, sizes, kind, step) for kind in range(len(sizes))])
    spread = float((influence**2).sum()) ** 1.5
    acceleration = float((influence**3).sum()) / (6 * spread) if spread > 0 else 0.0
    z = critical_value(confidence, float("inf"))
    shifted = bias + np.array([-z, z])
    levels = special.ndtr(bias + shifted / (1 - acceleration * shifted))
    lower, upper = np.quantile(defined, levels)
    return float(lower), float(upper), undefined


def _influence(statistic: Callable[[FloatArray], FloatArray], sizes: Sequence[int], kind: int, step: int) -> FloatArray:
    """Mean of the leave-one-out values less each of them, for the units of one kind."""
    values = []
    for start in range(0, sizes[kind], step):
        rows = np.arange(min(step, sizes[kind] - start))
        weight = np.ones((len(rows), sum(sizes)))
        weight[rows, sum(sizes[:kind]) + start + rows] = 0.0
        values.append(statistic(weight))
    left_out = np.concatenate(values)
    left_out = left_out[np.isfinite(left_out)]
    return np.asarray(left_out.mean() - left_out) if len(left_out) else left_out


def _resamples(rng: np.random.Generator, rounds: int, n_units: int) -> FloatArray:
    drawn = rng.integers(n_units, size=(rounds, n_units))
    drawn += np.arange(rounds)[:, None] * n_units
    counts = np.bincount(drawn.ravel(), minlength=rounds * n_units)
    return counts.reshape(rounds, n_units).astype(np.float64)
