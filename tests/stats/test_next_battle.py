"""Next battle: the formulas, the stop rule, cold start; and it saves votes (tests/perf/next_battle.py has more)."""

import numpy as np
import pandas as pd
import pytest
from next_battle import GOAL, votes_saved
from scipy import special

from evalkit.errors import UserError
from evalkit.stats import LiveBoard, bradley_terry, count_votes, next_battles
from evalkit.stats.ratings import ELO


def simulate(seed: int, n: int, strength: tuple[float, ...] = (1.5, 0.1, 0.0, -1.5)) -> pd.DataFrame:
    rng, s = np.random.default_rng(seed), np.array(strength)
    i = rng.integers(len(s), size=n)
    j = (i + rng.integers(1, len(s), size=n)) % len(s)
    names = np.array([f"m{k}" for k in range(len(s))])
    wins = rng.random(n) < special.expit(s[i] - s[j])
    return pd.DataFrame({"model_a": names[i], "model_b": names[j], "winner": np.where(wins, "model_a", "model_b")})


def test_score_and_votes_needed_follow_their_formulas() -> None:
    board = bradley_terry(simulate(1, 300))
    found = next_battles(board)
    assert len(found.pairs) == found.n_pairs == 6
    for row in found.pairs.itertuples():
        difference = board.difference(row.model_a, row.model_b)
        error = (difference.upper - difference.lower) / 2 / 1.959964
        assert row.difference == pytest.approx(difference.difference) and row.se == pytest.approx(error, rel=1e-5)
        p, t = difference.win_probability, difference.difference / error
        assert row.win_probability == pytest.approx(p)
        assert row.p_wrong == pytest.approx(difference.p_value / 2, rel=1e-4)
        assert row.resolved == (difference.p_value <= 0.05)
        if row.resolved:
            assert row.score == row.votes_needed == 0
        else:
            assert row.score == pytest.approx(special.ndtr(-t) * error / ELO * p * (1 - p), rel=1e-4)
            after = (ELO / error) ** 2 + row.votes_needed * p * (1 - p)
            assert difference.difference / ELO * np.sqrt(after) >= 1.9599 > t
    assert found.resolved == found.pairs["resolved"].sum()
    assert found.frame()["score"].is_monotonic_decreasing


def test_votes_go_to_the_close_pair_and_it_is_resolved_as_foretold() -> None:
    votes = simulate(2, 600, (1.5, 0.35, 0.0, -1.5))
    found = next_battles(bradley_terry(votes), n=20, seed=3)
    assert {frozenset(pair) for pair in found.proposals} == {frozenset(("m1", "m2"))}
    assert 0 < sum(pair[0] == "m1" for pair in found.proposals) < 20  # either is shown first
    strict = next_battles(bradley_terry(votes), level="family-wise")
    assert strict.resolved <= found.resolved
    assert (strict.pairs["votes_needed"] >= found.pairs["votes_needed"]).all()


def test_a_batch_spreads_and_repeats_with_its_seed() -> None:
    counts = count_votes(simulate(4, 60, (0.3, 0.2, 0.1, 0.0, -0.1, -0.2)))
    one, two = (next_battles(counts, n=12, budget=600, seed=5) for _ in range(2))
    assert one.proposals == two.proposals and len(one.proposals) == 12
    assert len({frozenset(pair) for pair in one.proposals}) >= 2
    assert next_battles(counts, n=12, budget=600, seed=6).proposals != one.proposals


def test_cold_start_meets_every_model() -> None:
    live = LiveBoard(["a", "b", "c", "d", "e"])
    found = next_battles(live.ratings(prior="empirical-bayes"), n=5)
    assert len(found.proposals) == 5 and not found.stop and len(found.unrated) == 5
    assert {name for pair in found.proposals for name in pair} == set("abcde")
    assert all(a != b for a, b in found.proposals)
    rng = np.random.default_rng(0)
    for _ in range(12):
        rows = [(a, b, rng.choice(["model_a", "model_b"])) for a, b in found.proposals]
        live.add(pd.DataFrame(rows, columns=["model_a", "model_b", "winner"]))
        found = next_battles(live.ratings(prior="empirical-bayes"), n=5)
    assert not found.unrated and len(found.pairs) == 10
    late = next_battles(live.ratings(prior="empirical-bayes"), models=["new"], n=2)
    assert "new" in late.proposals[0] and "new" not in late.proposals[1] and late.unrated == ("new",)


def test_stop_rules() -> None:
    far = bradley_terry(simulate(7, 4000, (2.0, 0.0, -2.0)))
    done = next_battles(far)
    assert done.stop and done.proposals == () and done.reason == "All 3 pairs are told apart."
    near = bradley_terry(simulate(8, 400, (0.02, 0.01, 0.0)))
    going = next_battles(near)
    assert not going.stop and "not told apart" in going.reason
    assert next_battles(near, width=500).stop and not next_battles(near, width=1).stop
    spent = next_battles(near, budget=1)
    assert spent.stop and "within 1 votes" in spent.reason and len(spent.proposals) == 1
    top = spent.frame().iloc[0]  # with no pair in reach, the score decides
    assert set(spent.proposals[0]) == {top["model_a"], top["model_b"]}


def test_equal_models_do_not_divide_by_zero() -> None:
    rows = [("a", "b", w) for w in ("model_a", "model_b")] * 20
    found = next_battles(bradley_terry(pd.DataFrame(rows, columns=["model_a", "model_b", "winner"])), budget=100)
    assert found.stop and found.pairs["votes_needed"].tolist() == [np.inf] and len(found.proposals) == 1
    tied = pd.DataFrame([("a", "b", "tie")] * 5, columns=["model_a", "model_b", "winner"])
    assert len(next_battles(bradley_terry(tied)).proposals) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "0 battles were asked for"),
        ({"budget": -1}, "budget is -1"),
        ({"width": 0.0}, "width is 0"),
        ({"level": "overlap"}, "pair, family-wise"),
        ({"confidence": 95}, "between 0 and 1"),
    ],
)
def test_wrong_options_are_told(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        next_battles(bradley_terry(simulate(1, 50)), **options)


def test_one_model_has_no_battle() -> None:
    with pytest.raises(UserError, match="two models"):
        next_battles(LiveBoard(["a"]).ratings())


def test_it_saves_a_third_of_the_votes() -> None:
    saved = votes_saved("ours", range(100, 102), 20, spread=1.2, votes=4000, batch=200, level="pair")
    assert saved.ratio <= GOAL and saved.resolved >= saved.uniform and saved.wrong <= 2
