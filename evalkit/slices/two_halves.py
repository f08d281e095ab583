"""The search itself, on arrays: slices found on one half of the answers, tested on the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.slices.confirm import Confirmation, confirm
from evalkit.slices.predicates import Definition, members, propose, select, stability

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from evalkit.engine.progress import Progress

MIN_HELD_OUT = 3
MAX_SEARCHED, MAX_RESAMPLED = 20_000, 4_000
"""Answers of the training half that are searched, and drawn for a resample; of more, so many by chance."""


@dataclass(frozen=True)
class Tested:
    """A slice that was tested on the held-out half.

    Attributes:
        definition, also: See `predicates.Candidate`.
        stability: Share of resamples in which it was found again.
        confirmation: What the held-out half says.
    """

    definition: Definition
    also: tuple[Definition, ...]
    stability: float
    confirmation: Confirmation


def search_halves(
    codes: NDArray[np.int32],
    failed: NDArray[np.bool_],
    train: NDArray[np.bool_],
    units: NDArray[np.int64],
    *,
    paired: Sequence[Sequence[int]],
    min_support: int,
    resamples: int,
    min_stability: float,
    seed: int,
    progress: Progress | None = None,
) -> tuple[list[Tested], int, int]:
    """Finds slices on the training half, drops unsteady ones, and tests the rest on the held-out half.

    Args:
        codes: Values of the features of each answer, 0 for none, shape (n, p).
        failed: Shape (n,).
        train: Which answers may be searched, shape (n,).
        units: Group of near-duplicates of each answer, shape (n,).
        paired: Groups of columns; pairs of values are made within a group.
        min_support: Answers of the training half that a slice, and the rest, must have.
        resamples: Bootstrap samples of the groups of the training half; 0 leaves them out.
        min_stability: Share of them in which a slice must be found again.
        seed: Of samples and permutations.
        progress: Is told of the resamples.

    Returns:
        The slices tested; how many were too unsteady to be tested, and how many have too few held-out answers.

    Raises:
        UserError: SliceLine is not installed.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(train)
    support = min_support
    if len(rows) > MAX_SEARCHED:
        support = max(2, round(min_support * MAX_SEARCHED / len(rows)))
        rows = np.sort(rng.choice(rows, MAX_SEARCHED, replace=False))
    known, bad = codes[rows], failed[rows]
    definitions = propose(known, bad, paired=paired, min_support=support)
    candidates = select(known, bad, definitions, min_support=support)
    again = np.zeros(len(candidates))
    if candidates and resamples:
        handle = progress.start("resamples", resamples) if progress is not None else None
        for sample in _resamples(units[rows], resamples, rng):
            again += stability(candidates, known, bad, definitions, sample, min_support=support)
            if progress is not None:
                progress.advance(handle, 1)
        if progress is not None:
            progress.finish(handle)
    shares = again / resamples if resamples else np.ones(len(candidates))
    steady = [(one, float(share)) for one, share in zip(candidates, shares, strict=True) if share >= min_stability]
    masks = [members(codes[~train], one.definition) for one, _ in steady]
    enough = [min(int(mask.sum()), int((~mask).sum())) >= MIN_HELD_OUT for mask in masks]
    confirmations = iter(
        confirm([mask for mask, ok in zip(masks, enough, strict=True) if ok], failed[~train], units[~train], seed=seed)
    )
    tested = [
        Tested(one.definition, one.also, share, next(confirmations))
        for (one, share), ok in zip(steady, enough, strict=True)
        if ok
    ]
    return tested, len(candidates) - len(steady), enough.count(False)


def measure(
    definition: Definition,
    codes: NDArray[np.int32],
    failed: NDArray[np.bool_],
    train: NDArray[np.bool_],
    units: NDArray[np.int64],
    *,
    seed: int,
) -> Tested:
    """Tests one slice that nobody searched for on the held-out half; arguments as for `search_halves`."""
    mask = members(codes[~train], definition)
    return Tested(definition, (), 1.0, confirm([mask], failed[~train], units[~train], seed=seed)[0])


def _resamples(units: NDArray[np.int64], n: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Rows of n bootstrap samples of groups; of fewer groups than there are where these have many answers."""
    import numpy as np

    _, place, sizes = np.unique(units, return_inverse=True, return_counts=True)
    order, ends = np.argsort(place, kind="stable"), np.cumsum(sizes)
    drawn = min(len(sizes), max(1, round(MAX_RESAMPLED * len(sizes) / max(1, len(units)))))
    samples = []
    for _ in range(n):
        groups = rng.integers(len(sizes), size=drawn)
        samples.append(np.concatenate([order[ends[k] - sizes[k] : ends[k]] for k in groups]))
    return samples
