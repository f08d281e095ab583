"""Search for groups of answers that fail more than the rest: single features, pairs of them, nodes of the tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Definition = tuple[tuple[int, int], ...]
"""(column, code) pairs that all hold."""

ALPHA = 0.95
"""SliceLine's weight of the failure rate against the size."""
TOP = 60
PROMISING = 1.645
"""z from which on a slice of the training half is worth confirming; one-sided 5%."""
NARROWER, PAIR_NARROWER = 2.33, 3.1
"""z from which on a part of a slice is worth telling apart from it; more for one of many pairs."""
SAME = 0.95
MOSTLY = 0.8
MAX_FOUND = 20


@dataclass(frozen=True)
class Candidate:
    """A slice of the training half.

    Attributes:
        definition: What it is.
        also: Other definitions of nearly the same answers.
        mask: Its answers among those searched, shape (n,).
        z: Of its failure rate against the rest's.
    """

    definition: Definition
    also: tuple[Definition, ...]
    mask: NDArray[np.bool_]
    z: float


def members(codes: NDArray[np.int32], definition: Definition) -> NDArray[np.bool_]:
    """Marks the rows in which all pairs of a definition hold, shape (n,)."""
    import numpy as np

    found = np.ones(len(codes), dtype=np.bool_)
    for column, code in definition:
        found &= codes[:, column] == code
    return found


def z_score(failed: int, n: int, rest_failed: int, rest_n: int) -> float:
    """Pooled z of two shares: (p1 - p2) / sqrt(p (1 - p) (1 / n1 + 1 / n2)); 0 where it is undefined."""
    if n == 0 or rest_n == 0:
        return 0.0
    pooled = (failed + rest_failed) / (n + rest_n)
    variance = pooled * (1 - pooled) * (1 / n + 1 / rest_n)
    return float((failed / n - rest_failed / rest_n) / variance**0.5) if variance > 0 else 0.0


def propose(
    codes: NDArray[np.int32], failed: NDArray[np.bool_], *, paired: Sequence[Sequence[int]], min_support: int
) -> list[Definition]:
    """Returns what may be a slice: every value of every column, and the pairs of values that fail most.

    Pairs come from SliceLine (Sagadeeva & Boehm 2021, SIGMOD), which looks through all of them by sparse linear
    algebra.

    Args:
        codes: Values of the features of each answer, 0 for none, shape (n, p).
        failed: Shape (n,).
        paired: Groups of columns; pairs are made within a group.
        min_support: Answers that a pair must have.

    Raises:
        UserError: SliceLine is not installed.
    """
    found: dict[Definition, None] = {}
    for column in range(codes.shape[1]):
        for code in range(1, int(codes[:, column].max(initial=0)) + 1):
            found[((column, code),)] = None
    if failed.any() and not failed.all():
        for group in paired:
            found.update(dict.fromkeys(_pairs(codes, failed, list(group), min_support)))
    return list(found)


def select(
    codes: NDArray[np.int32], failed: NDArray[np.bool_], definitions: Sequence[Definition], *, min_support: int
) -> list[Candidate]:
    """Returns the slices that fail more than the rest, overlapping ones merged, the clearest first.

    Of slices that overlap, the one with the largest z stays; another stays beside it only if what it adds, or what it
    narrows the slice down to, fails more in turn.

    Args:
        codes, failed: As for `propose`.
        definitions: To choose among.
        min_support: Answers that a slice, and the rest, must have.

    Returns:
        At most `MAX_FOUND` slices.
    """
    candidates = []
    n, n_failed = len(failed), int(failed.sum())
    for definition in definitions:
        mask = members(codes, definition)
        size, hits = int(mask.sum()), int(failed[mask].sum())
        if min_support <= size <= n - min_support:
            z = z_score(hits, size, n_failed - hits, n - size)
            if z >= PROMISING:
                candidates.append(Candidate(definition, (), mask, z))
    return merge(candidates, failed, min_support)


def _pairs(
    codes: NDArray[np.int32], failed: NDArray[np.bool_], columns: list[int], min_support: int
) -> list[Definition]:
    import numpy as np

    if len(columns) < 2:
        return []
    try:
        from sliceline.slicefinder import Slicefinder
    except ImportError as error:
        raise UserError('slices need the extra train; type: pip install "evalkit[train]"') from error
    finder = Slicefinder(alpha=ALPHA, k=TOP, max_l=2, min_sup=min_support, verbose=False)
    finder.fit(codes[:, columns], failed.astype(np.float64))
    found: list[Definition] = []
    for row in finder.top_slices_:
        # What an answer does not have is no feature of it.
        pairs = tuple((columns[k], int(code)) for k, code in enumerate(row) if code is not None and int(code) > 0)
        if len(pairs) == 2:
            found.append(pairs)
    return found


def merge(candidates: Sequence[Candidate], failed: NDArray[np.bool_], min_support: int) -> list[Candidate]:
    """Merges slices that overlap (see `select`)."""
    import numpy as np

    chosen: list[Candidate] = []
    covered = np.zeros(len(failed), dtype=np.bool_)

    def z_of(inside: NDArray[np.bool_], outside: NDArray[np.bool_]) -> float:
        return z_score(int(failed[inside].sum()), int(inside.sum()), int(failed[outside].sum()), int(outside.sum()))

    for one in sorted(candidates, key=lambda c: (-c.z, len(c.definition), c.definition)):
        twin = next((k for k, other in enumerate(chosen) if _jaccard(one.mask, other.mask) >= SAME), None)
        if twin is not None:
            if len(one.definition) == 1:
                host = chosen[twin]
                chosen[twin] = Candidate(host.definition, (*host.also, one.definition), host.mask, host.z)
            continue
        added = one.mask & ~covered
        if int(added.sum()) < max(min_support / 2, (1 - MOSTLY) * int(one.mask.sum())):
            host = max(chosen, key=lambda other: int((other.mask & one.mask).sum()))
            inside, around = one.mask & host.mask, host.mask & ~one.mask
            if z_of(inside, around) < (NARROWER if len(one.definition) == 1 else PAIR_NARROWER):
                continue
        elif z_of(added, ~covered & ~one.mask) < PROMISING:
            continue
        chosen.append(one)
        covered |= one.mask
        if len(chosen) == MAX_FOUND:
            break
    return chosen


def _jaccard(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 0.0


def stability(
    found: Sequence[Candidate],
    codes: NDArray[np.int32],
    failed: NDArray[np.bool_],
    definitions: Sequence[Definition],
    rows: NDArray[np.int64],
    *,
    min_support: int,
    like: float = 0.5,
) -> list[bool]:
    """Whether each slice is found again in a resample: one whose answers overlap with it by `like` (Jaccard).

    Args:
        found: Slices of the whole.
        codes, failed, definitions, min_support: As for `select`.
        rows: Of the resample; `min_support` shrinks with one that is smaller than the whole.
    """
    support = max(2, round(min_support * len(rows) / len(codes)))
    chosen = select(codes[rows], failed[rows], definitions, min_support=support)
    again = [members(codes, one.definition) for one in chosen]
    return [any(_jaccard(one.mask, mask) >= like for mask in again) for one in found]
