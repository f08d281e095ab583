"""Confirms on the held-out half what was found on the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.stats.two_shares import greater_p, q_values, share_difference

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Counts:
    """Graded answers in a slice and outside of it, and how many of each failed."""

    n: int
    failed: int
    rest_n: int
    rest_failed: int

    @property
    def rate(self) -> float:
        """Failure rate in the slice; NaN where it is empty."""
        return self.failed / self.n if self.n else float("nan")

    @property
    def rest_rate(self) -> float:
        """Failure rate outside; NaN where there is nothing outside."""
        return self.rest_failed / self.rest_n if self.rest_n else float("nan")

    @property
    def effect(self) -> float:
        """Failure rate in the slice less that outside."""
        return self.rate - self.rest_rate


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What the held-out half says of a slice.

    Attributes:
        counts: Of the held-out half.
        lower, upper: 95% interval of the effect (Newcombe's).
        p_value: One-sided, that it fails no more than the rest.
        q_value: Benjamini-Hochberg's, over the slices that were confirmed together.
    """

    counts: Counts
    lower: float
    upper: float
    p_value: float
    q_value: float


def count(mask: NDArray[np.bool_], failed: NDArray[np.bool_]) -> Counts:
    """Counts answers in and outside of a slice."""
    n, hits = int(mask.sum()), int(failed[mask].sum())
    return Counts(n, hits, len(failed) - n, int(failed.sum()) - hits)


def confirm(
    masks: Sequence[NDArray[np.bool_]], failed: NDArray[np.bool_], units: NDArray[np.int64], *, seed: int
) -> list[Confirmation]:
    """Tests slices on answers that the search has not seen.

    The units of the test are not answers but groups of near-duplicates, each with the share of its answers that failed:
    several answers to one prompt, and prompts that ask the same, fail together (see `stats.two_shares.greater_p`).

    Args:
        masks: The answers in each slice, shape (n,) each.
        failed: Shape (n,).
        units: The group each answer belongs to, shape (n,).
        seed: Of the permutations.
    """
    import numpy as np

    found: list[tuple[Counts, float, float, float]] = []
    for mask in masks:
        counts = count(mask, failed)
        inside, outside = _shares(failed[mask], units[mask]), _shares(failed[~mask], units[~mask])
        p = greater_p(inside, outside, seed=seed)
        lower, upper = -1.0, 1.0
        if counts.n and counts.rest_n:
            lower, upper = share_difference(counts.rate, len(inside), counts.rest_rate, len(outside))
        found.append((counts, lower, upper, p))
    q = q_values([p for *_, p in found])
    return [Confirmation(*one, float(value)) for one, value in zip(found, np.atleast_1d(q), strict=True)]


def _shares(failed: NDArray[np.bool_], units: NDArray[np.int64]) -> NDArray[np.float64]:
    import numpy as np

    _, place, n = np.unique(units, return_inverse=True, return_counts=True)
    return np.asarray(np.bincount(place, failed, minlength=len(n)) / n, dtype=np.float64)
