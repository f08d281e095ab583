"""Votes that hold up the first place: against every subset of small boards, and verified by new fits."""

from itertools import combinations_with_replacement

import numpy as np
import pandas as pd
import pytest

from evalkit.errors import UserError
from evalkit.stats import bradley_terry, count_votes, first_place_flip
from evalkit.stats.bradley_terry import fit, rateable_group, win_matrix


def simulated(n: int, seed: int, strength: np.ndarray, ties: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    m = len(strength)
    a = rng.integers(m, size=n)
    b = (a + rng.integers(1, m, size=n)) % m
    won = rng.random(n) < 1 / (1 + np.exp(strength[b] - strength[a]))
    winner = np.where(rng.random(n) < ties, "tie", np.where(won, "model_a", "model_b"))
    names = np.array([f"m{i}" for i in range(m)])
    return pd.DataFrame({"model_a": names[a], "model_b": names[b], "winner": winner})


def without(votes: pd.DataFrame, removed: pd.DataFrame) -> pd.DataFrame:
    left = votes
    for row in removed.itertuples():
        same = (left["model_a"] == row.model_a) & (left["model_b"] == row.model_b) & (left["winner"] == row.winner)
        assert same.sum() == row.of
        left = left.drop(index=left.index[same][: row.removed])
    return left


@pytest.mark.parametrize("ties", [0.0, 0.3])
def test_without_the_set_another_model_leads(ties: float) -> None:
    votes = simulated(3000, 0, np.array([0.35, 0.2, 0.0, -0.2, -0.4]), ties)
    found = first_place_flip(votes)
    board = bradley_terry(votes)
    assert found.first == board.models[0] and found.gap == pytest.approx(
        board.difference(found.first, found.rival).difference
    )
    assert found.removed["removed"].sum() == found.votes > 0 and found.share == found.votes / 3000
    after = bradley_terry(without(votes, found.removed))
    assert after.models[0] == found.rival and found.gap_after < 0
    assert after.difference(found.first, found.rival).difference == pytest.approx(found.gap_after, abs=1e-6)
    assert found.estimated == pytest.approx(found.votes, rel=0.2)  # the influences are first order


def test_no_smaller_set_exists_on_small_boards() -> None:
    compared = 0
    for seed in range(12):
        votes = simulated(36, seed, np.array([0.4, 0.2, -0.2]))
        counts = count_votes(votes)
        wins = win_matrix(counts.votes, [])
        if len(rateable_group(counts.models, wins)[0]) < 3:
            continue
        found = first_place_flip(votes)
        if not 1 < found.votes <= 4:
            continue
        compared += 1
        top = counts.models.index(found.first)
        pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
        for size in range(1, found.votes):
            for taken in combinations_with_replacement(pairs, size):
                left = wins.copy()
                np.subtract.at(left, tuple(np.array(taken).T), 1)
                if (left >= 0).all() and len(rateable_group(counts.models, left)[0]) == 3:
                    strength = fit(left).strength
                    assert strength.max() - strength[top] < 1e-9, (seed, found.votes, taken)
    assert compared >= 3


def test_level_models_need_no_vote() -> None:
    votes = pd.DataFrame(
        [("a", "b", "model_a"), ("a", "b", "model_b"), ("b", "c", "tie"), ("a", "c", "tie")],
        columns=["model_a", "model_b", "winner"],
    )
    found = first_place_flip(votes)
    assert found.votes == 0 and found.gap == pytest.approx(0, abs=1e-9) and len(found.removed) == 0


def test_dropped_ties_are_neither_used_nor_removed() -> None:
    votes = simulated(800, 1, np.array([0.5, 0.1, -0.3]), 0.3)
    found = first_place_flip(votes, ties="drop")
    assert "tie" not in set(found.removed["winner"]) and found.n == (votes["winner"] != "tie").sum()
    assert bradley_terry(without(votes, found.removed), ties="drop").models[0] == found.rival


def test_a_first_place_that_no_removal_takes() -> None:
    votes = pd.DataFrame(
        [("a", "b", "model_a")] * 3 + [("a", "b", "model_b")], columns=["model_a", "model_b", "winner"]
    )
    found = first_place_flip(votes)
    assert found.votes == -1 and found.rival == "" and "No set of votes was found" in found.warnings[-1]


def test_bad_requests_end_in_a_sentence() -> None:
    votes = simulated(50, 2, np.array([0.5, 0.0]))
    with pytest.raises(UserError, match="need half or drop"):
        first_place_flip(votes, ties="davidson")
    with pytest.raises(UserError, match="no first place: No two models have beaten each other"):
        first_place_flip(votes[votes["winner"] == "nobody"])
