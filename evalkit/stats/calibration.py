"""Whether a stated probability is the share of times that come true, and scaling that makes it so."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special

from evalkit.errors import UserError
from evalkit.stats.delta import cluster_codes, clustered_se, mean_interval
from evalkit.stats.intervals import wilson
from evalkit.stats.votes import FloatArray, IntArray

Scaling = Literal["platt", "isotonic"]
_NUMBERS = ("ece", "ece_lower", "ece_upper", "ece_plain", "brier", "brier_lower", "brier_upper", "calibrated_p")
_NEVER = 1e-6  # logit of a probability of 0 or 1


@dataclass(frozen=True)
class Bin:
    """One point of a reliability curve.

    Attributes:
        low, high: Its limits; a probability on a limit belongs to the bin below.
        probability: Mean of the stated probabilities.
        share, lower, upper: Share that came true with Wilson's interval.
        n: Cases.
    """

    low: float
    high: float
    probability: float
    share: float
    lower: float
    upper: float
    n: int


@dataclass(frozen=True)
class ReliabilityCurve:
    """How well stated probabilities are calibrated.

    Attributes:
        ece, ece_lower, ece_upper: Expected calibration error over the bins, bias removed, 0 to 1.
        ece_plain: The same before the bias is removed: it is above 0 even for perfect calibration.
        brier, brier_lower, brier_upper: Mean squared difference of probability and outcome.
        calibrated_p: p-value of the test that every bin is calibrated; NaN where it cannot be made.
        n: Cases, failures included.
        n_failed: Cases without a probability or an outcome: in no number.
        n_clusters: Independent groups of cases.
        bins: The reliability curve.
        method: In words.
        warnings: Sentences.
    """

    ece: float
    ece_lower: float
    ece_upper: float
    ece_plain: float
    brier: float
    brier_lower: float
    brier_upper: float
    calibrated_p: float
    n: int
    n_failed: int
    n_clusters: int
    bins: tuple[Bin, ...]
    method: str
    warnings: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """The reliability curve, one row a bin."""
        return pd.DataFrame([asdict(point) for point in self.bins], columns=list(Bin.__dataclass_fields__))


@dataclass(frozen=True, eq=False)
class Platt:
    """Logistic scaling: p -> 1 / (1 + exp(-(slope logit(p) + intercept)))."""

    slope: float
    intercept: float

    def __call__(self, probability: ArrayLike) -> FloatArray:
        """Scaled probabilities, same shape."""
        return np.asarray(special.expit(self.slope * _logit(probability) + self.intercept), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Isotonic:
    """A step-free rising curve through `x` (stated) and `y` (scaled); straight between points, flat outside."""

    x: FloatArray
    y: FloatArray

    def __call__(self, probability: ArrayLike) -> FloatArray:
        """Scaled probabilities, same shape."""
        return np.asarray(np.interp(np.asarray(probability, dtype=np.float64), self.x, self.y), dtype=np.float64)


@dataclass(frozen=True)
class Recalibration:
    """What scaling does to cases that it was not fitted on.

    Attributes:
        scaling: The fitted curve: call it on probabilities.
        before, after: Reliability of the held-out half as stated and scaled.
        n: Cases, failures included.
        n_failed: Cases without a probability or an outcome.
        n_fit: Cases that the scaling was fitted on.
        method: In words.
        warnings: Sentences.
    """

    scaling: Platt | Isotonic
    before: ReliabilityCurve
    after: ReliabilityCurve
    n: int
    n_failed: int
    n_fit: int
    method: str
    warnings: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """Two rows, stated and scaled: ece, brier with their limits, n."""
        names = ("ece", "ece_lower", "ece_upper", "brier", "brier_lower", "brier_upper", "n")
        both = (("stated", self.before), ("scaled", self.after))
        return pd.DataFrame(
            [{"probability": label, **{name: getattr(found, name) for name in names}} for label, found in both]
        )


def reliability_curve(
    probability: ArrayLike,
    outcome: ArrayLike,
    *,
    bins: int = 10,
    clusters: Any = None,
    confidence: float = 0.95,
) -> ReliabilityCurve:
    """Reliability curve, expected calibration error and Brier score.

    Bins of equal mass (equal probabilities share a bin). d_b is the mean of outcome minus probability in bin b, w_b its
    share of the cases, s_b its standard error, clustered and no less than a calibrated bin's. ECE = sum_b w_b |d_b|
    (Naeini, Cooper & Hauskrecht 2015, AAAI) is too high by about sum_b w_b (E|N(d_b, s_b^2)| - |d_b|), with a folded
    normal's mean, which is taken off (the debiasing of Kumar, Liang & Ma 2019, "Verified uncertainty calibration", in
    closed form). Its limits are the delta method's, clustered; the lower one is 0 unless Hotelling's T^2 test rejects
    that all d_b are 0, because the delta method fails there. Brier: mean of (p - y)^2 (Brier 1950) with the clustered t
    interval.

    Args:
        probability: 0 to 1, NaN for a case that has none, shape (n,).
        outcome: 0 or 1 (or booleans), NaN for a case that has none, shape (n,).
        bins: At most so many.
        clusters: Item of each case, shape (n,); None for independent cases.
        confidence: Level.

    Raises:
        UserError: A probability is outside 0 to 1, an outcome is neither 0 nor 1, or the lengths differ.
    """
    p, y, where, n_all = _cases(probability, outcome, clusters)
    n, failed = len(p), n_all - len(p)
    g = int(np.count_nonzero(np.bincount(where)))
    warnings = [f"{failed} of {n_all} cases have no probability or no outcome; they are in n only."] if failed else []
    method = (
        f"bins of equal mass, at most {bins}; ECE with its bias removed; intervals by the delta method, {g} clusters; "
        "Wilson's for each bin"
    )
    if not n:
        warnings.append("No case has both a probability and an outcome.")
        nothing: dict[str, Any] = dict.fromkeys(_NUMBERS, float("nan"))
        return ReliabilityCurve(
            **nothing, n=n_all, n_failed=failed, n_clusters=0, bins=(), method=method, warnings=tuple(warnings)
        )
    edges = np.unique(np.quantile(p, np.linspace(0, 1, bins + 1)[1:-1]))
    place = np.searchsorted(edges, p)
    filled = np.bincount(place, minlength=len(edges) + 1) > 0
    place = (np.cumsum(filled) - 1)[place]
    low, high = np.array([p.min(), *edges])[filled], np.array([*edges, p.max()])[filled]
    size = np.bincount(place).astype(np.float64)
    b = len(size)
    share, mean = np.bincount(place, y) / size, np.bincount(place, p) / size
    gap = share - mean
    error = y - p
    cell, cells = where * b + place, (int(where.max()) + 1) * b
    sums = np.bincount(cell, error - gap[place], minlength=cells).reshape(-1, b)
    in_bin = np.count_nonzero(np.bincount(cell, minlength=cells).reshape(-1, b), axis=0)
    few = np.sqrt(in_bin / np.maximum(in_bin - 1, 1))  # CR1, with the clusters that a bin has
    covariance = np.asarray((sums.T @ sums) * np.outer(few / size, few / size), dtype=np.float64)
    # A bin whose cases all had one outcome still has the sampling error of its probabilities.
    calibrated = np.bincount(place, p * (1 - p)) / size**2
    covariance += np.diag(np.maximum(calibrated - np.diag(covariance), 0.0))
    width = np.sqrt(np.diag(covariance))
    plain = float(np.abs(gap) @ size) / n
    ece = max(0.0, plain - float(_fold(gap, width) @ size) / n)
    signed = np.sign(gap)[place] * error
    se, _ = clustered_se((signed - signed.mean()) / n, where)
    lower, upper = mean_interval(ece, se, g, confidence)
    p_value = _hotelling(gap, covariance, g)
    if not p_value < 1 - confidence:
        lower = 0.0
    squared = error**2
    brier = float(squared.mean())
    brier_se, _ = clustered_se((squared - brier) / n, where)
    brier_lower, brier_upper = mean_interval(brier, brier_se, g, confidence)
    points = [
        Bin(float(low[i]), float(high[i]), float(mean[i]), float(share[i]), *_wilson(share[i], size[i], confidence))
        for i in range(b)
    ]
    return ReliabilityCurve(
        ece=ece,
        ece_lower=max(0.0, lower),
        ece_upper=min(1.0, upper),
        ece_plain=plain,
        brier=brier,
        brier_lower=max(0.0, brier_lower),
        brier_upper=min(1.0, brier_upper),
        calibrated_p=p_value,
        n=n_all,
        n_failed=failed,
        n_clusters=g,
        bins=tuple(points),
        method=method,
        warnings=tuple(warnings),
    )


def fit_platt(probability: ArrayLike, outcome: ArrayLike) -> Platt:
    """Logistic regression of the outcome on the logit of the probability, by Newton's method.

    The targets are (N+ + 1) / (N+ + 2) and 1 / (N- + 2) instead of 1 and 0 (Platt 1999, "Probabilistic outputs for
    support vector machines"), so that separable cases have a finite fit too.

    Args:
        probability: 0 to 1, shape (n,); cases with NaN are left out.
        outcome: 0 or 1, shape (n,); cases with NaN are left out.

    Raises:
        UserError: As `reliability_curve`, or the cases are not of both outcomes.
    """
    p, y, _, _ = _cases(probability, outcome, None)
    _both_outcomes(y)
    positive = float(y.sum())
    target = np.where(y == 1, (positive + 1) / (positive + 2), 1 / (len(y) - positive + 2))
    x = np.column_stack([_logit(p), np.ones(len(p))])
    # A constant probability leaves the slope open; this much keeps the system solvable and changes nothing else.
    ridge = 1e-9 * np.eye(2) * len(p)
    beta = np.array([1.0, 0.0])

    def loss(b: FloatArray) -> float:
        eta = x @ b
        return float((np.logaddexp(0, eta) - target * eta).sum())

    now = loss(beta)
    for _ in range(100):
        fitted = special.expit(x @ beta)
        gradient = x.T @ (fitted - target)
        step = np.linalg.solve((x * (fitted * (1 - fitted))[:, None]).T @ x + ridge, gradient)
        scale = 1.0
        while (after := loss(beta - scale * step)) > now and scale > 1e-6:
            scale /= 2
        beta, done, now = beta - scale * step, now - after < 1e-10 * len(p), after
        if done:
            break
    return Platt(float(beta[0]), float(beta[1]))


def fit_isotonic(probability: ArrayLike, outcome: ArrayLike) -> Isotonic:
    """The rising curve of least squared error (pool adjacent violators; Zadrozny & Elkan 2002, KDD).

    Args:
        probability: 0 to 1, shape (n,); cases with NaN are left out.
        outcome: 0 or 1, shape (n,); cases with NaN are left out.

    Raises:
        UserError: As `reliability_curve`, or the cases are not of both outcomes.
    """
    from scipy import optimize  # takes a while to import

    p, y, _, _ = _cases(probability, outcome, None)
    _both_outcomes(y)
    x, place = np.unique(p, return_inverse=True)
    weight = np.bincount(place)
    fitted = optimize.isotonic_regression(np.bincount(place, y) / weight, weights=weight)
    return Isotonic(x, np.asarray(fitted.x, dtype=np.float64))


def recalibrate(
    probability: ArrayLike,
    outcome: ArrayLike,
    *,
    scaling: Scaling = "platt",
    bins: int = 10,
    clusters: Any = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Recalibration:
    """Fit a scaling on one half of the clusters and report it on the other.

    Args:
        probability, outcome, bins, clusters, confidence: As `reliability_curve`; a cluster is never split.
        scaling: `platt` (two numbers; few cases) or `isotonic` (any rising curve; a thousand cases or more).
        seed: Of the random halves.

    Raises:
        UserError: As `reliability_curve`; fewer than two clusters; or one outcome only in the half to fit on.
    """
    p, y, where, n_all = _cases(probability, outcome, clusters)
    _, where = np.unique(where, return_inverse=True)
    g = int(where.max(initial=-1)) + 1
    if g < 2:
        raise UserError(
            f"scaling needs two clusters of cases or more, to fit on one half and report on the other: {g}."
        )
    chosen = np.zeros(g, dtype=np.bool_)
    chosen[np.random.default_rng(seed).permutation(g)[: g // 2]] = True
    fit = chosen[where]
    curve = (fit_platt if scaling == "platt" else fit_isotonic)(p[fit], y[fit])
    rest = ~fit
    before, after = (
        reliability_curve(x, y[rest], bins=bins, clusters=where[rest], confidence=confidence)
        for x in (p[rest], curve(p[rest]))
    )
    failed, n_fit = n_all - len(p), int(fit.sum())
    name = "Platt's logistic scaling" if scaling == "platt" else "isotonic regression"
    return Recalibration(
        scaling=curve,
        before=before,
        after=after,
        n=n_all,
        n_failed=failed,
        n_fit=n_fit,
        method=f"{name} fitted on {n_fit} cases, reported on the other {len(p) - n_fit}; halves of the clusters",
        warnings=(f"{failed} of {n_all} cases have no probability or no outcome; they are in n only.",)
        if failed
        else (),
    )


def _cases(probability: ArrayLike, outcome: ArrayLike, clusters: Any) -> tuple[FloatArray, FloatArray, IntArray, int]:
    """Probabilities, outcomes and cluster codes of the complete cases, and the number of all."""
    p, y = _numbers(probability), _numbers(outcome)
    if len(p) != len(y):
        raise UserError(f"there are {len(p)} probabilities and {len(y)} outcomes; one of each a case is needed.")
    where = cluster_codes(clusters, len(p))
    if ((p < 0) | (p > 1)).any():
        row = int(np.flatnonzero((p < 0) | (p > 1))[0])
        raise UserError(f"the probability of case {row + 1} is {p[row]}; it must lie between 0 and 1.")
    known = ~(np.isnan(p) | np.isnan(y))
    strange = known & (y != 0) & (y != 1)
    if strange.any():
        row = int(np.flatnonzero(strange)[0])
        raise UserError(f"the outcome of case {row + 1} is {y[row]}; it must be 0 or 1.")
    return p[known], y[known], where[known], len(p)


def _numbers(values: ArrayLike) -> FloatArray:
    return np.asarray(pd.Series(values).to_numpy(np.float64, na_value=np.nan), dtype=np.float64)


def _both_outcomes(y: FloatArray) -> None:
    if not 0 < y.sum() < len(y):
        raise UserError(f"a scaling needs cases of both outcomes; of {len(y)} cases {int(y.sum())} came true.")


def _logit(probability: ArrayLike) -> FloatArray:
    return np.asarray(special.logit(np.clip(np.asarray(probability, dtype=np.float64), _NEVER, 1 - _NEVER)), np.float64)


def _fold(gap: FloatArray, width: FloatArray) -> FloatArray:
    """E|N(gap, width^2)| - |gap|."""
    far = np.divide(np.abs(gap), width, out=np.full(len(gap), np.inf), where=width > 0)
    return np.asarray(
        width * np.sqrt(2 / np.pi) * np.exp(-(far**2) / 2) - 2 * np.abs(gap) * special.ndtr(-far), dtype=np.float64
    )


def _hotelling(gap: FloatArray, covariance: FloatArray, g: int) -> float:
    """p-value of T^2 = d' S^-1 d, (G - B) / (B (G - 1)) T^2 ~ F(B, G - B); NaN where S cannot be inverted."""
    b = len(gap)
    if g <= b or np.linalg.matrix_rank(covariance, hermitian=True) < b:
        return float("nan")
    t_squared = float(gap @ np.linalg.solve(covariance, gap))
    return float(special.fdtrc(b, g - b, (g - b) / (b * (g - 1)) * t_squared))


def _wilson(share: float, size: float, confidence: float) -> tuple[float, float, int]:
    return (*wilson(round(share * size), size, confidence), round(size))
