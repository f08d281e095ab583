"""Held-out predictions: proper scores by hand, calibrated on simulated votes, and what cannot be predicted."""

import numpy as np
import pandas as pd
import pytest
from scipy import special

from evalkit.errors import UserError
from evalkit.stats import bradley_terry, held_out_predictions

STRENGTH = np.linspace(-1.2, 1.2, 7)


def simulated(n: int, seed: int, nu: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    a = rng.integers(7, size=n)
    b = (a + rng.integers(1, 7, size=n)) % 7
    half = (STRENGTH[a] - STRENGTH[b]) / 2
    parts = np.stack([np.exp(half), np.full(n, nu), np.exp(-half)])
    drawn = (rng.random(n) > np.cumsum(parts / parts.sum(axis=0), axis=0)).sum(axis=0)
    names = np.array(list("abcdefg"))
    winner = np.array(["model_a", "tie", "model_b"])[drawn]
    return pd.DataFrame(
        {"model_a": names[a], "model_b": names[b], "winner": winner, "annotator": rng.integers(60, size=n)}
    )


def expected(votes: pd.DataFrame) -> tuple[float, float, float]:
    codes = [
        votes[side].map({name: k for k, name in enumerate("abcdefg")}).to_numpy() for side in ("model_a", "model_b")
    ]
    p = special.expit(STRENGTH[codes[0]] - STRENGTH[codes[1]])
    return float(special.entr(p).mean() + special.entr(1 - p).mean()), np.maximum(p, 1 - p).mean(), (p * (1 - p)).mean()


def test_scores_are_those_of_the_true_probabilities() -> None:
    votes = simulated(20_000, 0)
    found = held_out_predictions(votes)
    frame = found.frame().set_index("predictor")
    loss, accuracy, brier = expected(votes)
    row = frame.loc["ratings"]
    assert (row["log_loss"], row["accuracy"], row["brier"]) == pytest.approx((loss, accuracy, brier), abs=0.01)
    assert row["log_loss_lower"] < loss < row["log_loss_upper"] and row["brier_lower"] < brier < row["brier_upper"]
    half = frame.loc["always 1/2"]
    assert (half["log_loss"], half["accuracy"], half["brier"]) == pytest.approx((np.log(2), 0.5, 0.25))
    assert frame.loc["base rates", "log_loss"] == pytest.approx(np.log(2), abs=0.001)
    assert (found.n, found.n_wins, found.n_ties, found.n_unscored) == (20_000, 20_000, 0, 0)


def test_two_folds_by_hand() -> None:
    votes = simulated(400, 1)
    order = np.random.default_rng(0).permutation(400) % 2
    losses = []
    for held in (0, 1):
        board = bradley_terry(votes[order != held]).frame().set_index("model")["rating"]
        test = votes[order == held]
        p = 1 / (1 + 10 ** ((board[test["model_b"]].to_numpy() - board[test["model_a"]].to_numpy()) / 400))
        losses.append(-np.log(np.where(test["winner"] == "model_a", p, 1 - p)))
    found = held_out_predictions(votes, folds=2).skills[0]
    assert found.log_loss.value == pytest.approx(np.concatenate(losses).mean())


@pytest.mark.parametrize("policy", ["davidson", "rao-kupper"])
def test_tie_models_predict_three_outcomes(policy: str) -> None:
    votes = simulated(8_000, 2, nu=0.8)
    found = held_out_predictions(votes, ties=policy)
    frame = found.frame().set_index(["scope", "predictor"])
    assert frame.loc[("wins and ties", "always 1/2"), "log_loss"] == pytest.approx(np.log(3))
    base, ours = (frame.loc[("wins and ties", name)] for name in ("base rates", "ratings"))
    assert ours["log_loss_upper"] < base["log_loss_lower"] and ours["brier"] < base["brier"]
    assert found.n_wins + found.n_ties == found.n == 8_000 and found.n_ties > 1_000
    # Half wins shrink the strengths, so on decisive votes alone a tie model predicts better.
    shrunk = held_out_predictions(votes, ties="half")
    assert shrunk.n_unscored == found.n_ties and "not scored" in shrunk.warnings[0]
    assert frame.loc[("wins", "ratings"), "log_loss"] < shrunk.skills[0].log_loss.value


def test_whole_clusters_are_held_out() -> None:
    votes = simulated(600, 3)
    found = held_out_predictions(votes, cluster="annotator", folds=4)
    assert found.skills[0].log_loss.n_clusters == 60 and "by annotator" in found.definition
    again = held_out_predictions(votes, cluster="annotator", folds=4)
    assert found == again != held_out_predictions(votes, cluster="annotator", folds=4, seed=1)


def test_what_cannot_be_predicted_is_counted() -> None:
    votes = simulated(300, 4)
    extra = pd.DataFrame({"model_a": ["new", "a", None], "model_b": ["a", "b", "b"], "winner": ["model_a", "?", "tie"]})
    found = held_out_predictions(pd.concat([votes, extra]))
    assert (found.n, found.n_unpredicted, found.n_excluded) == (300, 1, 2)
    assert any("1 votes have a model that the other folds could not rate" in w for w in found.warnings)
    assert any("2 rows are no votes" in w for w in found.warnings)
    empirical = held_out_predictions(votes, prior="empirical-bayes")
    assert empirical.skills[0].log_loss.value < np.log(2)


def test_bad_requests_end_in_a_sentence() -> None:
    votes = simulated(20, 5)
    with pytest.raises(UserError, match="1 folds leave nothing"):
        held_out_predictions(votes, folds=1)
    with pytest.raises(UserError, match="30 folds need as many votes; there are 20"):
        held_out_predictions(votes, folds=30)
    with pytest.raises(UserError, match="lack the column"):
        held_out_predictions(votes, cluster="voter")
    with pytest.raises(UserError, match="has no cluster label"):
        held_out_predictions(votes.assign(annotator=None), cluster="annotator")
    with pytest.raises(UserError, match="policy for ties"):
        held_out_predictions(votes, ties="coin")
