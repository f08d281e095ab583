"""From log-odds to Elo points, and the widths of intervals there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evalkit.errors import UserError
from evalkit.stats.votes import Diagnosis, FloatArray, list_names

ELO = 400.0 / float(np.log(10.0))
"""Elo points for one unit of log-odds."""


def to_elo(
    strength: FloatArray, covariance: FloatArray, names: Sequence[str], anchor: str | None, center: float
) -> tuple[FloatArray, FloatArray]:
    """Elo points around the reference; shifting by a model's own strength changes the covariance too."""
    if anchor is not None:
        if anchor not in names:
            rated = list_names(names) or "none"
            raise UserError(f"the anchor model {anchor!r} is not among the rated models ({rated}).", code=2)
        fixed = list(names).index(anchor)
        strength = strength - strength[fixed]
        covariance = covariance - covariance[fixed]
        covariance = covariance - covariance[:, [fixed]]
    return center + ELO * strength, ELO**2 * covariance


def interval_half_width(
    covariance: FloatArray, models: Sequence[str], anchor: str | None, critical: float
) -> tuple[FloatArray, list[Diagnosis]]:
    """Half-widths of the intervals; infinite (and diagnosed) where the votes show no variation to judge from."""
    error = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    fixed = np.array([name == anchor for name in models], dtype=np.bool_)
    still = (error < 1e-6) & ~fixed
    # With one cluster the scores sum to zero by construction; that case has its own diagnosis.
    named = still & np.isfinite(critical)
    names = tuple(name for name, flag in zip(models, named, strict=True) if flag)
    # An infinite critical value times the anchor's zero error is zero, not NaN.
    width = np.where(fixed, 0.0, critical) * np.where(still, 1.0, error)
    width[still] = np.inf
    sentence = f"No interval for {list_names(names)}: the votes show no variation, such as ties only."
    return width, [Diagnosis("no_variation", sentence, names, len(names))] if names else []
