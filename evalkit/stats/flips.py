"""How many votes hold up the first place: a small set of votes without which another model would lead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from evalkit.errors import UserError
from evalkit.stats.bradley_terry import Fit, fit, rateable_group, vote_slopes, win_matrix, win_probability
from evalkit.stats.estimate import block
from evalkit.stats.ratings import ELO, BothBadPolicy
from evalkit.stats.votes import BOTH_BAD, OUTCOMES, TIE, FloatArray, IntArray, VoteCounts, count_votes

_RIVALS = 5  # tried at most
_LEVEL = 1e-9  # of strengths in log-odds: no lead


@dataclass(frozen=True, eq=False)
class FirstPlaceFlip:
    """The smallest set of votes found whose removal puts another model first.

    Attributes:
        first: The model in the first place.
        rival: The model that leads without these votes; empty if no such set was found.
        votes: Size of the set, verified by a new fit without it; 0 where the two are level, -1 if none was
            found.
        estimated: What the influences in the full fit alone call for.
        share: `votes` of all votes used.
        n: Votes used by the ratings.
        n_excluded: Rows that could not be counted, and votes left out by `min_votes`.
        gap: Rating of the first less that of the rival, Elo points.
        gap_after: The same without the set; negative, or 0 where the two are level from the start.
        removed: Columns model_a, model_b, winner, removed, of: how many of which votes, most first.
        definition: What was done, in words.
        warnings: Sentences.
    """

    first: str
    rival: str
    votes: int
    estimated: int
    share: float
    n: int
    n_excluded: int
    gap: float
    gap_after: float
    removed: pd.DataFrame
    definition: str
    warnings: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """One row: first, rival, votes, share, n, gap, gap_after."""
        names = ("first", "rival", "votes", "share", "n", "gap", "gap_after")
        return pd.DataFrame([{name: getattr(self, name) for name in names}])


@dataclass(frozen=True, eq=False)
class _Removal:
    """Votes taken away until the first place changed.

    Attributes:
        left: Counts without them, shape (m, m, 4).
        strength: Of the fit to these.
        estimated: Votes that the influences in the full fit call for.
    """

    left: FloatArray
    strength: FloatArray
    estimated: int


def first_place_flip(
    votes: pd.DataFrame | VoteCounts,
    *,
    ties: BothBadPolicy = "half",
    both_bad: BothBadPolicy | None = None,
    min_votes: int = 0,
) -> FirstPlaceFlip:
    """Find a small set of votes whose removal changes the first place of the Bradley-Terry board.

    The influence of a vote between a and b with result y on the gap s_1 - s_r to a rival r is (e_1 - e_r)' H^-1
    (e_a - e_b) (y - p_ab) / (1 - h_ab), H the information, h the vote's leverage: so much the gap falls, to first
    order, when the vote is taken away (Broderick, Giordano & Meager 2020, "An automatic finite-sample robustness
    metric", arXiv:2011.14999; for arenas Huang et al. 2025, "Dropping just a handful of preferences can change top LLM
    rankings", arXiv:2508.11847). For each of the nearest rivals, half of the votes that the influences call for are
    taken, most influential first, the board is fitted anew and the influences with it, and so on until another model
    leads. So `votes` is certain to be enough; that fewer, otherwise chosen, would do is not ruled out.

    Args:
        votes: A votes frame (model_a, model_b, winner), or counts of one; each vote weighs the same.
        ties: A tie is half a win for each side (`half`) or not used (`drop`).
        both_bad: The same for both_bad; as `ties` if None.
        min_votes: Models with fewer votes are left out.

    Raises:
        UserError: An unknown policy, or fewer than two models can be rated.
    """
    policies = {TIE: ties, BOTH_BAD: both_bad or ties}
    for policy in policies.values():
        if policy not in ("half", "drop"):
            raise UserError(f"the tie policy is {policy!r}; votes that flip the first place need half or drop.", code=2)
    half = [outcome for outcome, policy in policies.items() if policy == "half"]
    counts = (votes if isinstance(votes, VoteCounts) else count_votes(votes)).at_least(min_votes)
    core, _, unplaced = rateable_group(counts.models, win_matrix(counts.votes, half))
    warnings = [diagnosis.sentence for diagnosis in (*counts.diagnoses, *unplaced)]
    if not len(core):
        raise UserError(f"no first place: {unplaced[-1].sentence if unplaced else 'there are no votes.'}")
    names = [counts.models[i] for i in core]
    held = block(counts.votes, core).copy()
    dropped = [outcome for outcome in policies if outcome not in half]
    held[:, :, dropped] = 0.0
    full = fit(win_matrix(held, half))
    top = int(np.argmax(full.strength))
    gaps = full.strength[top] - full.strength
    n = round(held.sum())

    best: tuple[int, _Removal] | None = None
    nearest = sorted(
        (_influences(full, held, half, top, rival)[1], gaps[rival], rival)
        for rival in range(len(names))
        if rival != top
    )
    for estimated, _, rival in nearest[:_RIVALS]:
        # A rival whose estimate is far above what is already found will not be nearer.
        if best is not None and estimated > 1.5 * best[0] + 2:
            break
        found = _take(full, held, half, top, rival, n if best is None else best[0] - 1)
        if found is not None:
            best = (round(float((held - found.left).sum())), found)
    definition = (
        f"Bradley-Terry, ties {ties}, both_bad {both_bad or ties}; votes removed by influence, confirmed by a new fit: "
        "an upper bound of the smallest number"
    )
    empty = pd.DataFrame(columns=["model_a", "model_b", "winner", "removed", "of"])
    if best is None:
        warnings.append(f"No set of votes was found whose removal takes {names[top]} from the first place.")
        nan = float("nan")
        return FirstPlaceFlip(
            names[top], "", -1, -1, nan, n, counts.n_excluded, nan, nan, empty, definition, tuple(warnings)
        )
    k, removal = best
    rival = int(np.argmax(np.where(np.arange(len(names)) == top, -np.inf, removal.strength)))
    taken = held - removal.left
    a, b, outcome = np.nonzero(taken)
    order = np.argsort(-taken[a, b, outcome], kind="stable")
    a, b, outcome = a[order], b[order], outcome[order]
    removed = pd.DataFrame(
        {
            "model_a": [names[i] for i in a],
            "model_b": [names[i] for i in b],
            "winner": [OUTCOMES[o] for o in outcome],
            "removed": taken[a, b, outcome].astype(np.int64),
            "of": held[a, b, outcome].astype(np.int64),
        }
    )
    return FirstPlaceFlip(
        first=names[top],
        rival=names[rival],
        votes=k,
        estimated=removal.estimated,
        share=k / n,
        n=n,
        n_excluded=counts.n_excluded,
        gap=ELO * float(gaps[rival]),
        gap_after=ELO * float(removal.strength[top] - removal.strength[rival]),
        removed=removed,
        definition=definition,
        warnings=tuple(warnings),
    )


def _influences(
    found: Fit, left: FloatArray, half: list[int], top: int, rival: int
) -> tuple[tuple[IntArray, IntArray, IntArray], int]:
    """The kinds of votes that hold the rival down, most influential first, and how many votes close the gap."""
    lever = found.bread[:, top] - found.bread[:, rival]
    p = win_probability(found.strength)
    spread = np.diag(found.bread)
    leverage = p * p.T * (np.add.outer(spread, spread) - 2.0 * found.bread)
    influence = np.zeros_like(left)
    for outcome, slope in vote_slopes(found.strength, half).items():
        influence[:, :, outcome] = np.subtract.outer(lever, lever) * slope / np.maximum(1.0 - leverage, 0.1)
    kinds = np.nonzero((influence > 0) & (left > 0))
    order = np.argsort(-influence[kinds], kind="stable")
    a, b, outcomes = (side[order] for side in kinds)
    number, each = left[a, b, outcomes], influence[a, b, outcomes]
    gap = float(found.strength[top] - found.strength[rival])
    fallen = np.cumsum(number * each)
    at = int(np.searchsorted(fallen, gap))
    if at == len(fallen):
        return (a, b, outcomes), round(left.sum()) + 1
    before = fallen[at - 1] if at else 0.0
    return (a, b, outcomes), round(number[:at].sum()) + int((gap - before) / each[at]) + 1


def _take(full: Fit, held: FloatArray, half: list[int], top: int, rival: int, limit: int) -> _Removal | None:
    """Take votes away until another model leads; None if more than `limit` are needed or the board falls apart."""
    left, found, taken = held.copy(), full, 0
    estimated = 0 if full.strength[top] - full.strength[rival] <= _LEVEL else -1
    while estimated != 0 and found.strength.max() - found.strength[top] <= _LEVEL:
        kinds, needed = _influences(found, left, half, top, rival)
        estimated = needed if estimated < 0 else estimated
        available = left[kinds]
        step = max(1, min(needed, round(available.sum())) // 2)
        taken += step
        if taken > limit or not len(available):
            return None
        left[kinds] -= np.clip(step - (np.cumsum(available) - available), 0.0, available)
        wins = win_matrix(left, half)
        if len(rateable_group([str(i) for i in range(len(wins))], wins)[0]) < len(wins):
            return None
        found = fit(wins, found.strength)
    return _Removal(left, found.strength, estimated)
