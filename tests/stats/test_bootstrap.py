"""The Poisson bootstrap: its draws, convergence of every round, coverage, and what it refuses."""

import numpy as np
import pandas as pd
import pytest
from scipy import special

from evalkit.errors import UserError
from evalkit.stats import bradley_terry, count_votes
from evalkit.stats.bootstrap import _Cells, bootstrap_strengths, percentile_limits
from evalkit.stats.bradley_terry import fit, win_matrix
from evalkit.stats.ratings import ELO


def simulate(rng: np.random.Generator, strength: np.ndarray, n: int, ties: float = 0.0) -> pd.DataFrame:
    m = len(strength)
    i = rng.integers(m, size=n)
    j = (i + rng.integers(1, m, size=n)) % m
    winner = np.where(rng.random(n) < special.expit(strength[i] - strength[j]), "model_a", "model_b").astype(object)
    winner[rng.random(n) < ties] = "tie"
    names = np.array([f"m{k}" for k in range(m)])
    return pd.DataFrame({"model_a": names[i], "model_b": names[j], "winner": winner})


def test_cells_are_poisson() -> None:
    rng = np.random.default_rng(0)
    counts = count_votes(simulate(rng, np.linspace(-1, 1, 8), 3000, ties=0.2))
    cells = _Cells(counts, np.arange(8), [2, 3], [], 1)
    wins, tied = cells.draw(4000)
    expected = win_matrix(counts.weight, [2, 3])
    assert not tied.any()
    assert np.abs(wins.mean(axis=0) - expected).max() < 5 * np.sqrt(expected.max() / 4000)
    # A decided vote varies with variance 1, a half win, that both sides share, with 1/4.
    decided, halves = win_matrix(counts.weight, []), win_matrix(counts.weight, [2]) - win_matrix(counts.weight, [])
    variance = (decided + halves / 2)[expected > 0]
    np.testing.assert_allclose(wins.var(axis=0)[expected > 0] / variance, 1.0, atol=0.15)
    assert (wins[:, expected == 0] == 0).all()


def test_quantile_table_has_the_moments_of_poisson() -> None:
    counts = count_votes(simulate(np.random.default_rng(0), np.zeros(3), 100))
    cells = _Cells(counts, np.arange(3), [], [], 0)
    for mean in (1.0, 7.0, 300.0):
        table = cells._table(mean)
        assert len(table) == 65536
        assert table.mean() == pytest.approx(mean, rel=1e-4)
        assert table.var() == pytest.approx(mean, rel=2e-3)


@pytest.mark.parametrize("n", [90, 400, 20_000])
def test_every_round_is_solved_to_the_end(n: int) -> None:
    """Neither two steps nor a common Hessian stop short: each round equals a Newton fit of its own."""
    rng = np.random.default_rng(2)
    counts = count_votes(simulate(rng, np.linspace(-1.2, 1.2, 7), n, ties=0.1))
    core, half = np.arange(7), [2, 3]
    full = fit(win_matrix(counts.weight, half))
    found = bootstrap_strengths(counts, core, half, [], full, seed=5)
    wins, _ = _Cells(counts, core, half, [], 5).draw(1000)
    for k in range(0, 1000, 50):
        if np.isfinite(found.strength[k, 0]):
            np.testing.assert_allclose(found.strength[k], fit(wins[k]).strength, atol=1e-7)
    assert found.steps > 2 and found.gradient < 1e-8


def test_errors_agree_with_the_sandwich() -> None:
    votes = simulate(np.random.default_rng(3), np.linspace(-1, 1, 6), 4000, ties=0.2)
    weights = np.random.default_rng(4).uniform(0.5, 2.0, len(votes))
    for options in ({}, {"weights": weights}, {"ties": "drop"}, {"anchor": "m2"}):
        sandwich = bradley_terry(votes, **options)
        board = bradley_terry(votes, interval="bootstrap", rounds=2000, **options)
        assert board.models == sandwich.models
        np.testing.assert_array_equal(board.rating, sandwich.rating)
        moving = np.diag(sandwich.covariance) > 0
        ratio = np.diag(board.covariance)[moving] / np.diag(sandwich.covariance)[moving]
        np.testing.assert_allclose(np.sqrt(ratio), 1.0, atol=0.07)
        np.testing.assert_allclose(board.lower, sandwich.lower, atol=4.0)
        np.testing.assert_allclose(board.upper, sandwich.upper, atol=4.0)
        assert (board.better != sandwich.better).sum() <= 1 and board.better.sum() >= 12
    assert "2,000 rounds" in board.interval and "Poisson" in board.interval
    assert (board.lower == board.rating)[board.models.index("m2")]


def test_the_seed_decides() -> None:
    votes = simulate(np.random.default_rng(5), np.linspace(-1, 1, 4), 300)
    first, again, other = (bradley_terry(votes, interval="bootstrap", seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first.frame(), again.frame())
    assert (first.lower != other.lower).any()


def test_intervals_cover() -> None:
    rng, strength = np.random.default_rng(6), np.array([-1.0, -0.2, 0.3, 0.9])
    covered = []
    for seed in range(100):
        board = bradley_terry(simulate(rng, strength, 250, ties=0.1), interval="bootstrap", seed=seed, ties="drop")
        truth = 1000 + ELO * strength[[int(name[1]) for name in board.models]]
        covered += ((board.lower <= truth) & (truth <= board.upper)).tolist()
    assert 0.92 <= np.mean(covered) <= 0.975


def test_tie_models_are_resampled_too() -> None:
    votes = simulate(np.random.default_rng(7), np.array([-0.8, 0.8]), 900, ties=0.25)
    for ties in ("davidson", "rao-kupper"):
        sandwich, board = (bradley_terry(votes, ties=ties, interval=kind) for kind in ("sandwich", "bootstrap"))
        ratio = np.sqrt(np.diag(board.covariance) / np.diag(sandwich.covariance))
        np.testing.assert_allclose(ratio, 1.0, atol=0.1)
        assert board.tie_parameter.upper == pytest.approx(sandwich.tie_parameter.upper, rel=0.05)


def test_rounds_without_a_maximum_widen_the_intervals() -> None:
    rows = [("x", "y", "model_a")] * 9 + [("x", "y", "model_b")]
    votes = pd.DataFrame(rows, columns=["model_a", "model_b", "winner"])
    board = bradley_terry(votes, interval="bootstrap")
    (found,) = board.diagnoses
    assert found.kind == "undefined_rounds"
    assert found.count == pytest.approx(1000 * np.exp(-1), abs=60)  # the one loss is not drawn
    assert np.isinf(board.lower).all() and np.isinf(board.upper).all()
    values = np.vstack([np.linspace(-1, 1, 990)[:, None], np.full((10, 1), np.nan)])
    low, high = percentile_limits(values, np.zeros(1), 0.95)
    full_low, full_high = percentile_limits(np.linspace(-1, 1, 1000)[:, None], np.zeros(1), 0.95)
    assert low[0] < full_low[0] and high[0] > full_high[0]


def test_too_few_rounds_and_what_it_cannot_do_are_refused() -> None:
    votes = simulate(np.random.default_rng(8), np.zeros(3), 200).assign(voter="v")
    with pytest.raises(UserError, match="1,000 rounds or more, not 100"):
        bradley_terry(votes, interval="bootstrap", rounds=100)
    for options in ({"cluster": "voter"}, {"prior": "empirical-bayes"}):
        with pytest.raises(UserError, match="bootstrap takes the votes as independent"):
            bradley_terry(votes, interval="bootstrap", **options)
    with pytest.raises(UserError, match="one of sandwich, bootstrap"):
        bradley_terry(votes, interval="jackknife")


def test_nothing_to_rate() -> None:
    votes = pd.DataFrame({"model_a": ["x"], "model_b": ["y"], "winner": ["model_a"]})
    board = bradley_terry(votes, interval="bootstrap")
    assert np.isnan(board.rating).all() and np.isinf(board.upper).all()
    ties = pd.DataFrame({"model_a": ["x"] * 5, "model_b": ["y"] * 5, "winner": ["tie"] * 5})
    board = bradley_terry(ties, interval="bootstrap")
    assert np.isinf(board.upper).all() and "no_variation" in [d.kind for d in board.diagnoses]
