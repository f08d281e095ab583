"""How much a jury's judges err alike, and how many independent judges it is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from evalkit.stats.juries import NO_LABEL, names_of, with_truth
from evalkit.stats.votes import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class ErrorCorrelation:
    """How much judges err on the same items.

    Attributes:
        judges: Names.
        correlation: Of the error indicators, shape (judges, judges), over the items both answered; NaN for a judge
            that is always right or always wrong there.
        pairs: Items behind each entry, same shape.
        error_rate: Shape (judges,).
        mean: Mean of the entries off the diagonal that exist.
        effective: Effective number of judges; infinite where the errors repel one another altogether.
        n, n_failed: Labels held against a known truth, and those that could not be read.
        method: In words.
        warnings: Sentences.
    """

    judges: tuple[str, ...]
    correlation: FloatArray
    pairs: IntArray
    error_rate: FloatArray
    mean: float
    effective: float
    n: int
    n_failed: int
    method: str
    warnings: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """The matrix with the judges' names on both sides, and their error rates."""
        frame = pd.DataFrame(self.correlation, columns=list(self.judges))
        frame.insert(0, "judge", list(self.judges))
        return frame.assign(error_rate=self.error_rate)


def error_correlation(
    labels: ArrayLike, truth: ArrayLike, *, judges: Sequence[str] | None = None, n_labels: int | None = None
) -> ErrorCorrelation:
    """Correlation of the judges' errors, and how many independent judges the jury is worth.

    Phi coefficients of the indicators "label differs from the truth", over the items that both judges answered. With
    their mean rho over all pairs, n judges are worth n / (1 + (n - 1) rho) independent ones: the variance of a mean of
    n equally correlated errors (Kish 1965, "Survey Sampling", section 5.4; Clemen & Winkler 1985, Oper. Res.
    33:427-442).

    Args:
        labels: Shape (items, judges).
        truth: Shape (items,), -1 or NaN where unknown.
        judges: Names.
        n_labels: K; from the labels and the truth if None.

    Raises:
        UserError: As `as_labels`, or the lengths differ.
    """
    codes, right, _ = with_truth(labels, truth, n_labels)
    known = right != NO_LABEL
    held = codes[known]
    given = (held != NO_LABEL).astype(np.float64)
    wrong = ((held != right[known, None]) & (held != NO_LABEL)).astype(np.float64)
    pairs = given.T @ given
    both = wrong.T @ wrong
    # Column j of `alone` counts the errors of judge i on the items that judge j answered too.
    alone = wrong.T @ given
    with np.errstate(invalid="ignore", divide="ignore"):
        p = alone / pairs
        correlation = (both / pairs - p * p.T) / np.sqrt(p * (1 - p) * p.T * (1 - p.T))
        rate = wrong.sum(axis=0) / given.sum(axis=0)
    correlation[~np.isfinite(correlation)] = np.nan
    names = names_of(judges, codes.shape[1])
    n = len(names)
    off = correlation[np.triu_indices(n, 1)]
    existing = off[~np.isnan(off)]
    rho = float(existing.mean()) if len(existing) else float("nan")
    scale = 1.0 + (n - 1) * rho
    warnings = []
    if len(existing) < len(off):
        warnings.append(
            f"{len(off) - len(existing)} of {len(off)} pairs of judges have no correlation: one never errs."
        )
    if not known.any():
        warnings.append("No item has a known truth.")
    return ErrorCorrelation(
        judges=names,
        correlation=correlation,
        pairs=pairs.astype(np.int64),
        error_rate=rate,
        mean=rho,
        effective=1.0 if n == 1 else (n / scale if not scale <= 0 else float("inf")),
        n=held.size,
        n_failed=int((held == NO_LABEL).sum()),
        method="phi of the errors on items both answered; effective number n / (1 + (n - 1) mean)",
        warnings=tuple(warnings),
    )
