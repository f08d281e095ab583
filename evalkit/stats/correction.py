"""Correcting a judge with few human labels: Rogan-Gladen, and prediction-powered inference for a mean.

A judge has spoken on every item, humans on a few of them. The judge's verdicts make the interval narrow, the humans
make it right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from evalkit.errors import UserError
from evalkit.stats.intervals import Mean, Share, clustered_mean, share
from evalkit.stats.ranks import critical_value
from evalkit.stats.votes import FloatArray, IntArray, factorize

FEW_LABELS = 30


@dataclass(frozen=True)
class RoganGladen:
    """A share corrected for the judge's errors.

    Attributes:
        value: Corrected share, cut to 0 .. 1; NaN where the judge is no better than guessing.
        lower, upper: Limits, cut to 0 .. 1.
        apparent: The judge's own share on the items without a human label.
        sensitivity: Share of the items that humans call 1 which the judge calls 1 too.
        specificity: The same for 0.
        n: Items, failures included.
        n_labelled: Items with a human label and a readable verdict.
        n_failed: Items whose verdict could not be read: in no share.
        method: In words.
        warnings: Sentences.
    """

    value: float
    lower: float
    upper: float
    apparent: Share
    sensitivity: Share
    specificity: Share
    n: int
    n_labelled: int
    n_failed: int
    method: str
    warnings: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """Rows apparent, sensitivity, specificity, corrected: estimate, value, lower, upper, n."""
        shares = (("apparent", self.apparent), ("sensitivity", self.sensitivity), ("specificity", self.specificity))
        rows = [(name, part.value, part.lower, part.upper, part.n) for name, part in shares]
        rows.append(("corrected", self.value, self.lower, self.upper, self.n))
        return pd.DataFrame(rows, columns=["estimate", "value", "lower", "upper", "n"])


@dataclass(frozen=True)
class CorrectedMean:
    """A mean of the humans' values, with the judge's help.

    Attributes:
        value, se, lower, upper: The corrected mean, in the units of the values.
        judge: The judge's own mean over the items it spoke on: what a report without correction would print.
        human: The humans' mean over the labelled items alone.
        power: Weight of the judge's verdicts, lambda: 0 leaves them out, 1 is plain prediction-powered inference.
        n: Items, failures included.
        n_labelled: Items with a human value.
        n_failed: Items whose verdict could not be read, or was never asked for.
        df: Degrees of freedom of t: clusters with a human value, less 1, and less 1 where lambda was tuned.
        method: In words.
        warnings: Sentences.
    """

    value: float
    se: float
    lower: float
    upper: float
    judge: Mean
    human: Mean
    power: float
    n: int
    n_labelled: int
    n_failed: int
    df: float
    method: str
    warnings: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """Rows judge, human, corrected: estimate, value, lower, upper, n."""
        parts = (("judge", self.judge), ("human", self.human))
        rows = [(name, part.value, part.lower, part.upper, part.n) for name, part in parts]
        rows.append(("corrected", self.value, self.lower, self.upper, self.n))
        return pd.DataFrame(rows, columns=["estimate", "value", "lower", "upper", "n"])


def rogan_gladen(
    judge: ArrayLike, human: ArrayLike, *, clusters: ArrayLike | None = None, confidence: float = 0.95
) -> RoganGladen:
    """Share of items that humans would call 1, from the judge's share and its sensitivity and specificity.

    pi = (p + sp - 1) / (se + sp - 1) (Rogan & Gladen 1978, Am. J. Epidemiol. 107:71-76), p from the items without a
    human label, se and sp from those with one. Limits of Lang & Reiczigel 2014 (Prev. Vet. Med. 113:13-22), which carry
    the errors of all three: with p, se, sp moved to the middle (n + z^2 with z^2 / 2 hits for p, n + 2 with 1 more hit
    for se and sp), pi + d -+ z sqrt(p (1 - p) / n_p + pi^2 se (1 - se) / n_se + (1 - pi)^2 sp (1 - sp) / n_sp) / (se +
    sp - 1), d = 2 z^2 (pi se (1 - se) / n_se - (1 - pi) sp (1 - sp) / n_sp). With clusters each n is the effective one
    (`intervals.share`).

    The labelled items need not be a random sample, but the judge must err on them as it does elsewhere.

    Args:
        judge: 0, 1, or NaN where the verdict could not be read; shape (items,).
        human: 0, 1, or NaN where there is no human label; shape (items,).
        clusters: Labels of groups of like items, shape (items,).
        confidence: Level.

    Raises:
        UserError: The lengths differ or a value is none of 0, 1 and NaN.
    """
    f, y, unit = _checked(judge, human, clusters)
    for name, values in (("judge", f), ("human", y)):
        wrong = np.flatnonzero(~np.isnan(values) & (values != 0) & (values != 1))
        if len(wrong):
            value = values[wrong[0]]
            raise UserError(f"the {name}'s value of item {int(wrong[0]) + 1} is {value}; it must be 0, 1 or NaN.")
    read = ~np.isnan(f)
    groups = (read & np.isnan(y), read & (y == 1), read & (y == 0))
    hits = (f == 1, f == 1, f == 0)
    parts = [share(hit[rows], unit[rows], confidence) for hit, rows in zip(hits, groups, strict=True)]
    z = critical_value(confidence, float("inf"))
    extra = (z**2, 2.0, 2.0)
    moved: list[tuple[float, float]] = []
    for hit, rows, more in zip(hits, groups, extra, strict=True):
        n = _effective(hit[rows], unit[rows])
        rate = float(hit[rows].mean()) if rows.any() else 0.5
        moved.append(((n * rate + more / 2) / (n + more), n + more))
    (p, n_p), (se, n_se), (sp, n_sp) = moved
    apparent, sensitivity, specificity = parts
    failed = int((~read).sum())
    warnings = [f"{failed} of {len(f)} verdicts could not be read; they are in n and in no share."] if failed else []
    youden = sensitivity.value + specificity.value - 1
    if not youden > 0 or not apparent.n or se + sp <= 1:
        reason = "on the labelled items the judge is no better than guessing" if apparent.n else "no unlabelled items"
        warnings.append(f"No corrected share: {reason}.")
        value, lower, upper = float("nan"), 0.0, 1.0
    else:
        value = float(np.clip((apparent.value + specificity.value - 1) / youden, 0.0, 1.0))
        pi = (p + sp - 1) / (se + sp - 1)
        from_se, from_sp = se * (1 - se) / n_se, sp * (1 - sp) / n_sp
        shift = 2 * z**2 * (pi * from_se - (1 - pi) * from_sp)
        error = np.sqrt(p * (1 - p) / n_p + pi**2 * from_se + (1 - pi) ** 2 * from_sp) / (se + sp - 1)
        lower, upper = (float(np.clip(pi + shift + side * z * error, 0.0, 1.0)) for side in (-1, 1))
    return RoganGladen(
        value=value,
        lower=lower,
        upper=upper,
        apparent=apparent,
        sensitivity=sensitivity,
        specificity=specificity,
        n=len(f),
        n_labelled=sensitivity.n + specificity.n,
        n_failed=failed,
        method=f"Rogan-Gladen, interval of Lang and Reiczigel, {confidence:.0%}",
        warnings=tuple(warnings),
    )


def ppi_mean(
    judge: ArrayLike,
    human: ArrayLike,
    *,
    power: float | None = None,
    clusters: ArrayLike | None = None,
    confidence: float = 0.95,
) -> CorrectedMean:
    """Mean of the humans' values over all items, from a few of them and the judge's values on all.

    theta = mean_L(y) - lambda (mean_L(f) - mean_U(f)), L the n labelled and U the N other items: prediction-powered
    inference (Angelopoulos et al. 2023, Science 382:669-674) for lambda = 1, PPI++ (Angelopoulos, Duchi & Zrnic 2023)
    for the lambda in 0 .. 1 with the smallest estimated variance, sum a b / sum b^2 over clusters, a = sum_L (y -
    mean) / n, b = sum_L (f - mean) / n - sum_U (f - mean) / N. Theta is a regression estimate, so its standard error
    is that of one, sum ((a - lambda b) / (1 - h))^2 over clusters with the leverage h = n_c / n + b^2 / sum b^2 (the
    last only where lambda was tuned; MacKinnon & White 1985, J. Econometrics 29:305-325, HC3); t with G - 1 degrees of
    freedom (G - 2 where tuned) for the G clusters with a human value. Right whatever the judge's errors, as long as
    the labelled items are a random sample of all.

    A verdict that failed is no prediction: its item stays in both n and N with f at the judge's mean, so that it moves
    nothing, and the answer stays one for all items.

    Args:
        judge: Shape (items,); NaN where the verdict could not be read.
        human: Shape (items,); NaN where there is no human value.
        power: lambda, 0 to 1; tuned if None.
        clusters: Labels of groups of like items, shape (items,).
        confidence: Level.

    Raises:
        UserError: The lengths differ, a value is infinite, a cluster label is missing, or lambda is out of range.
    """
    check_power(power)
    f, y, unit = _checked(judge, human, clusters)
    labelled, read = ~np.isnan(y), ~np.isnan(f)
    n, failed = int(labelled.sum()), int((~read).sum())
    warnings = label_warnings(len(f), n, failed)
    own = clustered_mean(f[read], unit[read], confidence)
    alone = clustered_mean(y[labelled], unit[labelled], confidence)
    per_cluster = np.bincount(unit[labelled], minlength=int(unit.max(initial=-1)) + 1)
    g, free = int((per_cluster > 0).sum()), power is None and n < len(f)
    df = max(g - 1.0 - free, 0.0)
    how = f"PPI++, {confidence:.0%} t interval" if power is None else f"PPI with lambda {power:.2f}, {confidence:.0%}"
    if df <= 0:
        warnings.append("Too few clusters have a human value: there is no interval.")
    chosen, value, se = 0.0, float("nan"), float("nan")
    if n:
        a, b, gap = _influences(f, y, unit)
        square = float(b @ b)
        if n < len(f):  # otherwise the humans have spoken on every item
            chosen = power if power is not None else tuned(float(a @ b), square)
        value = alone.value - chosen * gap
        leverage = per_cluster / n + (b**2 / square if free and square > 0 else 0.0)
        if df > 0:
            # One cluster that decides alone has the leverage 1, and no finite error.
            with np.errstate(divide="ignore", invalid="ignore"):
                scaled = (a - chosen * b) / np.maximum(1.0 - leverage, 0.0)
            se = float(np.sqrt((np.nan_to_num(scaled, nan=0.0, posinf=np.inf, neginf=np.inf) ** 2).sum()))
    width = critical_value(confidence, df) * se if df > 0 else float("inf")
    return CorrectedMean(
        value=value,
        se=se,
        lower=value - width if n else -np.inf,
        upper=value + width if n else np.inf,
        judge=own,
        human=alone,
        power=chosen,
        n=len(f),
        n_labelled=n,
        n_failed=failed,
        df=df,
        method=how,
        warnings=tuple(warnings),
    )


def shared_power(samples: Sequence[tuple[FloatArray, FloatArray, IntArray]]) -> float:
    """The one lambda in 0 .. 1 with the smallest sum of estimated variances over several `ppi_mean`.

    Args:
        samples: Judge, human and cluster codes of each, as in `ppi_mean`.
    """
    parts = [_influences(*sample)[:2] for sample in samples if not np.isnan(sample[1]).all()]
    return tuned(sum(float(a @ b) for a, b in parts), sum(float(b @ b) for _, b in parts))


def _influences(f: FloatArray, y: FloatArray, unit: IntArray) -> tuple[FloatArray, FloatArray, float]:
    """What each cluster adds to mean_L(y) and to the gap mean_L(f) - mean_U(f), shape (clusters,), and that gap."""
    labelled, read = ~np.isnan(y), ~np.isnan(f)
    size = int(unit.max(initial=-1)) + 1
    gain = np.where(read, f - (f[read].mean() if read.any() else 0.0), 0.0)
    known, rest = gain[labelled], gain[~labelled]
    means = [float(part.mean()) if len(part) else 0.0 for part in (known, rest)]
    a = np.bincount(unit[labelled], y[labelled] - y[labelled].mean(), minlength=size) / len(known)
    b = np.bincount(unit[labelled], known - means[0], minlength=size) / len(known)
    b = b - np.bincount(unit[~labelled], rest - means[1], minlength=size) / max(len(rest), 1)
    return a, b, means[0] - means[1]


def tuned(cross: float, square: float) -> float:
    """lambda in 0 .. 1 for the smallest variance A - 2 lambda cross + lambda^2 square."""
    return float(np.clip(cross / square, 0.0, 1.0)) if square > 0 else 0.0


def check_power(power: float | None) -> None:
    """Raise a `UserError` where lambda is not from 0 to 1."""
    if power is not None and not 0.0 <= power <= 1.0:
        raise UserError(f"lambda is {power}; it must lie between 0 and 1, or be left out to be tuned.", code=2)


def label_warnings(n: int, n_labelled: int, n_failed: int) -> list[str]:
    """Sentences on few labels and failed verdicts."""
    found = []
    if n_failed:
        found.append(f"{n_failed} of {n} items have no readable verdict of the judge; they stay in n and move nothing.")
    if n_labelled < FEW_LABELS:
        found.append(f"Only {n_labelled} items have a human label: below {FEW_LABELS}, intervals are rough.")
    if n and n_labelled == n:
        found.append("Every item has a human label: the judge is not needed, and not used.")
    return found


def _checked(judge: ArrayLike, human: ArrayLike, clusters: ArrayLike | None) -> tuple[FloatArray, FloatArray, IntArray]:
    f, y = np.asarray(judge, dtype=np.float64), np.asarray(human, dtype=np.float64)
    if f.ndim != 1 or f.shape != y.shape:
        raise UserError(f"judge and human have the shapes {f.shape} and {y.shape}; one value an item each is needed.")
    if np.isinf(f).any() or np.isinf(y).any():
        raise UserError(f"item {int(np.flatnonzero(np.isinf(f) | np.isinf(y))[0]) + 1} has an infinite value.")
    if clusters is None:
        return f, y, np.arange(len(f))
    unit = factorize(pd.Series(np.asarray(clusters)))[0]
    if len(unit) != len(f):
        raise UserError(f"there are {len(f)} items and {len(unit)} cluster labels; one an item is needed.")
    if (unit < 0).any():
        raise UserError(f"item {int(np.flatnonzero(unit < 0)[0]) + 1} has no cluster label.")
    return f, y, unit


def _effective(hits: np.ndarray[tuple[int], np.dtype[np.bool_]], unit: IntArray) -> float:
    """Number of independent items worth the same, as in `intervals.share`; the number itself without clusters."""
    n = len(hits)
    if len(np.unique(unit)) == n:
        return float(n)
    mean = clustered_mean(hits.astype(np.float64), unit)
    return min(float(n), mean.value * (1 - mean.value) / mean.se**2) if mean.se > 0 else float(mean.n_clusters)
