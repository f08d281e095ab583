"""Which models are told apart, their rank ranges and groups, with a stated error rate."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, special

from evalkit.stats.votes import FloatArray, IntArray

BoolArray = NDArray[np.bool_]
SmallFloats = NDArray[np.float32]
RankMethod = Literal["family-wise", "false-discovery", "overlap"]

_DRAWS = 2_000
_MOST_DRAWS = 50_000
_FEW = 30.0  # degrees of freedom
_BLOCK = 100_000  # numbers at once: what a cache holds
_CLOSE = 0.1  # correlation
_SLACK = 0.95  # the list of large statistics reaches this far below the first critical value, for the later steps


def two_sided_p(statistic: FloatArray, df: float) -> FloatArray:
    """Two-sided p-value of a t statistic; `df` = infinity is the normal distribution, 0 never rejects."""
    if not df > 0:
        return np.ones_like(statistic)
    magnitude = -np.abs(statistic)
    tail = special.ndtr(magnitude) if np.isinf(df) else special.stdtr(df, magnitude)
    return np.asarray(2.0 * tail, dtype=np.float64)


def critical_value(confidence: float, df: float) -> float:
    """Two-sided critical value of the t distribution; infinite df is the normal, 0 gives infinity."""
    if not df > 0:
        return float("inf")
    upper = 0.5 + confidence / 2.0
    return float(special.ndtri(upper) if np.isinf(df) else special.stdtrit(df, upper))


def rank_words(method: RankMethod, alpha: float, df: float) -> str:
    """What the rank ranges of `told_apart` mean, for printing beside them."""
    steps = "Holm" if df < _FEW else "max-t"
    return {
        "family-wise": f"tests of all pairwise differences, {steps} step-down, family-wise error {alpha:.0%}",
        "false-discovery": (
            f"tests of all pairwise differences, Benjamini-Hochberg: {alpha:.0%} of the orderings found are wrong on "
            "average; no bound for a single range"
        ),
        "overlap": f"legacy rule: whether the {1.0 - alpha:.0%} intervals overlap; no stated error rate",
    }[method]


def told_apart(
    rating: FloatArray,
    covariance: FloatArray,
    df: float,
    alpha: float,
    method: RankMethod = "family-wise",
    seed: int = 0,
    deviations: FloatArray | None = None,
) -> BoolArray:
    """Which models are found better than which others.

    With t_ij = (r_i - r_j) / sqrt(C_ii + C_jj - 2 C_ij):

    - `family-wise`: the hypotheses "i is no better than j", for all ordered pairs, by max-t step-down (Romano & Wolf
      2005, J. Amer. Statist. Assoc. 100:94-108): reject t_ij above the 1 - alpha quantile of the largest t among the
      hypotheses not yet rejected, and repeat until none is rejected. The chance of one or more wrong orderings is at
      most alpha. Ordered pairs, so that a significant difference of the wrong sign is an error too. The quantile is
      simulated with a seed: 2,000 draws from N(0, C) (100 / alpha, at most 50,000, for a small alpha). With finite
      `df`, t is first turned into the normal deviate of the same p-value, as every pair has an error estimate of its
      own; below 30, where C is too uncertain to simulate from, the quantile is Bonferroni's (Holm 1979, Scand. J.
      Statist. 6:65-70).
    - `false-discovery`: Benjamini & Hochberg (1995, J. R. Statist. Soc. B 57:289-300) over the two-sided tests of all
      pairs: of the orderings found, a share of at most alpha is wrong in expectation (proven for independent or
      positively dependent tests). That is a statement about all orderings together, none about one model's range.
    - `overlap`: the legacy rule: i is better than j if i's interval lies above j's. Its error rate is not stated; an
      interval without width says nothing about the error and counts as overlapping.

    Args:
        rating: Shape (m,); NaN for a model that cannot be placed, which then is neither better nor worse than any.
        covariance: Shape (m, m), in squared units of `rating`. A shift common to all models changes nothing.
        df: Degrees of freedom of the t statistics (infinity: normal).
        alpha: Error rate.
        method: See above.
        seed: Of the simulation.
        deviations: Bootstrap estimates minus `rating`, shape (rounds, m), in place of the simulation.

    Returns:
        Shape (m, m), True where the row is found better than the column.
    """
    better = np.zeros((len(rating), len(rating)), dtype=np.bool_)
    placed = np.flatnonzero(np.isfinite(rating))
    if len(placed) < 2 or not df > 0:
        return better
    whole = len(placed) == len(rating)
    inside = covariance if whole else covariance[np.ix_(placed, placed)]
    # Errors common to all models, such as an anchor's, cancel in every difference.
    mean = inside.mean(axis=0)
    centred = inside - mean - (mean - mean.mean())[:, None]
    if method == "overlap":
        width = critical_value(1.0 - alpha, df) * np.sqrt(np.maximum(np.diag(centred), 0.0))
        width[width <= 1e-6 * max(float(width.max()), 1.0)] = np.inf
        found = np.greater.outer(rating[placed] - width, rating[placed] + width)
    else:
        precision = _pair_precision(centred)
        statistic = np.subtract.outer(rating[placed], rating[placed]) * precision
        if method == "false-discovery":
            found = _benjamini_hochberg(statistic, precision > 0, df, alpha)
        else:
            draws = None
            if deviations is not None:
                draws = deviations[:, placed].astype(np.float32)
                draws -= draws.mean(axis=1, keepdims=True)
            if np.isfinite(df):
                statistic = -np.sign(statistic) * special.ndtri(two_sided_p(statistic, df) / 2.0)
            if df < _FEW:
                found = _holm(statistic, precision > 0, alpha)
            else:
                found = _step_down(statistic, precision, centred, alpha, seed, draws)
    if whole:
        return found
    better[np.ix_(placed, placed)] = found
    return better


def ranks_of(better: BoolArray) -> tuple[IntArray, IntArray]:
    """Best and worst rank each model may hold, 1 is best: 1 + the models found better, m - those found worse.

    If no ordering in `better` is wrong, every range covers its model's true rank (Mogstad, Romano, Shaikh & Wilhelm
    2024, Rev. Econ. Stud. 91:476-518).
    """
    return 1 + better.sum(axis=0, dtype=np.int64), len(better) - better.sum(axis=1, dtype=np.int64)


def rank_ranges(
    rating: FloatArray,
    covariance: FloatArray,
    df: float,
    alpha: float,
    method: RankMethod = "family-wise",
    seed: int = 0,
) -> tuple[IntArray, IntArray]:
    """(rank_low, rank_high) of each model, each of shape (m,): `ranks_of` what `told_apart` finds."""
    return ranks_of(told_apart(rating, covariance, df, alpha, method, seed))


def significance_groups(better: BoolArray) -> tuple[tuple[int, ...], ...]:
    """Groups of models not told apart: two models share a group if, and only if, neither is found better.

    The compact letter display (Piepho 2004, J. Comput. Graph. Statist. 13:456-466), each group as large as it can be,
    found by growing cliques (Gramm et al. 2007, J. Comput. Graph. Statist. 16:285-305). A model may be in several.

    Args:
        better: As `told_apart` returns, models in the order of the board, best first.

    Returns:
        Groups of positions, each in order, the group with the best model first.
    """
    alike = ~(better | better.T)
    uncovered = alike.copy()
    groups = []
    for first in range(len(better)):
        while uncovered[first].any():
            group = [first, int(np.argmax(uncovered[first]))]
            candidates = alike[group[0]] & alike[group[1]]
            # Models that still lack a shared group with the first one come first, in the order of the board.
            for other in np.flatnonzero(candidates)[np.argsort(~uncovered[first][candidates], kind="stable")].tolist():
                if candidates[other]:
                    group.append(other)
                    candidates &= alike[other]
            members = np.unique(group)
            uncovered[np.ix_(members, members)] = False
            groups.append(tuple(members.tolist()))
    return tuple(sorted(groups))


def _pair_precision(covariance: FloatArray) -> FloatArray:
    """1 / standard error of every difference; 0 where it has no sampling variation, as it then decides nothing."""
    variance = np.diag(covariance)
    total = np.add.outer(variance, variance)
    squared = total - 2.0 * covariance
    testable = squared > 1e-12 * total
    np.fill_diagonal(testable, False)
    return np.asarray(np.divide(1.0, np.sqrt(squared, where=testable, out=squared), where=testable, out=total * 0.0))


def _benjamini_hochberg(statistic: FloatArray, testable: BoolArray, df: float, alpha: float) -> BoolArray:
    i, j = _true_at(np.triu(testable))
    p = two_sided_p(statistic[i, j], df)
    passes = np.sort(p) <= alpha * np.arange(1, len(p) + 1) / len(p)
    last = np.flatnonzero(passes)
    if not len(last):
        return np.zeros_like(testable)
    limit = np.sort(p)[last[-1]]
    return np.asarray(testable & (statistic > 0) & (two_sided_p(statistic, df) <= limit))


def _holm(statistic: FloatArray, testable: BoolArray, alpha: float) -> BoolArray:
    active, found = testable.copy(), np.zeros_like(testable)
    while active.any():
        rejected = active & (statistic > -special.ndtri(alpha / active.sum()))
        if not rejected.any():
            break
        found |= rejected
        active &= ~rejected
    return found


def _step_down(
    statistic: FloatArray,
    precision: FloatArray,
    covariance: FloatArray,
    alpha: float,
    seed: int,
    draws: SmallFloats | None,
) -> BoolArray:
    active = precision > 0
    found = np.zeros_like(active)
    if not active.any():
        return found
    if draws is None:
        draws = _draw(covariance, int(np.clip(100.0 / alpha, _DRAWS, _MOST_DRAWS)), seed)
    place = int(np.ceil((1.0 - alpha) * (len(draws) + 1))) - 1
    if place >= len(draws):  # too few draws for such an error rate
        return found
    tail = _Tail(draws, precision, covariance)
    floor = _SLACK * float(np.partition(tail.at_least(), place)[place])
    tail.list_above(floor, active)
    while active.any():
        largest = np.partition(tail.largest(active), place)[place]
        while largest <= tail.floor and tail.floor > 0:
            tail.list_above(tail.floor * _SLACK if tail.floor > 0.1 else 0.0, active)
            largest = np.partition(tail.largest(active), place)[place]
        rejected = active & (statistic > largest)
        if not rejected.any():
            break
        found |= rejected
        active &= ~rejected
    return found


@lru_cache(maxsize=2)
def _normals(draws: int, models: int, seed: int) -> SmallFloats:
    """Kept between calls: a live board asks for the same ones at every refresh."""
    return np.random.default_rng(seed).standard_normal((draws, models), dtype=np.float32)


def _draw(covariance: FloatArray, draws: int, seed: int) -> SmallFloats:
    """Draws from N(0, C), up to a shift common to all models, shape (draws, m)."""
    m = len(covariance)
    # The shift makes a covariance of differences invertible.
    shifted = covariance + np.trace(covariance) / m**2
    try:
        root = linalg.cholesky(shifted, lower=False, check_finite=False)
    except linalg.LinAlgError:  # fewer clusters than models
        values, vectors = linalg.eigh(covariance, check_finite=False)
        root = (vectors * np.sqrt(np.maximum(values, 0.0))).T
        drawn = _normals(draws, m, seed) @ root.astype(np.float32)
    else:
        root = np.asfortranarray(root, dtype=np.float32)
        drawn = linalg.blas.strmm(1.0, root, _normals(draws, m, seed).T, trans_a=1).T  # a triangle: half the work
    return np.asarray(drawn, dtype=np.float32)


class _Tail:
    """The large values of (z_i - z_j) / SE_ij among simulated draws, found without computing them all.

    With x_i = z_i / SD_i and r the correlation of i and j, (z_i - z_j)^2 / SE_ij^2 <= (x_i^2 + x_j^2) / (1 - max(r,
    0)) by Cauchy-Schwarz; so a value above c needs a model with |x| >= c sqrt((1 - r) / 2), and few have one. The most
    correlated pairs are computed one by one, so that r is the largest correlation of the others.
    """

    def __init__(self, draws: SmallFloats, precision: FloatArray, covariance: FloatArray) -> None:
        m = len(precision)
        self.draws = draws
        self.precision = precision.astype(np.float32)
        deviation = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        inverse = np.divide(1.0, deviation, where=deviation > 0, out=np.zeros(m))
        self.standard = draws * inverse.astype(np.float32)
        correlation = np.triu(covariance * inverse * inverse[:, None], 1)
        above = correlation[correlation > _CLOSE]
        limit = correlation[correlation <= _CLOSE].max() if len(above) <= 2 * m else np.partition(above, -2 * m)[-2 * m]
        self.correlation = min(max(float(limit), 0.0), 1.0)
        self.close = _true_at(correlation > self.correlation)
        self.floor = np.inf

    def at_least(self) -> SmallFloats:
        """A lower bound of each draw's largest value: that of its two most extreme models."""
        row = np.arange(len(self.draws))
        top, bottom = np.argmax(self.standard, axis=1), np.argmin(self.standard, axis=1)
        gap = self.draws[row, top] - self.draws[row, bottom]
        return np.asarray(gap * self.precision[top, bottom], dtype=np.float32)

    def list_above(self, floor: float, active: BoolArray) -> None:
        """List the active values above `floor`."""
        self.floor = floor
        listed = []
        i, j = _true_at(np.triu(active | active.T))
        if len(i) * len(self.draws) <= 20 * _BLOCK or floor <= 0.0:
            listed.append(self._pairs(i, j))
        else:
            listed.append(self._pairs(*self.close))
            needed = floor * np.sqrt((1.0 - self.correlation) / 2.0)
            draw, model = _true_at(np.abs(self.standard) >= np.float32(needed * (1.0 - 1e-5)))
            for rows in _blocks(len(draw), self.draws.shape[1]):
                k, i = draw[rows], model[rows]
                gap = self.draws[k]
                np.subtract(self.draws[k, i][:, None], gap, out=gap)
                gap *= self.precision[i]
                row, j = _true_at(np.abs(gap) > floor)
                listed.append((k[row], i[row], j, gap[row, j]))
        draw, first, second, value = (np.concatenate([part[k] for part in listed]) for k in range(4))
        turned = value < 0
        self.draw, self.value = draw, np.abs(value)
        self.better, self.worse = np.where(turned, second, first), np.where(turned, first, second)

    def _pairs(self, i: IntArray, j: IntArray) -> tuple[IntArray, IntArray, IntArray, SmallFloats]:
        parts = []
        by_model = self.draws.T.copy() if len(i) else self.draws.T
        for rows in _blocks(len(i), len(self.draws)):
            gap = (by_model[i[rows]] - by_model[j[rows]]) * self.precision[i[rows], j[rows]][:, None]
            pair, draw = _true_at(np.abs(gap) > self.floor)
            parts.append((draw, i[rows][pair], j[rows][pair], gap[pair, draw]))
        if not parts:
            parts = [(i[:0], i[:0], i[:0], np.zeros(0, dtype=np.float32))]
        draw, first, second, value = (np.concatenate([part[k] for part in parts]) for k in range(4))
        return draw, first, second, value

    def largest(self, active: BoolArray) -> SmallFloats:
        """Each draw's largest active value; 0 where none is on the list."""
        largest = np.zeros(len(self.draws), dtype=np.float32)
        kept = active[self.better, self.worse]
        np.maximum.at(largest, self.draw[kept], self.value[kept])
        return largest


def _true_at(mask: BoolArray) -> tuple[IntArray, IntArray]:
    """Rows and columns where `mask` is true; quicker than `np.nonzero` where few are."""
    rows, columns = np.divmod(np.flatnonzero(mask), mask.shape[1] or 1)
    return rows, columns


def _blocks(length: int, width: int) -> list[slice]:
    step = max(1, _BLOCK // max(width, 1))
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]
