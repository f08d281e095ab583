"""Davidson and Rao-Kupper: closed forms, an independent maximisation, coverage, and what has no maximum."""

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from evalkit.stats import bradley_terry, count_votes
from evalkit.stats.ratings import ELO

MODELS = ("davidson", "rao-kupper")


def votes_of(*battles: tuple[str, str, str, int]) -> pd.DataFrame:
    rows = [(a, b, winner) for a, b, winner, times in battles for _ in range(times)]
    return pd.DataFrame(rows, columns=["model_a", "model_b", "winner"])


def probabilities(model: str, difference: np.ndarray, parameter: float) -> np.ndarray:
    """P(model_a), P(model_b), P(tie), shape (3, n), as the two papers print them."""
    a, b = np.exp(difference / 2), np.exp(-difference / 2)
    if model == "davidson":
        tie = parameter * np.sqrt(a * b)
        return np.array([a, b, tie]) / (a + b + tie)
    win, loss = a / (a + parameter * b), b / (b + parameter * a)
    return np.array([win, loss, 1 - win - loss])


def simulate(rng: np.random.Generator, model: str, strength: np.ndarray, parameter: float, n: int) -> pd.DataFrame:
    m = len(strength)
    i = rng.integers(m, size=n)
    j = (i + rng.integers(1, m, size=n)) % m
    p = probabilities(model, strength[i] - strength[j], parameter)
    outcome = (rng.random(n) > p.cumsum(axis=0)[:2]).sum(axis=0)
    names = np.array([f"m{k}" for k in range(m)])
    winner = np.array(["model_a", "model_b", "tie"])[outcome]
    return pd.DataFrame({"model_a": names[i], "model_b": names[j], "winner": winner, "annotator": np.arange(n)})


@pytest.mark.parametrize("model", MODELS)
def test_two_models_have_the_closed_form(model: str) -> None:
    won, lost, tied = 50, 20, 30
    n = won + lost + tied
    board = bradley_terry(
        votes_of(("x", "y", "model_a", 50), ("y", "x", "model_a", 20), ("x", "y", "tie", 30)), ties=model
    )
    found = board.tie_parameter
    gap = board.difference("x", "y")
    if model == "davidson":
        # Saturated: every probability is its share.
        assert gap.difference == pytest.approx(ELO * np.log(won / lost), abs=1e-9)
        assert (found.name, found.value) == ("nu", pytest.approx(tied / np.sqrt(won * lost), rel=1e-12))
        error = np.sqrt((1 / tied + 1 / (4 * won) + 1 / (4 * lost)) * n / (n - 1))
        assert np.log(found.upper / found.value) == pytest.approx(1.959964 * error, rel=1e-6)
        se = ELO * np.sqrt((1 / won + 1 / lost) * n / (n - 1))
        assert gap.upper - gap.difference == pytest.approx(1.959964 * se, rel=1e-6)
    else:
        logit_win, logit_loss = np.log(won / (n - won)), np.log(lost / (n - lost))
        assert gap.difference == pytest.approx(ELO * (logit_win - logit_loss) / 2, abs=1e-9)
        assert (found.name, found.value) == ("theta", pytest.approx(np.exp(-(logit_win + logit_loss) / 2), rel=1e-12))
    assert found.lower < found.value < found.upper
    assert (board.ties, board.both_bad, board.n_ties) == (model, model, 30)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("weighted", [False, True])
def test_maximum_and_sandwich_agree_with_a_general_optimiser(model: str, weighted: bool) -> None:
    rng = np.random.default_rng(1)
    votes = simulate(rng, model, np.array([-0.8, 0.1, 0.7]), 1.5, 250)
    weight = rng.uniform(0.5, 2.0, 250) if weighted else np.ones(250)
    board = bradley_terry(votes, ties=model, weights=weight if weighted else None)
    place = {name: k for k, name in enumerate(board.models)}
    a, b = (votes[side].map(place).to_numpy() for side in ("model_a", "model_b"))
    outcome = votes["winner"].map({"model_a": 0, "model_b": 1, "tie": 2}).to_numpy()

    def log_likelihoods(x: np.ndarray) -> np.ndarray:  # x: two strengths, log(nu) or log(theta - 1)
        strength = np.array([x[0], x[1], -x[0] - x[1]])
        parameter = np.exp(x[2]) + (model == "rao-kupper")
        return np.log(probabilities(model, strength[a] - strength[b], parameter)[outcome, np.arange(250)])

    best = optimize.minimize(lambda x: -(weight @ log_likelihoods(x)), np.zeros(3), method="BFGS", tol=1e-9).x
    np.testing.assert_allclose((board.rating[:2] - 1000) / ELO, best[:2], atol=1e-5)
    assert board.tie_parameter.value == pytest.approx(np.exp(best[2]) + (model == "rao-kupper"), rel=1e-5)

    step = 1e-4 * np.eye(3)
    scores = (
        np.array([(log_likelihoods(best + h) - log_likelihoods(best - h)) / 2e-4 for h in step]).T * weight[:, None]
    )
    total = lambda x: weight @ log_likelihoods(x)  # noqa: E731
    information = -np.array(
        [
            [total(best + g + h) - total(best + g - h) - total(best - g + h) + total(best - g - h) for g in step]
            for h in step
        ]
    ) / (4e-8)
    covariance = np.linalg.inv(information) @ scores.T @ scores @ np.linalg.inv(information) * 250 / 248
    np.testing.assert_allclose(board.covariance[:2, :2], ELO**2 * covariance[:2, :2], rtol=1e-4)
    parameter = np.exp(best[2])
    width = np.log(board.tie_parameter.upper / board.tie_parameter.lower) / (2 * 1.959964)
    if model == "davidson":
        assert width == pytest.approx(np.sqrt(covariance[2, 2]), rel=1e-3)
    else:  # delta method; the interval itself is symmetric on another scale
        assert width == pytest.approx(np.sqrt(covariance[2, 2]) * parameter / (1 + parameter), rel=2e-2)


@pytest.mark.parametrize("model", MODELS)
def test_intervals_cover_at_the_stated_rate(model: str) -> None:
    rng = np.random.default_rng(2)
    strength, parameter = np.linspace(-1, 1, 5), 1.4
    truth = 1000 + ELO * strength
    covered, of_parameter = [], []
    for _ in range(200):
        board = bradley_terry(simulate(rng, model, strength, parameter, 500), ties=model)
        frame = board.frame().sort_values("model")
        covered.append(((frame["lower"] <= truth) & (truth <= frame["upper"])).to_numpy())
        of_parameter.append(board.tie_parameter.lower <= parameter <= board.tie_parameter.upper)
        assert board.converged and board.gradient < 1e-12
    assert 0.93 <= np.mean(covered) <= 0.97
    assert 0.91 <= np.mean(of_parameter) <= 0.99


@pytest.mark.parametrize("model", MODELS)
def test_clusters_of_one_vote_and_counts_give_the_same(model: str) -> None:
    votes = simulate(np.random.default_rng(3), model, np.linspace(-1, 1, 4), 1.4, 300)
    independent, clustered = bradley_terry(votes, ties=model), bradley_terry(votes, ties=model, cluster="annotator")
    np.testing.assert_allclose(
        independent.covariance * (297 / 300), clustered.covariance * (299 / 300), rtol=1e-9, atol=1e-9
    )
    assert clustered.tie_parameter.value == pytest.approx(independent.tie_parameter.value, rel=1e-12)
    counts = bradley_terry(count_votes(votes), ties=model)
    pd.testing.assert_frame_equal(independent.frame(), counts.frame())
    assert counts.tie_parameter == independent.tie_parameter
    # Two copies of every vote in one cluster are one vote.
    doubled = bradley_terry(pd.concat([votes, votes]), ties=model, cluster="annotator")
    np.testing.assert_allclose(doubled.covariance, clustered.covariance, rtol=1e-9, atol=1e-9)
    assert doubled.tie_parameter.upper == pytest.approx(clustered.tie_parameter.upper, rel=1e-9)


@pytest.mark.parametrize("model", MODELS)
def test_both_bad_keeps_a_policy_of_its_own(model: str) -> None:
    ties = votes_of(("x", "y", "model_a", 50), ("x", "y", "model_b", 20), ("x", "y", "tie", 30))
    bad = votes_of(("y", "x", "both_bad", 25))
    both = pd.concat([ties, bad], ignore_index=True)
    drop = bradley_terry(both, ties=model, both_bad="drop")
    pd.testing.assert_frame_equal(drop.frame(), bradley_terry(ties, ties=model).frame())
    assert (drop.both_bad, drop.n, drop.n_dropped, drop.n_ties, drop.n_both_bad) == ("drop", 100, 25, 30, 25)
    as_tie = bradley_terry(both, ties=model)
    assert as_tie.both_bad == model and as_tie.tie_parameter.value > drop.tie_parameter.value
    half = bradley_terry(both, ties=model, both_bad="half")
    assert (half.both_bad, half.n) == ("half", 125)
    if model == "davidson":
        assert half.tie_parameter.value == pytest.approx(30 / np.sqrt(62.5 * 32.5), rel=1e-10)


@pytest.mark.parametrize("model", MODELS)
def test_without_ties_it_is_bradley_terry_and_says_so(model: str) -> None:
    votes = votes_of(
        ("x", "y", "model_a", 30), ("x", "y", "model_b", 10), ("y", "z", "model_a", 9), ("z", "x", "tie", 0)
    )
    votes = pd.concat([votes, votes_of(("z", "x", "model_a", 4))])
    board, plain = bradley_terry(votes, ties=model), bradley_terry(votes)
    np.testing.assert_allclose(board.rating, plain.rating, rtol=1e-12)
    np.testing.assert_allclose(board.upper, plain.upper, rtol=1e-9)
    assert [d.kind for d in board.diagnoses] == ["no_ties"]
    none = {"davidson": 0.0, "rao-kupper": 1.0}[model]
    assert (board.tie_parameter.value, board.tie_parameter.lower, board.tie_parameter.upper) == (none, none, np.inf)


@pytest.mark.parametrize("model", MODELS)
def test_an_infinite_tie_parameter_is_no_rating(model: str) -> None:
    # Neighbours always tie, the ends never do: strengths and tie parameter can grow together for ever.
    apart = votes_of(("a", "b", "tie", 9), ("b", "c", "tie", 9), ("a", "c", "model_a", 9))
    board = bradley_terry(apart, ties=model)
    assert [d.kind for d in board.diagnoses] == ["ties_separate"] and np.isnan(board.rating).all()
    assert board.tie_parameter is None and (board.rank_low == 1).all() and (board.rank_high == 3).all()
    # A circle with more wins than ties holds them.
    held = bradley_terry(pd.concat([apart, votes_of(("c", "b", "model_a", 1), ("b", "a", "model_a", 1))]), ties=model)
    assert held.converged and np.isfinite(held.rating).all()
    only = bradley_terry(votes_of(("a", "b", "tie", 9)), ties=model)
    assert [d.kind for d in only.diagnoses] == ["ties_separate"] and np.isnan(only.rating).all()
