"""AlpacaEval's and Arena-Hard's aggregation on tables small enough to reckon by hand."""

import numpy as np
import pandas as pd
import pytest

from evalkit.errors import UserError
from evalkit.stats.protocols import alpaca_eval, arena_hard


def votes(rows: list[tuple[object, ...]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["item_id", "model_a", "model_b", "winner", "probability"])


def test_alpaca_eval_is_the_mean_probability() -> None:
    nan = float("nan")
    frame = votes(
        [
            (1, "m", "base", "model_a", 0.9),
            (2, "base", "m", "model_a", 0.8),  # of the baseline
            (3, "m", "base", "tie", nan),
            (4, "base", "m", "model_b", nan),
            (5, "m", "base", None, nan),
            (1, "weak", "base", "model_b", 0.1),
            (1, "m", "weak", "model_a", 1.0),
        ]
    )
    found = alpaca_eval(frame, "base")
    assert [(row.model, row.n) for row in found.rows] == [("m", 4), ("weak", 1)]
    assert found.rows[0].win_rate == pytest.approx((0.9 + 0.2 + 0.5 + 1.0) / 4)
    assert found.rows[0].lower < found.rows[0].win_rate < found.rows[0].upper
    assert found.rows[1].win_rate == pytest.approx(0.1)
    assert "1 votes against base have no readable winner" in found.warnings[0]
    assert "clustered by item_id" in found.interval
    assert alpaca_eval(frame.drop(columns="probability"), "base").rows[0].win_rate == pytest.approx(2.5 / 4)


def test_alpaca_eval_at_equal_length() -> None:
    rng = np.random.default_rng(0)
    gap = rng.normal(100, 100, 1000)
    won = rng.random(1000) < 1 / (1 + np.exp(-np.tanh(gap / gap.std())))
    frame = votes([(i, "m", "base", "model_a" if w else "model_b", float("nan")) for i, w in enumerate(won)])
    frame = frame.assign(tokens_a=500 + gap, tokens_b=500.0)
    (row,) = alpaca_eval(frame, "base", length="tokens").rows
    assert row.win_rate > 0.6 and row.length_controlled == pytest.approx(0.5, abs=0.06)
    assert row.length_controlled_lower < 0.5 < row.length_controlled_upper


def test_arena_hard_counts_strong_verdicts_three_times() -> None:
    games = [("model_a", 1.0)] * 4 + [("model_a", 0.75)] * 2 + [("tie", 0.5)] * 3 + [("model_b", 0.25)] * 5
    games += [("model_b", 0.0)]
    frame = votes([(i, "m", "base", winner, p) for i, (winner, p) in enumerate(games)])
    found = arena_hard(frame, "base", seed=1)
    (row,) = found.rows
    # Only battles with the baseline: the Bradley-Terry rate is the weighted mean score.
    assert row.win_rate == pytest.approx((4 * 3 + 2 + 1.5) / (5 * 3 + 10))
    assert row.n == 15 and row.lower < row.win_rate < row.upper
    assert "5 strong verdicts of 15 count 3 times" in found.definition
    plain = arena_hard(frame.drop(columns="probability"), "base").rows[0]
    assert plain.win_rate == pytest.approx((6 + 1.5) / 15)
    # Both orders of a battle are two games, whoever is called model_a.
    turned = frame.rename(columns={"model_a": "model_b", "model_b": "model_a"})
    turned["winner"] = turned["winner"].map({"model_a": "model_b", "model_b": "model_a", "tie": "tie"})
    turned["probability"] = 1 - turned["probability"]
    both = arena_hard(pd.concat([frame, turned]), "base").rows[0]
    assert both.win_rate == pytest.approx(row.win_rate) and both.n == 30


def test_a_model_that_never_lost_has_no_rate_and_is_named() -> None:
    frame = votes([(i, "m", "base", "model_a", 1.0) for i in range(5)] + [(9, "k", "base", "model_a", 0.75)])
    frame = pd.concat([frame, votes([(10, "k", "base", "model_b", 0.0)])])
    found = arena_hard(frame, "base")
    assert [row.model for row in found.rows] == ["k", "m"] and np.isnan(found.rows[1].win_rate)
    assert any("m" in warning for warning in found.warnings)


def test_wrong_input_is_a_sentence() -> None:
    frame = votes([(1, "m", "base", "model_a", 1.5)])
    with pytest.raises(UserError, match=r"vote 1: the probability is 1\.5"):
        alpaca_eval(frame, "base")
    for protocol in (alpaca_eval, arena_hard):
        with pytest.raises(UserError, match="the baseline 'none' is in no vote"):
            protocol(frame, "none")
