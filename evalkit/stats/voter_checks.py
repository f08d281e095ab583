"""Checks of voters: do they vote like the others, agree with them and with themselves, and take the time to read?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from evalkit.stats.intervals import Share, wilson

if TYPE_CHECKING:
    import pandas as pd

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

FAST_SECONDS = 3.0
"""A median under this is too quick to read two answers."""
CONSISTENCY_FLOOR = 0.7
"""Of repeated pairs, a coin decides half alike; people who read, about four in five."""
TIMED_VOTES = 10
"""Fewer tell nothing about speed."""
BATTLE_VOTES = 5
"""From so many of others on the same battle on, a vote is held against those; else against those on the two models."""
WINDOW_VOTES = 100
"""The newest votes, which are tested: someone who stops caring is not covered by what came before."""

OUTCOMES = ("model_a", "model_b", "tie", "both_bad")
PATTERNS = {
    "coin": "votes as a coin would",
    "four": "chooses among the four buttons by chance",
    "contrary": "votes against the others",
    "first": "nearly always the first answer",
    "second": "nearly always the second answer",
    "tie": "nearly always a tie",
    "both_bad": "nearly always both bad",
}
"""What a doubtful voter is told from, and how that reads."""


@dataclass(frozen=True, slots=True)
class VoterTest:
    """The e-test of one voter.

    Attributes:
        n: Votes tested, the newest.
        e_value: Evidence that the votes are not like the others': at least 1 / alpha happens to at most a share alpha
            of voters who vote like the others.
        pattern: Of `PATTERNS`, the one that fits best.
        detected_after: Votes after which the e-value first was 1 / alpha; None if it never was.
        doubtful: It is at least that now.
    """

    annotator: int
    n: int
    e_value: float
    pattern: str
    detected_after: int | None
    doubtful: bool


@dataclass(frozen=True, slots=True)
class VoterCheck:
    """Everything that is known against a voter.

    Attributes:
        votes: Neither skipped nor undone, repeats included.
        median_seconds: A vote; NaN without times.
        agreement: With the other voters of the same battles, over pairs of votes that name a winner; n counts this
            voter's votes. Its share is NaN where nobody else voted.
        consistency: Of repeated pairs, how many got the same vote again.
        test: The e-test.
        doubts: Sentences; empty if there is none.
    """

    annotator: int
    votes: int
    median_seconds: float
    agreement: Share
    consistency: Share
    test: VoterTest
    doubts: tuple[str, ...]


def voter_tests(votes: pd.DataFrame, *, alpha: float = 0.05) -> list[VoterTest]:
    """Tests each voter's votes, as they come in, against the distribution of the others'.

    Null hypothesis of Chiang et al. 2024 (Chatbot Arena, arXiv:2403.04132, section 5.1, on anomalous users): a voter's
    vote on a pair of models is exchangeable with the others' votes on it. The paper has no e-values: each vote gets a
    rank p-value among the n earlier votes on the pair, p = (1 + sum_h 1[h >= x]) / (n + 1) (equation 10 there), the
    first j are combined by Fisher's method, M_j = -2 sum log p, and a voter is anomalous where M_j reaches the 1 -
    alpha / 5 quantile of chi^2 with 2 j degrees of freedom at one of five random j (random, so that nobody can prepare
    for them). With only four outcomes such p-values are coarse: where 3 of 4 others choose A, they are 1 or 1/4, their
    Fisher statistic grows by at most 1.4 a vote for someone who tosses a coin, below the 2 that it is compared with, so
    that such a voter is never found. Here each vote gives an e-value instead, on the same null hypothesis, against all
    other voters' votes and not only the earlier ones:

        E(x) = (N q(x) / c(x)) / sum_{k: c(k) > 0} q(k),

    with c the counts of the N = n + 1 votes, the voter's own included, and q a pattern to look for. Its mean over which
    of the N votes is the voter's is 1, whatever q (conformal e-values: Vovk, Conformal e-prediction, arXiv:2001.05989).
    Those of a voter's newest `WINDOW_VOTES` votes are multiplied, pattern by pattern, and averaged over the patterns;
    by Markov's inequality the average is 1 / alpha or more for at most a share alpha of voters who vote like the
    others. It grows only where a voter is nearer to a pattern than to the others, so that a person with an unusual
    taste stays below.

    Args:
        votes: In the order cast: annotator, battle, model_a, model_b, winner, order (ab or ba: what was shown first).
            Skipped votes and repeats do not belong in it.
        alpha: Level.

    Returns:
        One for each annotator, in order of first appearance.
    """
    import pandas as pd

    if not len(votes):
        return []
    who, names = pd.factorize(votes["annotator"])
    one = votes["model_a"].astype(str).to_numpy(dtype=object)
    two = votes["model_b"].astype(str).to_numpy(dtype=object)
    turned = one > two
    chose = votes["winner"].map({name: k for k, name in enumerate(OUTCOMES)}).to_numpy(dtype=np.int64)
    pair = votes.groupby([np.where(turned, two, one), np.where(turned, one, two)]).ngroup().to_numpy()
    battle, _ = pd.factorize(votes["battle"])
    by_model = np.where((chose < 2) & turned, 1 - chose, chose)
    by_slot = np.where((chose < 2) & (votes["order"] == "ba").to_numpy(), 1 - chose, chose)
    same_battle, same_pair = _others(who, battle, by_model), _others(who, np.asarray(pair, dtype=np.int64), by_model)
    fine = same_battle.sum(axis=1) >= BATTLE_VOTES
    models = np.where(fine[:, None], same_battle, same_pair)
    slots = _others(who, np.zeros(len(who), dtype=np.int64), by_slot)
    logs = np.column_stack([*_log_model(models, by_model), *_log_slot(slots, by_slot)])
    found = []
    for code, name in enumerate(names):
        mine = np.cumsum(logs[who == code][-WINDOW_VOTES:], axis=0)
        evidence = np.logaddexp.reduce(mine, axis=1) - np.log(mine.shape[1])
        over = np.flatnonzero(evidence >= -np.log(alpha))
        pattern = list(PATTERNS)[int(mine[-1].argmax())]
        after = int(over[0]) + 1 if len(over) else None
        e_value = float(np.exp(min(evidence[-1], 700.0)))
        found.append(VoterTest(int(name), len(mine), e_value, pattern, after, e_value >= 1 / alpha))
    return found


def _others(who: IntArray, group: IntArray, outcome: IntArray) -> FloatArray:
    """Counts the outcomes of a vote's group, its voter's own left out: shape (n, 4)."""
    n_groups = int(group.max()) + 1
    everyone = np.zeros((n_groups, len(OUTCOMES)))
    np.add.at(everyone, (group, outcome), 1.0)
    cells, cell = np.unique(who * n_groups + group, return_inverse=True)
    own = np.zeros((len(cells), len(OUTCOMES)))
    np.add.at(own, (cell, outcome), 1.0)
    return np.asarray(everyone[group] - own[cell])


def _log_e(others: FloatArray, outcome: IntArray, pattern: FloatArray) -> FloatArray:
    rows = np.arange(len(outcome))
    counts = others.copy()
    counts[rows, outcome] += 1.0
    chance = np.broadcast_to(pattern, counts.shape)
    present = np.where(counts > 0, chance, 0.0).sum(axis=1)
    return np.asarray(np.log(counts.sum(axis=1) * chance[rows, outcome] / (counts[rows, outcome] * present)))


def _log_model(others: FloatArray, outcome: IntArray) -> list[FloatArray]:
    counts = others.copy()
    counts[np.arange(len(outcome)), outcome] += 1.0
    swapped = counts[:, [1, 0, 2, 3]] + 0.5
    patterns = (
        np.array([0.49, 0.49, 0.01, 0.01]),
        np.full(len(OUTCOMES), 1 / len(OUTCOMES)),
        swapped / swapped.sum(axis=1, keepdims=True),
    )
    return [_log_e(others, outcome, pattern) for pattern in patterns]


def _log_slot(others: FloatArray, outcome: IntArray) -> list[FloatArray]:
    rest = 0.1 / (len(OUTCOMES) - 1)
    return [_log_e(others, outcome, np.where(np.arange(4) == k, 0.9, rest)) for k in range(len(OUTCOMES))]


def voter_checks(votes: pd.DataFrame, *, alpha: float = 0.05) -> list[VoterCheck]:
    """Checks every voter: the e-test (`voter_tests`), speed, agreement with the others, and with themselves.

    Speed is doubtful where the median is under `FAST_SECONDS` (from `TIMED_VOTES` timed votes on). Agreement is where
    its upper 95 % limit (Wilson) is under the middle between a coin's 1/2 and what voters agree on average: nearer to
    chance than to people. Consistency is where its upper 95 % limit is under `CONSISTENCY_FLOOR`.

    Args:
        votes: In the order cast: annotator, battle, model_a, model_b, winner, order, seconds (may be missing),
            replicate (0, or how often the voter was asked before). Skipped votes do not belong in it.
        alpha: Level of the e-test.

    Returns:
        One for each annotator, in order of first appearance.
    """
    first = votes[votes["replicate"] == 0]
    tests = {test.annotator: test for test in voter_tests(first, alpha=alpha)}
    agreed = _agreement(first)
    everyone = sum(hits for hits, _ in agreed.values()) / max(sum(n for _, n in agreed.values()), 1)
    floor = (0.5 + max(everyone, 0.5)) / 2
    found = []
    for annotator, mine in votes.groupby("annotator", sort=False):
        who = int(str(annotator))
        test = tests.get(who) or VoterTest(who, 0, 1.0, "coin", None, False)
        times = mine["seconds"].dropna()
        median = float(times.median()) if len(times) else float("nan")
        agreement = _share(*agreed.get(who, (0.0, 0)))
        consistency = _share(*_repeats(mine))
        doubts = []
        if test.doubtful:
            shown = "over a million" if test.e_value > 1e6 else f"{test.e_value:,.0f}"
            doubts.append(f"{PATTERNS[test.pattern]} (e-value {shown}, {test.n} votes)")
        if len(times) >= TIMED_VOTES and median < FAST_SECONDS:
            doubts.append(f"takes {median:.1f} seconds a vote")
        if agreement.n and agreement.upper < floor:
            doubts.append(f"agrees with others on {agreement.value:.0%} of {agreement.n} votes")
        if consistency.n and consistency.upper < CONSISTENCY_FLOOR:
            doubts.append(f"votes alike on {consistency.successes} of {consistency.n} repeated pairs")
        found.append(VoterCheck(who, len(mine), median, agreement, consistency, test, tuple(doubts)))
    return found


def _share(hits: float, n: int) -> Share:
    return Share(hits / n if n else float("nan"), *wilson(hits, n), round(hits), n)


def _agreement(votes: pd.DataFrame) -> dict[int, tuple[float, int]]:
    """Returns by annotator: the sum over votes of the share of the others that agree, and the number of votes."""
    chosen = votes[votes["winner"].isin(OUTCOMES[:2])]
    cell = chosen.groupby(["battle", "winner"])["annotator"].transform("size")
    whole = chosen.groupby("battle")["annotator"].transform("size")
    shared = whole > 1
    sums = ((cell - 1) / (whole - 1))[shared].groupby(chosen["annotator"][shared]).agg(["sum", "size"])
    return {int(str(who)): (float(row["sum"]), int(row["size"])) for who, row in sums.iterrows()}


def _repeats(mine: pd.DataFrame) -> tuple[float, int]:
    again = mine[mine["replicate"] > 0]
    before = mine[mine["replicate"] == 0].drop_duplicates("battle", keep="last").set_index("battle")["winner"]
    known = again["battle"].map(before)
    return float((known == again["winner"]).sum()), int(known.notna().sum())
