"""Judges corrected by few human labels: peers' numbers, limits that hold, failures that stay."""

import numpy as np
import pandas as pd
import pytest

from evalkit.errors import UserError
from evalkit.stats.corrected_board import ppi_bradley_terry
from evalkit.stats.corrected_win_rates import ppi_win_rate
from evalkit.stats.correction import ppi_mean, rogan_gladen
from evalkit.stats.ratings import ELO, bradley_terry

NAN = float("nan")


def biased(seed: int = 0, labelled: int = 200, rest: int = 4000):
    """A judge that says 1 too often; human labels on the first items only."""
    rng = np.random.default_rng(seed)
    n = labelled + rest
    truth = rng.random(n) < 0.5
    judge = np.where(rng.random(n) < 0.8, truth, rng.random(n) < 0.9).astype(float)
    return judge, np.where(np.arange(n) < labelled, truth, NAN)


def test_as_ppi_python() -> None:
    # ppi-python 0.2.3, ppi_mean_pointestimate and ppi_mean_ci(alpha=0.05) on the same data: it divides by n and takes
    # the normal distribution, so its intervals are a little narrower.
    judge, human = biased()
    plain = ppi_mean(judge, human, power=1.0)
    assert plain.value == pytest.approx(0.45125)
    assert (plain.lower, plain.upper) == pytest.approx((0.39959778, 0.50290222), abs=1e-3)
    half = ppi_mean(judge, human, power=0.5)
    assert half.value == pytest.approx(0.445625)
    assert (half.lower, half.upper) == pytest.approx((0.39593967, 0.49531033), abs=1e-3)
    tuned = ppi_mean(judge, human)
    assert tuned.value == pytest.approx(0.44803425, abs=1e-4)
    assert (tuned.lower, tuned.upper) == pytest.approx((0.40057467, 0.49549384), abs=1e-3)
    assert tuned.lower <= 0.40057467 and tuned.upper >= 0.49549384
    assert tuned.judge.value == pytest.approx(judge.mean()) and tuned.human.value == pytest.approx(np.nanmean(human))
    assert tuned.frame()["estimate"].tolist() == ["judge", "human", "corrected"]


def test_lambda_follows_the_judge() -> None:
    judge, human = biased()
    perfect = np.random.default_rng(1).random(4200)
    seen = np.where(np.arange(4200) < 200, perfect, NAN)
    best = ppi_mean(perfect, seen)
    # With a perfect judge the weight is N / (n + N): the answer is the mean over all items.
    assert best.power == pytest.approx(4000 / 4200, abs=0.02)
    assert best.value == pytest.approx(perfect.mean(), abs=1e-3)
    assert best.upper - best.lower < (best.human.upper - best.human.lower) / 4
    useless = ppi_mean(np.random.default_rng(2).permutation(judge), human)
    assert useless.power < 0.15
    inverted = ppi_mean(1 - judge, human)
    assert inverted.power == 0.0 and inverted.value == pytest.approx(inverted.human.value)
    all_labelled = ppi_mean(judge[:200], human[:200])
    assert all_labelled.value == pytest.approx(human[:200].mean()) and "not needed" in all_labelled.warnings[-1]


def test_a_failed_verdict_moves_nothing_and_stays_in_n() -> None:
    judge, human = biased()
    failed = np.where(np.arange(4200) % 7 == 0, NAN, judge)
    found = ppi_mean(failed, human)
    assert (found.n, found.n_labelled, found.n_failed) == (4200, 200, 600)
    assert "600 of 4200 items" in found.warnings[0]
    # All of one answer failed: a judge of ones would read 1 everywhere, the corrected mean stays about the items.
    ones = np.where(judge == 1, 1.0, NAN)
    kept = ppi_mean(ones, human)
    assert kept.judge.value == 1.0 and kept.lower < 0.5 < kept.upper and kept.power == 0.0
    nothing = ppi_mean(np.full(300, NAN), human[:300])
    assert nothing.value == pytest.approx(np.nanmean(human[:300])) and nothing.power == 0.0


def test_clusters_widen_the_interval() -> None:
    judge, human = biased(labelled=200, rest=1000)
    once = ppi_mean(judge, human)
    copies = [np.tile(values, 5) for values in (judge, human, np.arange(1200))]
    clustered = ppi_mean(copies[0], copies[1], clusters=copies[2])
    assert clustered.value == pytest.approx(once.value)
    assert clustered.se == pytest.approx(once.se, rel=1e-9) and clustered.df == once.df
    assert ppi_mean(copies[0], copies[1]).se < once.se / 2
    lone = ppi_mean(judge, human, clusters=np.zeros(1200))
    assert lone.lower == -np.inf and "Too few clusters" in lone.warnings[-1]


def test_rogan_gladen_and_its_limits() -> None:
    # 400 items without a label, 280 called 1; 100 labelled 1 (90 found), 100 labelled 0 (60 found).
    judge = np.repeat([1, 0, 1, 0, 0, 1], [280, 120, 90, 10, 60, 40]).astype(float)
    human = np.repeat([NAN, 1, 0], [400, 100, 100])
    found = rogan_gladen(judge, human)
    assert found.value == pytest.approx((0.7 + 0.6 - 1) / (0.9 + 0.6 - 1))
    assert (found.apparent.value, found.sensitivity.value, found.specificity.value) == pytest.approx((0.7, 0.9, 0.6))
    z = 1.959964
    p, n = (280 + z**2 / 2) / (400 + z**2), 400 + z**2
    se, sp = 91 / 102, 61 / 102
    pi = (p + sp - 1) / (se + sp - 1)
    part = [pi * se * (1 - se) / 102, (1 - pi) * sp * (1 - sp) / 102]
    error = np.sqrt(p * (1 - p) / n + pi * part[0] + (1 - pi) * part[1]) / (se + sp - 1)
    middle = pi + 2 * z**2 * (part[0] - part[1])
    assert (found.lower, found.upper) == pytest.approx((middle - z * error, middle + z * error), abs=1e-6)
    assert found.frame()["estimate"].tolist() == ["apparent", "sensitivity", "specificity", "corrected"]
    # Without the error of calibration the interval would be far too narrow.
    assert found.upper - found.lower > 2 * (found.apparent.upper - found.apparent.lower)


def test_rogan_gladen_of_a_guessing_judge_and_failures() -> None:
    rng = np.random.default_rng(3)
    human = np.where(np.arange(1000) < 200, rng.random(1000) < 0.5, NAN)
    guess = 1.0 - np.nan_to_num(human)
    found = rogan_gladen(np.where(np.arange(1000) % 10 == 0, NAN, guess), human)
    assert np.isnan(found.value) and (found.lower, found.upper) == (0.0, 1.0)
    assert found.n == 1000 and found.n_failed == 100 and "no better than guessing" in found.warnings[-1]
    judge, human = biased(labelled=300, rest=600)
    groups = np.tile(np.arange(300), 3)
    wide = rogan_gladen(np.tile(judge, 4), np.tile(human, 4), clusters=np.tile(np.arange(900), 4))
    once, naive = rogan_gladen(judge, human), rogan_gladen(np.tile(judge, 4), np.tile(human, 4))
    assert wide.upper - wide.lower == pytest.approx(once.upper - once.lower, rel=0.02)
    assert naive.upper - naive.lower < 0.6 * (wide.upper - wide.lower)
    assert rogan_gladen(judge, human, clusters=groups).value == once.value


def votes_of(seed: int, battles: int, labelled: int, noise: float = 0.6, favourite: str = "m1") -> pd.DataFrame:
    """A judge on all battles of four models, humans on the first; the judge inclines to its favourite."""
    rng = np.random.default_rng(seed)
    names = np.array([f"m{k}" for k in range(4)])
    strength = np.array([0.6, 0.2, -0.2, -0.6])
    i = rng.integers(4, size=battles)
    j = (i + rng.integers(1, 4, size=battles)) % 4
    human = rng.random(battles) < 1 / (1 + np.exp(strength[j] - strength[i]))
    liked = np.where(names[i] == favourite, True, np.where(names[j] == favourite, False, human))
    judge = np.where(rng.random(battles) < noise, human, liked)
    label = lambda wins: np.where(wins, "model_a", "model_b")  # noqa: E731
    frame = pd.DataFrame({"item_id": np.arange(battles), "model_a": names[i], "model_b": names[j]})
    of_judge = frame.assign(winner=label(judge), annotator="gpt")
    return pd.concat([of_judge, frame.assign(winner=label(human), annotator="h1")[:labelled]], ignore_index=True)


def test_win_rates_of_every_model() -> None:
    votes = votes_of(1, 3000, 400)
    found = ppi_win_rate(votes, "gpt", "h*")
    assert (found.n, found.n_labelled, found.n_failed) == (3000, 400, 0)
    assert sorted(found.models) == ["m0", "m1", "m2", "m3"] and found.models[0] == "m0"
    table = found.frame().set_index("model")
    assert table["n"].sum() == 6000
    # Battles are zero-sum, so win rates weighted by battles average one half.
    assert np.average(table["judge"], weights=table["n"]) == pytest.approx(0.5)
    # The judge overrates its favourite; the correction takes it back.
    assert table.loc["m1", "judge_lower"] > table.loc["m1", "upper"]
    assert (table["upper"] - table["lower"] < table["human_upper"] - table["human_lower"]).all()
    mine = (votes["model_a"] == "m0") | (votes["model_b"] == "m0")
    won = votes["winner"].eq("model_a") == votes["model_a"].eq("m0")
    rows = votes[mine].assign(won=won[mine].astype(float)).pivot(index="item_id", columns="annotator", values="won")
    alone = ppi_mean(rows["gpt"], rows["h1"], power=found.power)
    assert 0 < found.power < 1 and table["power"].eq(found.power).all()
    assert table.loc["m0", "win_rate"] == pytest.approx(alone.value) and table.loc["m0", "lower"] == alone.lower


def test_board_shows_the_correction() -> None:
    votes = votes_of(2, 3000, 300)
    found = ppi_bradley_terry(votes, "gpt", "h*")
    assert found.converged and 0 < found.power < 1 and (found.n, found.n_labelled) == (3000, 300)
    table = found.frame().set_index("model")
    names = ["rating", "lower", "upper", "judge", "judge_lower", "judge_upper", "human", "human_lower", "human_upper"]
    assert list(table.columns) == [*names, "votes"]
    assert table["rating"].mean() == pytest.approx(1000) and table["votes"].sum() == 600
    assert table["judge"].idxmax() == "m1" and table["rating"].idxmax() == "m0"
    assert (table["upper"] - table["lower"] < table["human_upper"] - table["human_lower"]).all()
    own = bradley_terry(votes[votes["annotator"].eq("gpt")]).frame().set_index("model")["rating"]
    assert table["judge"].to_dict() == pytest.approx(own.to_dict())
    anchored = ppi_bradley_terry(votes, "gpt", "h*", anchor="m2", center=0.0)
    difference = table["rating"] - table.loc["m2", "rating"]
    assert anchored.frame().set_index("model")["rating"].to_dict() == pytest.approx(difference.to_dict())
    at = anchored.models.index("m2")
    assert anchored.lower[at] == anchored.upper[at] == 0.0
    assert f"lambda {found.power:.2f}" in found.method


def test_board_without_the_judge_is_the_human_board() -> None:
    votes = votes_of(3, 2000, 500)
    human = bradley_terry(votes[votes["annotator"].eq("h1")])
    found = ppi_bradley_terry(votes, "gpt", "h*", power=0.0)
    assert found.models == human.models and found.rating == pytest.approx(human.rating, abs=1e-6)
    assert found.upper - found.lower == pytest.approx(human.upper - human.lower, rel=0.03)
    everything = ppi_bradley_terry(votes_of(3, 500, 500), "gpt", "h*")
    assert everything.power == 0.0 and "judge is not needed" in " ".join(everything.warnings)


def test_board_solves_its_equations() -> None:
    votes = votes_of(4, 1500, 300)
    votes.loc[::11, "winner"] = None  # judge and humans fail on some
    found = ppi_bradley_terry(votes, "gpt", "h*", power=0.6)
    strength = dict(zip(found.models, (found.rating - 1000) / ELO, strict=True))
    score = votes["winner"].map({"model_a": 1.0, "model_b": 0.0})
    wide = votes.assign(score=score).pivot(index="item_id", columns="annotator", values="score")
    first = votes.drop_duplicates("item_id").set_index("item_id")
    a, b = first["model_a"].map(strength).to_numpy(), first["model_b"].map(strength).to_numpy()
    p = 1 / (1 + np.exp(b - a))
    labelled = wide["h1"].notna().to_numpy()
    f = np.nan_to_num(wide["gpt"].to_numpy() - p)  # no verdict, no prediction
    slope = np.where(labelled, (np.nan_to_num(wide["h1"].to_numpy() - p) - 0.6 * f) / labelled.sum(),
                     0.6 * f / (~labelled).sum())  # fmt: skip
    for model in found.models:
        total = slope[first["model_a"].eq(model)].sum() - slope[first["model_b"].eq(model)].sum()
        assert total == pytest.approx(0, abs=1e-9)
    assert found.n_failed == wide["gpt"].isna().sum() and found.n == 1500


def test_clusters_widen_the_board() -> None:
    votes = votes_of(5, 1000, 200)
    copies = pd.concat([votes.assign(turn=turn) for turn in range(4)], ignore_index=True)
    once = ppi_bradley_terry(votes, "gpt", "h*")
    clustered = ppi_bradley_terry(copies, "gpt", "h*", cluster="item_id")
    assert clustered.rating == pytest.approx(once.rating, abs=1e-6)
    assert np.diag(clustered.covariance) == pytest.approx(np.diag(once.covariance), rel=0.05)
    naive = ppi_bradley_terry(copies, "gpt", "h*")
    assert (naive.upper - naive.lower < 0.6 * (once.upper - once.lower)).all()


def test_models_that_humans_never_saw_and_too_few_verdicts() -> None:
    votes = votes_of(6, 1000, 200)
    stranger = pd.DataFrame({"item_id": [-1, -2], "model_a": "m0", "model_b": "new", "winner": ["model_a", "model_b"]})
    found = ppi_bradley_terry(pd.concat([votes, stranger.assign(annotator="gpt")]), "gpt", "h*")
    assert found.models[-1] == "new" and np.isnan(found.rating[-1]) and found.upper[-1] == np.inf
    assert any("Not rated: new" in sentence for sentence in found.warnings)
    assert np.isfinite(found.rating[:-1]).all()
    few = ppi_bradley_terry(votes_of(6, 300, 5), "gpt", "h*")
    assert any("Only 5 items have a human label" in sentence for sentence in few.warnings)
    clear = pd.DataFrame({"item_id": range(8), "model_a": "x", "model_b": "y", "winner": "model_a"})
    both = pd.concat([clear.assign(annotator="gpt"), clear[:4].assign(annotator="h1")])
    hopeless = ppi_bradley_terry(both, "gpt", "h1")
    assert np.isnan(hopeless.rating).all() and not hopeless.converged
    assert any("too few for finite ratings" in sentence for sentence in hopeless.warnings)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ppi_mean([1.0], [1.0, 0.0]), "one value an item each"),
        (lambda: ppi_mean([1.0], [np.inf]), "item 1 has an infinite value"),
        (lambda: ppi_mean([1.0, 0.0], [1.0, NAN], power=2), "lambda is 2"),
        (lambda: ppi_mean([1.0, 0.0], [1.0, NAN], clusters=["a", None]), "item 2 has no cluster"),
        (lambda: rogan_gladen([0.5], [1.0]), "the judge's value of item 1 is 0.5"),
        (lambda: ppi_win_rate(votes_of(1, 9, 3), "gpt", "h*", cluster="annotator"), "cannot be clustered"),
        (lambda: ppi_win_rate(votes_of(1, 9, 3), "x", "h*"), "no annotator matches the judge 'x'"),
        (lambda: ppi_bradley_terry(votes_of(1, 90, 30), "gpt", "*"), "gpt match both"),
        (lambda: ppi_bradley_terry(votes_of(1, 90, 30), "gpt", "h*", anchor="z"), "the anchor model 'z'"),
    ],
)
def test_wrong_input_is_a_sentence(call, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        call()
