"""Style control: against an unpenalised logistic regression, the true coefficients, and faulty features."""

import importlib.util

import numpy as np
import pandas as pd
import pytest

from evalkit.errors import UserError
from evalkit.stats import battle_features, bradley_terry, style_control, style_features
from evalkit.stats.ratings import ELO

NAMES = np.array([f"m{k}" for k in range(6)])
TRUE = {"tokens": 0.9, "lists": -0.4}  # log-odds for a relative difference of 1


def simulate(seed: int = 0, n: int = 4000, ties: float = 0.0) -> pd.DataFrame:
    """Votes in which style decides as in TRUE; model m0 writes the longest answers and is the weakest."""
    rng = np.random.default_rng(seed)
    m = len(NAMES)
    strength = np.linspace(-0.6, 0.6, m)
    i = rng.integers(m, size=n)
    j = (i + rng.integers(1, m, size=n)) % m
    columns = {"model_a": NAMES[i], "model_b": NAMES[j]}
    logit = strength[i] - strength[j]
    for name, mean in (("tokens", 300.0), ("lists", 2.0)):
        a, b = (rng.poisson(mean * rng.gamma(3, 1 / 3, n) * np.exp(-0.3 * (k - 2.5))) for k in (i, j))
        columns |= {f"{name}_a": a, f"{name}_b": b}
        logit = logit + TRUE[name] * (a - b) / np.maximum(a + b, 1)
    winner = np.where(rng.random(n) < 1 / (1 + np.exp(-logit)), "model_a", "model_b").astype(object)
    winner[rng.random(n) < ties] = "tie"
    return pd.DataFrame({**columns, "winner": winner, "annotator": rng.integers(150, size=n)})


def design(votes: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Indicator differences of all models but the first, then the normalised features; and the scores."""
    z = [(votes["model_a"] == name).astype(float) - (votes["model_b"] == name).astype(float) for name in NAMES[1:]]
    for name in TRUE:
        a, b = votes[f"{name}_a"].to_numpy(float), votes[f"{name}_b"].to_numpy(float)
        x = np.divide(a - b, a + b, out=np.zeros(len(a)), where=a + b > 0)
        z.append(x / np.sqrt((x**2).mean()))
    return np.column_stack(z), votes["winner"].map({"model_a": 1.0, "model_b": 0.0, "tie": 0.5}).to_numpy()


def logistic(z: np.ndarray, y: np.ndarray, penalty: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Plain Newton for an (un)penalised logistic regression, and its sandwich covariance."""
    ridge = np.zeros(z.shape[1])
    ridge[-len(TRUE) :] = penalty
    beta = np.zeros(z.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-z @ beta))
        bread = np.linalg.inv((z * (p * (1 - p))[:, None]).T @ z + np.diag(ridge))
        beta = beta + bread @ (z.T @ (y - p) - ridge * beta)
    score = z * (y - p)[:, None]
    return beta, bread @ (score.T @ score) @ bread


def test_equals_a_plain_logistic_regression() -> None:
    votes = simulate(1, ties=0.2)
    found = style_control(votes, list(TRUE), anchor="m0", center=0.0)
    z, y = design(votes)
    beta, covariance = logistic(z, y)
    covariance *= len(y) / (len(y) - z.shape[1])
    rating = dict(zip(found.ratings.models, found.ratings.rating, strict=True))
    np.testing.assert_allclose([rating[name] / ELO for name in NAMES[1:]], beta[: len(NAMES) - 1], atol=1e-8)
    np.testing.assert_allclose([c.coefficient for c in found.coefficients], beta[-2:], atol=1e-8)
    error = [(c.upper - c.lower) / 2 / 1.959964 for c in found.coefficients]
    np.testing.assert_allclose(error, np.sqrt(np.diag(covariance))[-2:], rtol=1e-6)
    # The full covariance, models in the order of the board.
    order = [*(list(NAMES[1:]).index(name) for name in found.ratings.models if name != "m0"), 5, 6]
    keep = [i for i in range(8) if i >= 6 or found.ratings.models[i] != "m0"]
    unit = np.array([ELO] * 5 + [1.0] * 2)
    expected = covariance[np.ix_(order, order)] * np.outer(unit, unit)
    np.testing.assert_allclose(found.covariance[np.ix_(keep, keep)], expected, rtol=1e-6, atol=1e-9)
    assert found.ratings.gradient < 1e-9 and found.shrinkage == "none" and found.n == len(votes)


def test_covariances_equal_statsmodels() -> None:
    sm = pytest.importorskip("statsmodels.api", reason="a peer for the clustered covariance")
    votes = simulate(2)
    z, y = design(votes)
    peer = sm.GLM(y, z, family=sm.families.Binomial()).fit(
        cov_type="cluster", cov_kwds={"groups": votes["annotator"].to_numpy(), "use_correction": False}
    )
    groups = votes["annotator"].nunique()
    found = style_control(votes, list(TRUE), cluster="annotator")
    np.testing.assert_allclose([c.coefficient for c in found.coefficients], peer.params[-2:], atol=1e-7)
    own = np.sqrt(np.diag(found.covariance)[-2:])
    np.testing.assert_allclose(own, peer.bse[-2:] * np.sqrt(groups / (groups - 1)), rtol=1e-5)
    assert "clustered by annotator" in found.ratings.interval and found.ratings.df < 150


def test_a_coefficient_is_not_shrunk_unless_asked() -> None:
    """A ridge on the mean log-likelihood, some peers' default, leaves a ninth of the effect."""
    votes = simulate(3, 20_000)
    found = style_control(votes, list(TRUE))
    for own, truth in zip(found.coefficients, TRUE.values(), strict=True):
        assert own.lower < truth * own.scale < own.upper
        assert own.coefficient == pytest.approx(truth * own.scale, abs=0.05)
    z, y = design(votes)
    shrunk = style_control(votes, list(TRUE), shrink=float(len(y)))
    np.testing.assert_allclose([c.coefficient for c in shrunk.coefficients], logistic(z, y, len(y))[0][-2:], atol=1e-8)
    assert shrunk.coefficients[0].coefficient < found.coefficients[0].coefficient / 4
    assert shrunk.shrinkage.startswith("ridge") and f"{len(y)}" in shrunk.shrinkage


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("arena_rank", "jax", "optax")),
    reason="arena-rank, the peer, is not installed",
)
def test_arena_rank_without_its_ridge_agrees() -> None:
    from arena_rank.models.contextual_bradley_terry import ContextualBradleyTerry
    from arena_rank.utils.data_utils import ContextualPairDataset

    votes = simulate(4, 1000)
    z = design(votes)[0][:, -2:]
    frame = votes.assign(x=z[:, 0], w=z[:, 1])
    data = ContextualPairDataset.from_pandas(frame, ["x", "w"], reweighted=False, normalize_features=False)
    found = {}
    for reg in (1.0, 0.0):
        model = ContextualBradleyTerry(len(data.competitors), 2, reg=reg, max_iter=60)
        model.fit(data)
        found[reg] = np.asarray(model.params["coeffs"])
    own = [c.coefficient for c in style_control(votes, list(TRUE)).coefficients]
    np.testing.assert_allclose(own, found[0.0], atol=2e-3)
    assert abs(found[1.0][0]) < own[0] / 8  # its default


def test_style_changes_the_board() -> None:
    votes = simulate(5, 20_000)
    found = style_control(votes, list(TRUE))
    truth = ELO * np.linspace(-0.6, 0.6, 6) + 1000
    table = found.frame().set_index("model").loc[list(NAMES)]
    assert np.abs(table["rating"] - truth).max() < 25
    assert table["raw_rating"]["m0"] > truth[0] + 20  # length flatters it
    np.testing.assert_allclose(table["change"], table["rating"] - table["raw_rating"])
    np.testing.assert_allclose(found.raw.rating, bradley_terry(votes).rating)
    assert list(found.coefficients_frame()["feature"]) == list(TRUE)


def test_swapping_the_answers_changes_nothing() -> None:
    votes = simulate(6, ties=0.1)
    other = {c: c[:-1] + ("b" if c[-1] == "a" else "a") for c in votes.columns if c[-2:] in ("_a", "_b")}
    swapped = votes.rename(columns=other)
    swapped["winner"] = votes["winner"].replace({"model_a": "model_b", "model_b": "model_a"})
    one, two = style_control(votes, list(TRUE)), style_control(swapped, list(TRUE))
    assert one.ratings.models == two.ratings.models
    np.testing.assert_allclose(one.ratings.rating, two.ratings.rating, atol=1e-6)
    np.testing.assert_allclose(one.covariance, two.covariance, atol=1e-6)


def test_weights_are_repeated_votes_in_the_estimate() -> None:
    votes = simulate(7, 800)
    times = np.random.default_rng(7).integers(1, 4, len(votes))
    repeated = votes.loc[votes.index.repeat(times)]
    # The same scale for both: it is taken over votes, not weights.
    scale = [c.scale for c in style_control(votes, list(TRUE)).coefficients]
    one = style_control(votes, list(TRUE), weights=times)
    two = style_control(repeated, list(TRUE))
    np.testing.assert_allclose(one.ratings.rating, two.ratings.rating, atol=1e-6)
    for left, right, own in zip(one.coefficients, two.coefficients, scale, strict=True):
        assert left.coefficient / own == pytest.approx(right.coefficient / right.scale, abs=1e-8)


def test_coefficient_intervals_cover() -> None:
    hits, rounds = 0, 150
    for seed in range(rounds):
        for own, truth in zip(
            style_control(simulate(1000 + seed, 1200), list(TRUE), ranks="overlap").coefficients,
            TRUE.values(),
            strict=True,
        ):
            hits += own.lower <= truth * own.scale <= own.upper
    assert hits / (2 * rounds) >= 0.94


def test_faulty_features_are_told() -> None:
    votes = simulate(8, 1000)
    votes["same_a"] = votes["same_b"] = 3
    votes["copy_a"], votes["copy_b"] = votes["lists_a"] * 2, votes["lists_b"] * 2
    votes["tokens_a"] = votes["tokens_a"].astype(float)
    votes.loc[4:9, "tokens_a"] = np.nan
    found = style_control(votes, ["tokens", "same", "lists", "copy"])
    kinds = {d.kind: d for d in found.diagnoses}
    assert (kinds["missing_feature"].count, found.n_missing, found.n) == (6, 6, 994)
    assert "same" in kinds["no_variation"].sentence and "copy" in kinds["collinear"].sentence
    assert [np.isnan(c.coefficient) for c in found.coefficients] == [False, True, False, True]
    assert found.coefficients[1].lower == -np.inf and found.coefficients[1].p_value == 1.0
    kept = style_control(votes, ["tokens", "lists"])
    np.testing.assert_allclose(found.ratings.rating, kept.ratings.rating, atol=1e-8)
    with pytest.raises(UserError, match=r"vote 3 has -1 in lists_b"):
        style_control(votes.assign(lists_b=votes["lists_b"].where(votes.index != 2, -1)), ["lists"])
    with pytest.raises(UserError, match=r"vote 1 has 'long' in lists_a"):
        style_control(votes.assign(lists_a="long"), ["lists"])
    with pytest.raises(UserError, match="lack the column"):
        style_control(votes, ["bold"])
    with pytest.raises(UserError, match="half, drop"):
        style_control(votes, ["lists"], ties="davidson")
    with pytest.raises(UserError, match="shrink is -1"):
        style_control(votes, ["lists"], shrink=-1)


def test_votes_decided_by_style_alone_are_no_estimate() -> None:
    votes = simulate(9, 600)
    votes["winner"] = np.where(votes["tokens_a"] > votes["tokens_b"], "model_a", "model_b")
    votes = votes[votes["tokens_a"] != votes["tokens_b"]]
    found = style_control(votes, ["tokens"])
    assert "not_converged" in [d.kind for d in found.diagnoses]
    assert np.isnan(found.coefficients[0].coefficient) and np.isnan(found.ratings.rating).all()
    assert np.isfinite(found.raw.rating).all()


def test_unrated_models_and_bad_rows_stay_visible() -> None:
    votes = simulate(10, 1000)
    more = pd.DataFrame(
        {"model_a": ["hero", "m0", "m1"], "model_b": ["m0", "m1", "m2"], "winner": ["model_a", None, "draw"]}
    ).assign(tokens_a=1, tokens_b=2, lists_a=0, lists_b=0)
    found = style_control(pd.concat([votes, more], ignore_index=True), list(TRUE))
    assert found.ratings.models[-1] == "hero" and np.isnan(found.ratings.rating[-1])
    assert found.ratings.n_excluded == 2 and found.n == 1000
    assert {"undefeated", "missing_winner", "unknown_label"} <= {d.kind for d in found.diagnoses}
    np.testing.assert_allclose(found.ratings.rating[:-1], style_control(votes, list(TRUE)).ratings.rating, atol=1e-8)
    assert np.isnan(found.covariance[len(found.ratings.models) - 1]).all()
    nothing = style_control(votes.head(1), list(TRUE))
    assert np.isnan(nothing.ratings.rating).all() and np.isnan(nothing.coefficients[0].coefficient)


def test_features_of_texts() -> None:
    text = (
        "# Title\n\nSome **bold** words, __strong__ too.\n\n- one\n* two\n  3. three\n\n```py\n# no header\n- no\n```\n"
    )
    table = style_features([text, "2 ** 3 ** 4 and a_b __init__", "你好 world", None, ""])
    assert list(table.columns) == ["characters", "tokens", "headers", "bold", "lists"]
    assert table.loc[0, ["headers", "bold", "lists"]].tolist() == [1, 2, 3]
    assert table.loc[2, ["characters", "tokens"]].tolist() == [8, 3]
    assert table.loc[1, ["bold", "lists"]].tolist() == [1, 0]
    assert table.loc[3].isna().all() and table.loc[4].tolist() == [0] * 5
    votes = pd.DataFrame({"item_id": [1, 2], "model_a": "x", "model_b": "y", "winner": "tie"})
    responses = pd.DataFrame({"item_id": ["1", "1", "2"], "model": ["x", "y", "y"], "response": ["- a", "b c", "d"]})
    battles = battle_features(votes, responses)
    assert battles["lists_a"].tolist()[0] == 1 and np.isnan(battles["lists_a"][1])
    assert battles["tokens_b"].tolist() == [2, 1]
    with pytest.raises(UserError, match="several answers of x to item 1"):
        battle_features(votes, pd.concat([responses, responses]))
