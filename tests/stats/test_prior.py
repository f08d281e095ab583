"""The empirical-Bayes prior: what it estimates, coverage on sparse boards, and what it makes of one-sided records."""

import numpy as np
import pandas as pd
import pytest

from evalkit.errors import UserError
from evalkit.stats import VoteCounts, bradley_terry
from evalkit.stats.bradley_terry import fit
from evalkit.stats.prior import prior_deviation
from evalkit.stats.ratings import ELO


def votes_of(*battles: tuple[str, str, str, int]) -> pd.DataFrame:
    rows = [(a, b, winner) for a, b, winner, times in battles for _ in range(times)]
    return pd.DataFrame(rows, columns=["model_a", "model_b", "winner"])


CYCLE = [("a", "b", "model_a", 6), ("a", "b", "model_b", 4), ("b", "c", "model_a", 7), ("c", "a", "model_a", 3)]


def sparse_board(rng: np.random.Generator, strength: np.ndarray, n: int) -> VoteCounts:
    m = len(strength)
    i = rng.integers(m, size=n)
    j = (i + rng.integers(1, m, size=n)) % m
    outcome = (rng.random(n) > 1 / (1 + np.exp(strength[j] - strength[i]))).astype(int)
    votes = np.bincount((i * m + j) * 4 + outcome, minlength=m * m * 4).reshape(m, m, 4).astype(float)
    return VoteCounts(tuple(f"{k:02d}" for k in range(m)), votes, votes, votes, 0, ())


def test_deviation_is_the_maximum_of_the_marginal_likelihood() -> None:
    # Two models: the marginal likelihood of their difference (variance 2 tau^2) can be integrated numerically.
    wins = np.array([[0.0, 60.0], [40.0, 0.0]])
    tau, _ = prior_deviation(lambda precision: fit(wins, None, precision), 2)
    difference = np.linspace(-8, 8, 20_001)
    likelihood = np.exp(60 * -np.log1p(np.exp(-difference)) + 40 * -np.log1p(np.exp(difference)) + 67)
    grid = np.linspace(0.3, 3, 271)
    marginal = [np.log((likelihood * np.exp(-(difference**2) / (4 * t * t)) / t).sum()) + np.log(t) - t for t in grid]
    assert tau == pytest.approx(grid[int(np.argmax(marginal))], abs=0.02)  # Laplace's method, 100 votes


def test_sparse_boards_keep_their_coverage_and_gain_accuracy() -> None:
    rng = np.random.default_rng(1)
    covered, error, plain_error = [], [], []
    for _ in range(60):
        strength = rng.normal(0, 0.8, 30)
        counts = sparse_board(rng, strength, 180)
        board, plain = bradley_terry(counts, prior="empirical-bayes"), bradley_terry(counts)
        for result, errors in ((board, error), (plain, plain_error)):
            rated = np.isfinite(result.rating)
            place = np.array([int(name) for name in result.models])[rated]
            truth = 1000 + ELO * (strength[place] - strength[place].mean())
            errors += ((result.rating[rated] - truth) ** 2).tolist()
            if result is board:
                covered += ((result.lower[rated] <= truth) & (truth <= result.upper[rated])).tolist()
    assert 0.92 <= np.mean(covered) <= 0.98
    assert np.mean(error) < 0.6 * np.mean(plain_error)


def test_many_votes_leave_the_prior_nothing_to_say() -> None:
    rng = np.random.default_rng(2)
    counts = sparse_board(rng, rng.normal(0, 0.8, 8), 200_000)
    board, plain = bradley_terry(counts, prior="empirical-bayes"), bradley_terry(counts)
    assert board.models == plain.models
    np.testing.assert_allclose(board.rating, plain.rating, atol=0.5)
    assert "empirical Bayes" in board.prior and "standard deviation" in board.prior and "Bayes" in board.method
    assert (plain.prior, plain.method) == ("none", "Bradley-Terry")


@pytest.mark.parametrize("ties", ["half", "davidson", "rao-kupper", "drop"])
def test_one_sided_models_become_finite_wide_and_are_named(ties: str) -> None:
    votes = votes_of(
        *CYCLE,
        ("a", "b", "tie", 3),
        ("king", "a", "model_a", 9),
        ("a", "last", "model_a", 5),
        ("p", "q", "model_a", 2),
        ("q", "p", "model_a", 2),
        ("p", "a", "model_a", 2),
    )
    board = bradley_terry(votes, ties=ties, prior="empirical-bayes")
    assert {d.kind: d.models for d in board.diagnoses} == {
        "undefeated": ("king",),
        "winless": ("last",),
        "separated": ("p", "q"),
    }
    assert all("prior" in sentence for sentence in board.warnings)
    width = dict(zip(board.models, board.upper - board.lower, strict=True))
    assert np.isfinite(board.rating).all() and np.isfinite(board.upper).all()
    # A record without a loss must not read as certainty.
    assert min(width["king"], width["last"]) > max(width[name] for name in "abc")
    assert board.models[0] == "king"


def test_one_pair_that_never_lost() -> None:
    board = bradley_terry(votes_of(("x", "y", "model_a", 12)), prior="empirical-bayes")
    assert [d.kind for d in board.diagnoses] == ["undefeated", "winless"]
    assert np.isfinite(board.rating).all() and (board.upper - board.lower > 400).all()


def test_islands_stay_apart_with_a_prior() -> None:
    votes = votes_of(*CYCLE, ("p", "q", "model_a", 50), ("q", "p", "model_a", 5))
    board = bradley_terry(votes, prior="empirical-bayes")
    assert {d.kind: d.models for d in board.diagnoses} == {"disconnected": ("p", "q")}
    far = np.isin(board.models, ["p", "q"])
    assert np.isnan(board.rating[far]).all() and (board.rank_high[far] == 5).all()


def test_equal_models_still_have_intervals() -> None:
    votes = votes_of(
        ("a", "b", "model_a", 5), ("a", "b", "model_b", 5), ("b", "c", "model_a", 5), ("c", "b", "model_a", 5)
    )
    board = bradley_terry(votes, prior="empirical-bayes")
    np.testing.assert_allclose(board.rating, 1000, atol=1e-6)
    assert (board.upper - board.lower > 100).all()


def test_clusters_widen_the_intervals_with_a_prior_too() -> None:
    votes = pd.concat([votes_of(*CYCLE)] * 6, ignore_index=True)
    votes["annotator"] = votes.groupby(["model_a", "model_b", "winner"]).cumcount() % 12
    for column, more in (("annotator", False), ("winner", True)):
        board = bradley_terry(votes, prior="empirical-bayes", cluster=column)
        assert np.isfinite(board.rating).all() and column in board.interval and "prior" in board.interval
        assert bool(board.df < 2) == more


def test_unknown_prior_ends_in_a_sentence() -> None:
    with pytest.raises(UserError, match="must be one of none, empirical-bayes"):
        bradley_terry(votes_of(*CYCLE), prior="flat")
