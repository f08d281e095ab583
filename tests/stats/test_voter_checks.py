"""Voter checks by simulation: who is found, after how many votes, and how many are suspected without cause."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

from evalkit.stats import voter_checks, voter_tests
from evalkit.stats.voter_checks import OUTCOMES

COLUMNS = ["annotator", "battle", "model_a", "model_b", "winner", "order", "seconds", "replicate"]
SWAPPED = {"model_a": "model_b", "model_b": "model_a"}


def votes_of(
    seed: int, bad: str = "", *, voters: int = 20, n: int = 100, battles: int | None = None, taste: float = 0.0
) -> pd.DataFrame:
    """Votes of people on six models by Bradley-Terry, some ties; voter 0 is bad in the way given.

    Args:
        battles: So many, voted on again and again; None for one battle a vote.
        taste: Standard deviation of how people differ, in strengths and in how readily they call a tie.
    """
    rng = np.random.default_rng(seed)
    strength = np.linspace(-1, 1, 6)
    pairs = [tuple(sorted(rng.choice(6, 2, replace=False))) for _ in range(battles or 0)]
    hard = rng.normal(0, 1, battles or 1)
    rows = []
    for voter in range(voters):
        mine, ties = rng.normal(0, taste, 6), min(0.6, 0.1 * float(np.exp(rng.normal(0, taste))))
        for t in range(n):
            place = int(rng.integers(battles)) if battles else voter * n + t
            a, b = pairs[place] if battles else sorted(rng.choice(6, 2, replace=False))
            gap = strength[a] - strength[b] + mine[a] - mine[b] + (hard[place] if battles else 0)
            order = ("ab", "ba")[rng.integers(2)]
            u = rng.random()
            better = "model_a" if rng.random() < 1 / (1 + np.exp(-1.5 * gap)) else "model_b"
            winner = "tie" if u < ties else "both_bad" if u < ties + 0.05 else better
            if voter == 0 and bad:
                winner = {
                    "first": "model_a" if order == "ab" else "model_b",
                    "coin": OUTCOMES[rng.integers(2)],
                    "four": OUTCOMES[rng.integers(4)],
                    "contrary": SWAPPED.get(winner, winner),
                    "tie": "tie",
                }[bad]
            rows.append((voter, place, f"m{a}", f"m{b}", winner, order, float(rng.lognormal(2.3, 0.4)), 0))
    return pd.DataFrame(rows, columns=COLUMNS)


@pytest.mark.parametrize(("battles", "taste"), [(None, 0.0), (60, 0.0), (None, 0.3)])
def test_few_who_vote_like_the_others_are_suspected(battles: int | None, taste: float) -> None:
    """At the end no more than the level, even where people differ; and hardly more who ever were on the way."""
    tests = [test for seed in range(8) for test in voter_tests(votes_of(seed, battles=battles, taste=taste))]
    assert np.mean([test.doubtful for test in tests]) <= 0.05
    assert np.mean([test.detected_after is not None for test in tests]) <= 0.07


@cache
def found(bad: str) -> tuple[list[int], str]:
    tests = [voter_tests(votes_of(100 + seed, bad, n=60))[0] for seed in range(8)]
    return sorted(test.detected_after or 999 for test in tests), tests[0].pattern


@pytest.mark.parametrize(
    ("bad", "median", "slowest"),
    [("first", 7, 10), ("tie", 5, 8), ("coin", 12, 60), ("four", 12, 45), ("contrary", 12, 40)],
)
def test_a_bad_voter_is_found_within_so_many_votes(bad: str, median: int, slowest: int) -> None:
    after, pattern = found(bad)
    assert pattern == bad
    assert after[len(after) // 2] <= median
    assert after[-1] <= slowest


def test_the_mean_e_value_of_an_exchangeable_vote_is_one() -> None:
    """Exactly so over which of the votes on a pair is the voter's: the property that the level rests on."""
    winners = ["model_a"] * 5 + ["model_b"] * 2 + ["tie"]
    values = []
    for mine in range(len(winners)):
        rows = [(int(k != mine), k, "x", "y", w, "ab", 9.0, 0) for k, w in enumerate(winners)]
        values.append(next(t.e_value for t in voter_tests(pd.DataFrame(rows, columns=COLUMNS)) if t.annotator == 0))
    assert np.mean(values) == pytest.approx(1.0)


def test_who_changes_for_the_worse_is_found_and_who_mends_is_forgiven() -> None:
    good, bad = votes_of(1, n=150), votes_of(1, "first", n=150)
    late = pd.concat([good[good.annotator == 0], bad[bad.annotator == 0], good[good.annotator > 0]])
    assert voter_tests(late)[0].doubtful
    mended = pd.concat([bad[bad.annotator == 0].head(20), good[good.annotator == 0], good[good.annotator > 0]])
    assert not voter_tests(mended)[0].doubtful


def test_the_naming_of_models_and_voters_without_company_change_nothing() -> None:
    votes = votes_of(3, "coin", voters=6)
    turned = votes.assign(
        model_a=votes.model_b,
        model_b=votes.model_a,
        winner=votes.winner.replace(SWAPPED),
        order=votes.order.replace({"ab": "ba", "ba": "ab"}),
    )
    assert [t.e_value for t in voter_tests(turned)] == pytest.approx([t.e_value for t in voter_tests(votes)])
    alone = voter_tests(votes[votes.annotator == 0])
    assert [t.e_value for t in alone] == [pytest.approx(1.0)]
    assert voter_tests(votes[:0]) == []


def test_speed_agreement_and_consistency() -> None:
    """Voter 0 is quick, and disagrees with itself; voter 1 with everyone; voter 2 votes as people do."""
    rng = np.random.default_rng(5)
    rows = []
    for battle in range(40):
        right = OUTCOMES[rng.integers(2)]
        for voter in range(5):
            winner = right if rng.random() < 0.9 else SWAPPED[right]
            winner = SWAPPED[right] if voter == 1 else winner
            seconds = 1.2 if voter == 0 else 20.0
            rows.append((voter, battle, "x", "y", winner, "ab", seconds, 0))
            if battle < 10:
                again = SWAPPED[winner] if voter == 0 and battle < 7 else winner
                rows.append((voter, battle, "x", "y", again, "ba", seconds, 1))
    checks = {check.annotator: check for check in voter_checks(pd.DataFrame(rows, columns=COLUMNS))}
    quick, contrary, fine = checks[0], checks[1], checks[2]
    assert quick.votes == 50
    assert quick.median_seconds == 1.2
    assert "takes 1.2 seconds a vote" in quick.doubts
    assert (quick.consistency.successes, quick.consistency.n) == (3, 10)
    assert "votes alike on 3 of 10 repeated pairs" in quick.doubts
    assert contrary.agreement.n == 40
    assert contrary.agreement.value < 0.3
    assert any(doubt.startswith("agrees with others on") for doubt in contrary.doubts)
    assert fine.doubts == ()
    assert (fine.consistency.successes, fine.consistency.n) == (10, 10)


def test_a_voter_with_repeats_only_has_no_test() -> None:
    rows = [(0, 1, "x", "y", "model_a", "ab", None, 1)]
    (check,) = voter_checks(pd.DataFrame(rows, columns=COLUMNS).astype({"seconds": float}))
    assert (check.votes, check.test.n, check.doubts) == (1, 0, ())
    assert np.isnan(check.median_seconds)
    assert check.agreement.n == check.consistency.n == 0
