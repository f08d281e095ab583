"""Win rates against a baseline: known values, invariances, simulated coverage, and a diagnosis for each doubt."""

import numpy as np
import pandas as pd
import pytest
from scipy import special

from evalkit.errors import UserError
from evalkit.stats import length_controlled_win_rates, win_rates
from evalkit.stats.glm import fit_logistic
from evalkit.stats.intervals import wilson

THETA = {"a": 0.4, "b": -0.5, "c": 0.0}
PHI = 1.2


def simulate(seed: int = 0, items: int = 400, models: tuple[str, ...] = ("a", "b", "c")) -> pd.DataFrame:
    """Each model against the baseline on each item; model a writes longer; harder items are lost more often."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(0.0, 0.8, items)
    parts = []
    for name in models:
        base, own = rng.lognormal(6, 0.4, items), rng.lognormal(6.3 if name == "a" else 6.0, 0.4, items)
        gap = own - base
        chance = special.expit(THETA[name] + PHI * np.tanh(gap / gap.std()) - hard)
        wins, first = rng.random(items) < chance, rng.random(items) < 0.5
        parts.append(
            pd.DataFrame(
                {
                    "item_id": np.arange(items),
                    "model_a": np.where(first, name, "base"),
                    "model_b": np.where(first, "base", name),
                    "winner": np.where(wins == first, "model_a", "model_b"),
                    "length_a": np.where(first, own, base),
                    "length_b": np.where(first, base, own),
                    "hard": hard,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def test_raw_win_rate_and_its_counts() -> None:
    rows = [("x", "base", "model_a")] * 6 + [("base", "x", "model_a")] * 3 + [("base", "x", "model_b")]
    rows += [("x", "base", "tie")] * 2 + [("x", "base", "both_bad"), ("x", "base", None), ("x", "y", "model_a")]
    votes = pd.DataFrame(rows, columns=["model_a", "model_b", "winner"])
    found = win_rates(votes, "base", both_bad="drop")
    (row,) = found.rows
    assert (row.model, row.wins, row.losses, row.ties, row.both_bad, row.n) == ("x", 7, 3, 2, 1, 12)
    assert row.win_rate == pytest.approx(8 / 12) and row.lower < 8 / 12 < row.upper
    assert (row.n_dropped, row.n_excluded, found.n_excluded) == (1, 1, 1)
    assert [d.kind for d in found.diagnoses] == ["missing_winner"]
    assert list(found.frame()["model"]) == ["x"]
    with pytest.raises(UserError, match="baseline 'gpt' is in no vote"):
        win_rates(votes, "gpt")
    with pytest.raises(UserError, match="half, drop"):
        win_rates(votes, "base", ties="davidson")


def test_raw_interval_is_wilsons_and_widens_with_clusters() -> None:
    rng = np.random.default_rng(1)
    votes = pd.DataFrame(
        {"model_a": "x", "model_b": "base", "winner": rng.permutation(["model_a"] * 70 + ["model_b"] * 30)}
    )
    row = win_rates(votes, "base").rows[0]
    lower, upper = wilson(70, 100)
    assert (row.lower, row.upper) == (pytest.approx(lower, abs=3e-3), pytest.approx(upper, abs=3e-3))
    five = pd.concat([votes.assign(item_id=np.arange(100))] * 5)
    alone, apart = win_rates(five, "base", cluster="item_id").rows[0], win_rates(five, "base").rows[0]
    assert alone.lower == pytest.approx(row.lower) and alone.n_clusters == 100
    assert apart.upper - apart.lower < 0.6 * (alone.upper - alone.lower)


def test_the_fit_equals_a_plain_logistic_regression() -> None:
    sm = pytest.importorskip("statsmodels.api", reason="a peer for the logistic regression")
    votes = simulate(2, models=("a",))
    found = length_controlled_win_rates(votes, "base", difficulty="hard")
    (row,) = found.rows
    is_a = votes["model_a"] == "a"
    gap = np.where(is_a, votes["length_a"] - votes["length_b"], votes["length_b"] - votes["length_a"])
    y = (is_a == (votes["winner"] == "model_a")).to_numpy(float)
    hard = ((votes["hard"] - votes["hard"].mean()) / votes["hard"].std(ddof=0)).to_numpy()
    z = np.column_stack([np.ones(len(y)), np.tanh(gap / gap.std()), hard])
    peer = sm.Logit(y, z).fit(disp=0, cov_type="HC0")
    assert row.length_effect == pytest.approx(peer.params[1], abs=1e-6)
    assert row.difficulty_effect == pytest.approx(peer.params[2], abs=1e-6)
    z[:, 1] = 0.0
    assert row.win_rate == pytest.approx(peer.predict(z).mean(), abs=1e-7)
    half = (row.length_effect_upper - row.length_effect_lower) / 2
    assert half == pytest.approx(1.966 * peer.bse[1], rel=5e-3)
    assert row.raw == pytest.approx(y.mean()) and row.change == pytest.approx(row.win_rate - row.raw)
    assert row.raw > row.win_rate  # its length had flattered the model
    assert "no regularisation" in found.definition


def test_the_baseline_against_the_model_is_the_rest() -> None:
    votes = simulate(3, models=("b",))
    one = length_controlled_win_rates(votes, "base", difficulty="hard").rows[0]
    two = length_controlled_win_rates(votes, "b", difficulty="hard").rows[0]
    assert one.win_rate == pytest.approx(1 - two.win_rate, abs=1e-9)
    assert one.se == pytest.approx(two.se, rel=1e-6)
    assert one.length_effect == pytest.approx(two.length_effect, abs=1e-7)


def test_coverage_of_the_length_controlled_win_rate() -> None:
    node, weight = np.polynomial.hermite_e.hermegauss(41)
    truth = {name: float(special.expit(theta - 0.8 * node) @ weight / weight.sum()) for name, theta in THETA.items()}
    hits, raw_hits, effects, rounds = 0, 0, 0, 80
    for seed in range(rounds):
        for row in length_controlled_win_rates(simulate(100 + seed, 300), "base", difficulty="hard").rows:
            hits += row.lower <= truth[row.model] <= row.upper
            effects += row.length_effect_lower <= PHI <= row.length_effect_upper
            raw_hits += row.model == "a" and abs(row.raw - truth["a"]) <= row.upper - row.win_rate
    assert hits / (3 * rounds) >= 0.93 and effects / (3 * rounds) >= 0.93
    assert raw_hits / rounds < 0.6  # the raw rate is another number


def test_difficulty_from_the_other_models() -> None:
    votes = simulate(4, 600)
    found = length_controlled_win_rates(votes, "base", cluster="item_id")
    known = length_controlled_win_rates(votes, "base", difficulty="hard")
    for own, given in zip(found.rows, known.rows, strict=True):
        assert own.model == given.model and abs(own.win_rate - given.win_rate) < 0.03
        assert own.difficulty_effect > 0.2  # more often won by others, more often won
    assert "other models" in found.definition
    alone = length_controlled_win_rates(votes[votes[["model_a", "model_b"]].isin(["a"]).any(axis=1)], "base")
    assert np.isnan(alone.rows[0].difficulty_effect) and "one model" in alone.warnings[0]
    blind = length_controlled_win_rates(votes.drop(columns="item_id"), "base")
    assert "no item_id" in blind.warnings[0]


def kinds(votes: pd.DataFrame) -> dict[str, str]:
    found = length_controlled_win_rates(votes, "base", difficulty="hard")
    return {d.kind: d.sentence for d in found.diagnoses}


def test_each_doubt_has_its_diagnosis() -> None:
    votes = simulate(5, models=("c",))
    is_c = votes["model_a"] == "c"
    assert kinds(votes) == {}
    longest = votes.assign(
        length_a=np.where(is_c, 900, votes["length_a"]), length_b=np.where(is_c, votes["length_b"], 900)
    )
    longest = longest[np.where(is_c, longest["length_b"], longest["length_a"]) < 1000]
    assert "extrapolation" in kinds(longest)["extrapolated"]
    equal = length_controlled_win_rates(votes.assign(length_a=5, length_b=5), "base", difficulty="hard")
    assert [d.kind for d in equal.diagnoses] == ["not_identifiable"]
    assert np.isnan(equal.rows[0].win_rate) and (equal.rows[0].lower, equal.rows[0].upper) == (0.0, 1.0)
    assert equal.rows[0].raw == pytest.approx(win_rates(votes, "base").rows[0].win_rate)
    longer = np.where(is_c, votes["length_a"] + votes["length_b"], votes["length_a"])
    beyond = votes.assign(
        length_a=longer, length_b=np.where(is_c, votes["length_b"], votes["length_a"] + votes["length_b"])
    )
    assert "always longer" in kinds(beyond)["not_identifiable"]
    always = votes.assign(winner=np.where(is_c, "model_a", "model_b"))
    assert "not_identifiable" in kinds(always)
    gap = np.where(is_c, votes["length_a"] - votes["length_b"], votes["length_b"] - votes["length_a"])
    close = np.abs(gap) < np.quantile(np.abs(gap), 0.4)
    peak = votes.assign(winner=np.where(close == is_c, "model_a", "model_b"))
    assert "fifths" in kinds(peak)["not_monotonic"]
    holes = votes.assign(length_a=votes["length_a"].where(votes.index != 7))
    assert kinds(holes)["missing_feature"].startswith("1 votes of c")
    holed = length_controlled_win_rates(holes, "base", difficulty="hard")
    assert (holed.rows[0].n, holed.rows[0].n_missing, holed.n_excluded) == (399, 1, 1)
    with pytest.raises(UserError, match="column"):
        length_controlled_win_rates(votes, "base", "tokens")
    few = kinds(votes.head(9))
    assert "few_clusters" in few or "not_identifiable" in few


def test_no_finite_fit_is_no_fit() -> None:
    x = np.linspace(-1, 1, 40)
    z = np.column_stack([np.ones(40), x])
    assert fit_logistic(z, (x > 0).astype(float)) is None
    assert fit_logistic(np.column_stack([z, x]), (np.arange(40) % 2).astype(float)) is None
    fitted = fit_logistic(np.ones((40, 1)), np.repeat([1.0, 0.0], [30, 10]))
    assert fitted is not None and fitted.coefficients[0] == pytest.approx(np.log(3))
