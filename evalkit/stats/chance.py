"""Agreement beyond chance: Cohen's and Fleiss' kappa, Gwet's AC1, Krippendorff's alpha, each with an interval.

Every coefficient is 1 - D_o / D_e, observed over expected disagreement. Its standard error is the delta method's
(`delta.clustered_se`) with the derivatives given at each function, summed within clusters; its limits are set on the
logarithm of the ratio (`delta.ratio_interval`). No resampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from evalkit.errors import UserError
from evalkit.stats.delta import cluster_codes, clustered_se, ratio_interval
from evalkit.stats.intervals import wilson
from evalkit.stats.votes import FloatArray, IntArray

Weights = Literal["unweighted", "linear", "quadratic"]
Level = Literal["nominal", "ordinal", "interval"]


@dataclass(frozen=True)
class Coefficient:
    """A chance-corrected agreement.

    Attributes:
        value: 1 for full agreement, 0 for that expected by chance; NaN where chance alone leaves no disagreement.
        se, lower, upper: Standard error and confidence limits.
        observed, expected: Observed and expected disagreement, D_o and D_e.
        n: Items, failures included.
        n_failed: Of these, items with fewer than two readable ratings: not in the value.
        n_clusters: Independent groups of items.
        method: What was computed, in words.
        warnings: Sentences.
    """

    value: float
    se: float
    lower: float
    upper: float
    observed: float
    expected: float
    n: int
    n_failed: int
    n_clusters: int
    method: str
    warnings: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """One row with the fields above, without the warnings."""
        return pd.DataFrame([{name: value for name, value in asdict(self).items() if name != "warnings"}])


def cohen_kappa(
    a: Any,
    b: Any,
    *,
    weights: Weights = "unweighted",
    categories: Sequence[Any] | None = None,
    clusters: Any = None,
    confidence: float = 0.95,
) -> Coefficient:
    """Cohen's kappa of two raters.

    kappa = 1 - sum_ij d_ij p_ij / sum_ij d_ij p_i. p_.j with d_ij = 1 for i != j (Cohen 1960, Educ. Psychol. Meas.
    20:37-46), |i - j| or (i - j)^2, i and j the places of the categories (Cohen 1968, Psychol. Bull. 70:213-220).
    Without clusters the standard error is that of Fleiss, Cohen & Everitt 1969, Psychol. Bull. 72:323-327, times
    sqrt(n / (n - 1)).

    Args:
        a, b: Labels, shape (n,); None, NaN or an empty text is a missing rating.
        weights: Of a disagreement.
        categories: All categories in order; None for the sorted labels found. A scale with steps that nobody used
            needs them for the weighted kappas.
        clusters: Item of each pair of ratings, shape (n,); None for independent pairs.
        confidence: Level.

    Raises:
        UserError: The lengths differ, a label is none of `categories`, or a cluster label is missing.
    """
    both = _matrix([a, b], "the two raters").T
    codes, labels = _codes(both, categories)
    where = cluster_codes(clusters, len(codes))
    return kappa_of_codes(codes[:, 0], codes[:, 1], len(labels), where, weights=weights, confidence=confidence)


def kappa_of_codes(
    x: IntArray,
    y: IntArray,
    q: int,
    clusters: IntArray,
    *,
    weights: Weights = "unweighted",
    confidence: float = 0.95,
) -> Coefficient:
    """`cohen_kappa` of codes from 0 to q - 1, -1 a missing rating; shape (n,) each.

    Influence of a pair (i, j): (D_o / D_e (r_i + c_j - 2 D_e) - (d_ij - D_o)) / (n D_e), r_i = sum_k d_ik p_.k and
    c_j = sum_k d_kj p_k.
    """
    rated = (x >= 0) & (y >= 0)
    n = int(rated.sum())
    cell = (x * q + y)[rated]
    apart = np.abs(np.subtract.outer(np.arange(q), np.arange(q))).astype(np.float64)
    weight = {"unweighted": np.sign(apart), "linear": apart, "quadratic": apart**2}[weights]
    p = np.bincount(cell, minlength=q * q).reshape(q, q) / max(n, 1)
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    observed, expected = float((weight * p).sum()), float(rows @ weight @ columns)
    ratio = observed / expected if expected > 0 else float("nan")
    pull = (weight @ columns)[:, None] + (rows @ weight)[None, :] - 2 * expected
    influence = ((ratio * pull - (weight - observed)) / (max(n, 1) * expected)).ravel()[cell] if expected > 0 else None
    name = "Cohen's kappa" if weights == "unweighted" else f"Cohen's kappa with {weights} weights"
    return _coefficient(
        name, observed, expected, influence, clusters[rated], len(x), n, 1 - float(rows @ columns), confidence
    )


def fleiss_kappa(ratings: Any, *, clusters: Any = None, confidence: float = 0.95) -> Coefficient:
    """Fleiss' kappa of several raters, for items with unequal numbers of ratings too.

    kappa = (P_o - P_e) / (1 - P_e), P_o the mean over items with two ratings or more of the share of agreeing pairs,
    P_e = sum_c pi_c^2, pi_c the mean over items of the share of ratings in category c (Fleiss 1971, Psychol. Bull.
    76:378-382; for missing ratings Gwet 2014, Handbook of Inter-Rater Reliability, 4th edition, chapter 2). The
    standard error linearises P_e too (Gwet 2021, Educ. Psychol. Meas. 81:781-790).

    Args:
        ratings: Labels, shape (items, raters); None, NaN or an empty text is missing.
        clusters: Labels that group items, shape (items,); None for independent items.
        confidence: Level.

    Raises:
        UserError: `ratings` is no table, or a cluster label is missing.
    """
    codes, labels = _codes(_matrix(ratings, "the ratings"), None)
    return _pairwise("Fleiss' kappa", codes, len(labels), clusters, confidence)


def gwet_ac1(
    ratings: Any, *, categories: Sequence[Any] | None = None, clusters: Any = None, confidence: float = 0.95
) -> Coefficient:
    """Gwet's AC1 of two raters or more: agreement beyond chance that stays meaningful where one category prevails.

    AC1 = (P_o - P_e) / (1 - P_e), P_o as in `fleiss_kappa`, P_e = sum_c pi_c (1 - pi_c) / (q - 1) for q categories
    (Gwet 2008, Br. J. Math. Stat. Psychol. 61:29-48, with its linearised standard error).

    Args:
        ratings: Labels, shape (items, raters); None, NaN or an empty text is missing.
        categories: All q categories; None for those found.
        clusters: Labels that group items, shape (items,); None for independent items.
        confidence: Level.

    Raises:
        UserError: `ratings` is no table, a label is none of `categories`, or a cluster label is missing.
    """
    codes, labels = _codes(_matrix(ratings, "the ratings"), categories)
    return _pairwise("Gwet's AC1", codes, len(labels), clusters, confidence)


def krippendorff_alpha(
    ratings: Any,
    *,
    level: Level = "nominal",
    categories: Sequence[Any] | None = None,
    clusters: Any = None,
    confidence: float = 0.95,
) -> Coefficient:
    """Krippendorff's alpha of two raters or more, with missing ratings.

    alpha = 1 - (n - 1) A / B over the n ratings of the units u with m_u >= 2 ratings: A = sum_u sum_{i,j in u}
    delta(v_i, v_j) / (m_u - 1), B = sum over all pairs of delta (Krippendorff 2011, "Computing Krippendorff's
    alpha-reliability"). delta is 1 for unlike values (nominal), (v - w)^2 (interval), or that on mid-ranks (ordinal:
    the sum of the ratings between two categories, half of each end, is the difference of their mid-ranks). Influence of
    a unit on log(1 - alpha): dA / A - dB / B + m_u / (n - 1), the mid-ranks' own change included.

    Args:
        ratings: Values, shape (items, raters); None, NaN or an empty text is missing. Ordinal and
            interval need numbers.
        level: Of measurement.
        categories: For texts on an ordinal scale: all categories in order.
        clusters: Labels that group items, shape (items,); None for independent items.
        confidence: Level.

    Raises:
        UserError: `ratings` is no table, holds texts at a level that needs numbers, a label that is none of
            `categories`, or a cluster label is missing.
    """
    matrix = _matrix(ratings, "the ratings")
    codes, labels = _codes(matrix, categories)
    if level != "nominal" and (level == "interval" or categories is None):
        try:
            labels = [float(label) for label in labels]
        except (TypeError, ValueError):
            wanted = "numbers" if level == "interval" else "numbers, or the categories in order"
            raise UserError(
                f"the ratings are texts ({labels[0]!r}, ...); at the {level} level give {wanted}."
            ) from None
        order = np.argsort(labels)
        codes = np.where(codes >= 0, np.argsort(order)[codes], -1)
        labels = [labels[i] for i in order]
    where = cluster_codes(clusters, len(codes))
    m = (codes >= 0).sum(axis=1)
    used = np.flatnonzero(m >= 2)
    q, n_items = len(labels), len(codes)
    rating = (codes[used] >= 0).ravel()
    value = codes[used].ravel()[rating]  # the ratings of the used units, one after another
    unit = np.repeat(np.arange(len(used)), codes.shape[1])[rating]
    size = m[used].astype(np.float64)
    n, count = float(size.sum()), np.bincount(value, minlength=q).astype(np.float64)
    unlike = 1 - float(count @ count) / max(n, 1.0) ** 2

    def total(x: FloatArray) -> FloatArray:
        return np.bincount(unit, x, minlength=len(used)).astype(np.float64)

    if level == "nominal":
        kinds, same = np.unique(unit * max(q, 1) + value, return_counts=True)
        equal = np.bincount(kinds // max(q, 1), same.astype(np.float64) ** 2, minlength=len(used))
        d_a = (size**2 - equal) / (size - 1)
        b = n**2 - float(count @ count)
        d_b = 2 * n * size - 2 * total(count[value])
    else:
        scale = np.cumsum(count) - count / 2 if level == "ordinal" else np.asarray(labels, dtype=np.float64)
        scale = scale - (count @ scale) / max(n, 1.0)  # the same alpha, and no digits lost far from 0
        v = scale[value]
        s, square = total(v), total(v**2)
        d_a = (2 * size * square - 2 * s**2) / (size - 1)
        b = 2 * n * float(square.sum())
        d_b = 2 * size * float(square.sum()) + 2 * n * square
        if level == "ordinal":
            pull = 4 * (size[unit] * v - s[unit]) / (size - 1)[unit]
            slope_a = np.bincount(value, pull, minlength=q).astype(np.float64)
            slope_b = 4 * n * count * scale
            d_b += total(_from_above(slope_b)[value])
            moved = total(_from_above(slope_a)[value])
    a = float(d_a.sum())
    observed, expected = a / max(n, 1.0), b / max(n * (n - 1), 1.0)
    influence = None
    if a > 0 and b > 0:
        step = d_a / a - d_b / b + size / (n - 1) + (moved / a if level == "ordinal" else 0.0)
        influence = -(observed / expected) * (step - step.mean())
    return _coefficient(
        f"Krippendorff's alpha ({level})",
        observed,
        expected,
        influence,
        where[used],
        n_items,
        len(used),
        unlike,
        confidence,
    )


def _from_above(slope: FloatArray) -> FloatArray:
    """What one more rating in a category changes through the mid-ranks: all above it move by 1, its own by 1/2."""
    return np.asarray(np.cumsum(slope[::-1])[::-1] - slope / 2, dtype=np.float64)


def _pairwise(name: str, codes: IntArray, q: int, clusters: Any, confidence: float) -> Coefficient:
    where = cluster_codes(clusters, len(codes))
    n_items = len(codes)
    cells = (np.arange(n_items)[:, None] * q + codes)[codes >= 0]
    count = np.bincount(cells, minlength=n_items * q).reshape(n_items, q).astype(np.float64)
    r = count.sum(axis=1)
    rated, used = r >= 1, r >= 2
    share = count[rated] / r[rated, None]
    pi = share.mean(axis=0) if rated.any() else np.zeros(q)
    agree = (count[used] * (count[used] - 1)).sum(axis=1) / (r[used] * (r[used] - 1))
    observed = 1 - float(agree.mean()) if used.any() else float("nan")
    if name == "Fleiss' kappa":
        by_chance, slope = float(pi @ pi), 2 * pi
    else:
        by_chance, slope = (float(pi @ (1 - pi)) / (q - 1), (1 - 2 * pi) / (q - 1)) if q > 1 else (1.0, pi)
    expected = 1 - by_chance
    influence = None
    if used.any() and expected > 0:
        step = np.zeros(n_items)
        step[used] = (agree - agree.mean()) / used.sum()
        step[rated] -= observed / expected * ((share - pi) @ slope) / rated.sum()
        influence = step[rated] / expected
    return _coefficient(
        name, observed, expected, influence, where[rated], n_items, int(used.sum()), expected, confidence
    )


def _coefficient(
    name: str,
    observed: float,
    expected: float,
    influence: FloatArray | None,
    clusters: IntArray,
    n: int,
    n_used: int,
    unlike: float,
    confidence: float,
) -> Coefficient:
    """`unlike`: the chance that two ratings differ."""
    warnings = []
    value = se = lower = upper = float("nan")
    g = 0 if not n_used else len(np.unique(clusters))
    if not n_used:
        warnings.append("No item has two readable ratings.")
    elif not expected > 1e-12:
        warnings.append("All ratings are of one category: agreement beyond chance cannot be measured.")
    elif observed <= 1e-12:
        # Without one disagreement no standard error can be seen: Wilson's limit for the items that may disagree.
        value, se, upper = 1.0, 0.0, 1.0
        lower = 1 - wilson(0, g, confidence)[1] / unlike
        warnings.append("There is no disagreement; the lower limit is Wilson's for the share of items that may differ.")
    elif influence is not None:
        value = 1 - observed / expected
        se, g = clustered_se(influence, clusters)
        lower, upper = ratio_interval(value, se, g, confidence)
        if g < 2:
            warnings.append("All items are of one cluster: there is no interval.")
        elif se == 0:
            lower = upper = float("nan")
            warnings.append("Nothing varies, as where one side always says the same: there is no interval.")
    if n - n_used:
        warnings.append(f"{n - n_used} of {n} items have fewer than two readable ratings; they are in n only.")
    method = f"{name}; delta-method interval on the log of observed over expected disagreement, {g} clusters"
    return Coefficient(value, se, lower, upper, observed, expected, n, n - n_used, g, method, tuple(warnings))


def _matrix(ratings: Any, what: str) -> np.ndarray[Any, Any]:
    if isinstance(ratings, pd.DataFrame):
        return ratings.to_numpy()
    try:
        matrix = np.asarray([np.asarray(row) for row in ratings] if isinstance(ratings, list) else ratings)
    except ValueError:
        raise UserError(f"{what} differ in length; each rating needs its place.") from None
    if matrix.ndim != 2:
        raise UserError(f"{what} have the shape {matrix.shape}; a table (items, raters) is needed.")
    return matrix


def _codes(matrix: np.ndarray[Any, Any], categories: Sequence[Any] | None) -> tuple[IntArray, list[Any]]:
    """Codes (missing is -1) of the same shape, and the categories in order."""
    flat = pd.Series(matrix.ravel())
    if flat.dtype.kind not in "iufb":
        text = flat.map(lambda label: isinstance(label, str) and not label.strip()).to_numpy(dtype=bool)
        flat = flat.where(~text, None)
    codes, found = pd.factorize(flat)
    labels = list(found)
    if categories is not None:
        place = {label: i for i, label in enumerate(categories)}
        strange = [label for label in labels if label not in place]
        if strange:
            raise UserError(f"the rating {strange[0]!r} is none of the categories {', '.join(map(str, categories))}.")
        order, labels = np.array([*(place[label] for label in labels), -1]), list(categories)
    else:
        ranked = sorted(range(len(labels)), key=lambda i: (isinstance(labels[i], str), labels[i]))
        order = np.empty(len(labels) + 1, dtype=np.int64)
        order[ranked], order[-1] = np.arange(len(labels)), -1
        labels = [labels[i] for i in ranked]
    return np.asarray(order[codes], dtype=np.int64).reshape(matrix.shape), labels
