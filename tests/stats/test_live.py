"""A live board gives what a board of all its votes gives, however the votes came."""

import numpy as np
import pandas as pd
import pytest

from evalkit.errors import UserError
from evalkit.stats import LiveBoard, Ratings, bradley_terry


def simulate(seed: int, models: int, n: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    i = rng.integers(models, size=n)
    j = (i + rng.integers(1, models, size=n)) % models
    winner = np.where(rng.random(n) < 1 / (1 + np.exp((i - j) / models)), "model_a", "model_b").astype(object)
    winner[rng.random(n) < 0.2] = "tie"
    names = np.array([f"m{k:02d}" for k in range(models)])
    return pd.DataFrame({"model_a": names[i], "model_b": names[j], "winner": winner})


def assert_same(live: Ratings, board: Ratings) -> None:
    assert live.models == board.models
    for name in ("rating", "lower", "upper", "covariance"):
        np.testing.assert_allclose(getattr(live, name), getattr(board, name), rtol=1e-10, atol=1e-9)
    for name in ("rank_low", "rank_high", "votes", "better"):
        np.testing.assert_array_equal(getattr(live, name), getattr(board, name))
    assert (live.n, live.n_excluded, live.ranks, live.interval) == (
        board.n,
        board.n_excluded,
        board.ranks,
        board.interval,
    )
    assert live.converged and live.gradient < 1e-12


def test_batches_give_the_board_of_all_votes() -> None:
    votes = simulate(0, 12, 3000)
    live = LiveBoard()
    for start in range(0, 3000, 500):
        live.add(votes.iloc[start : start + 500])
        assert_same(live.ratings(), bradley_terry(votes.iloc[: start + 500]))
    assert live.n == 3000
    options = {"ties": "davidson", "anchor": "m03", "ranks": "false-discovery", "min_votes": 20}
    assert_same(live.ratings(**options), bradley_terry(votes, **options))
    assert_same(live.ratings(interval="bootstrap"), bradley_terry(votes, interval="bootstrap"))


def test_votes_are_undone() -> None:
    votes = simulate(1, 6, 400)
    live = LiveBoard()
    live.add(votes)
    before = live.ratings()
    mistake = pd.DataFrame({"model_a": ["m00", "m01"], "model_b": ["m05", "m02"], "winner": ["model_a", "tie"]})
    live.add(mistake)
    assert (live.ratings().rating != before.rating).any()
    live.undo(mistake)
    assert_same(live.ratings(), bradley_terry(votes))
    one = votes.tail(1)
    live.undo(one)
    assert_same(live.ratings(), bradley_terry(votes.head(399)))


def test_models_join() -> None:
    live = LiveBoard(["z-known", "m01"])
    assert live.models == ("m01", "z-known") and np.isnan(live.ratings().rating).all()
    votes = simulate(2, 5, 300)
    live.add(votes)
    live.undo(votes.head(0))
    late = pd.DataFrame(
        {
            "model_a": ["a-new", "m00", "z-known", "m04"],
            "model_b": ["m01", "a-new", "m02", "z-known"],
            "winner": ["model_a", "model_a", "model_b", "model_b"],
        }
    )
    live.ratings()
    live.add(late)
    assert live.models[0] == "a-new"
    assert_same(live.ratings(), bradley_terry(pd.concat([votes, late])))


def test_weights() -> None:
    votes, weights = simulate(3, 4, 500), np.random.default_rng(3).uniform(0.5, 2.0, 500)
    live = LiveBoard()
    live.add(votes.head(200))
    live.add(votes.tail(300), weights[200:])
    weights[:200] = 1.0
    assert_same(live.ratings(), bradley_terry(votes, weights=weights))
    live.undo(votes.tail(300), weights[200:])
    assert_same(live.ratings(), bradley_terry(votes.head(200)))


def test_faulty_rows_are_said() -> None:
    faulty = pd.DataFrame(
        {
            "model_a": ["m00", "m00", None, "m01"],
            "model_b": ["m01", "m00", "m01", "m02"],
            "winner": ["Tie!", "model_a", "model_a", None],
        }
    )
    votes = simulate(4, 3, 200)
    live = LiveBoard()
    live.add(votes)
    live.add(faulty)
    live.add(faulty)
    board = live.ratings()
    assert (board.n, board.n_excluded) == (200, 8)
    assert {d.kind: d.count for d in board.diagnoses} == {
        "missing_model": 2,
        "unknown_label": 2,
        "missing_winner": 2,
        "self_battle": 2,
    }
    live.undo(faulty)
    live.undo(faulty)
    assert live.ratings().warnings == () and live.ratings().n_excluded == 0
    with pytest.raises(UserError, match="cannot undo"):
        live.undo(faulty)


def test_what_was_not_added_cannot_be_undone() -> None:
    live = LiveBoard()
    live.add(simulate(5, 3, 50))
    before = live.ratings()
    stranger = pd.DataFrame({"model_a": ["m00", "who"], "model_b": ["m01", "m01"], "winner": ["model_a", "tie"]})
    with pytest.raises(UserError, match="'who'"):
        live.undo(stranger)
    never = pd.DataFrame({"model_a": ["m00"], "model_b": ["m01"], "winner": ["both_bad"]})
    with pytest.raises(UserError, match=r"both_bad on m00 against m01: only 0 were added"):
        live.undo(never)
    assert_same(live.ratings(), before)
    with pytest.raises(UserError, match="need the votes themselves"):
        live.ratings(cluster="voter")


def test_counts_are_a_copy() -> None:
    live = LiveBoard()
    live.add(simulate(6, 3, 50))
    counts = live.counts()
    live.add(simulate(7, 3, 50))
    assert counts.votes.sum() == 50 and live.n == 100
    other = LiveBoard()
    other.add(counts)
    other.add(simulate(7, 3, 50))
    assert_same(other.ratings(), live.ratings())
    other.undo(counts)
    assert other.n == 50
