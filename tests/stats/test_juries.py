"""Juries: the rules on small tables, selection, error correlation, learning on one half and reporting on the other."""

import numpy as np
import pandas as pd
import pytest

from evalkit.errors import UserError
from evalkit.stats.juries import jury_labels, log_odds_weights, majority, mean, weighted
from evalkit.stats.jury_errors import error_correlation
from evalkit.stats.jury_selection import compare_juries, select_jury

NAN = float("nan")


def simulate(rng: np.random.Generator, n: int, accuracy: list[float], k: int = 3, missing: float = 0.0):
    """Independent judges who are right with their accuracy, else any wrong label."""
    truth = rng.integers(k, size=n)
    wrong = (truth[:, None] + rng.integers(1, k, size=(n, len(accuracy)))) % k
    labels = np.where(rng.random((n, len(accuracy))) < accuracy, truth[:, None], wrong)
    labels[rng.random(labels.shape) < missing] = -1
    return labels, truth


def test_majority_is_strict_and_an_unparsed_verdict_withholds_its_vote() -> None:
    labels = [[0, 0, 1], [0, 1, 2], [0, 0, -1], [0, 1, -1], [2, -1, -1], [-1, -1, -1], [0, 0, 1]]
    found = majority(labels, n_labels=3)
    assert found.label.tolist() == [0, -1, 0, -1, 2, -1, 0]
    assert (found.n, found.n_failed, found.n_undecided, found.n_withheld) == (7, 1, 2, 7)
    assert found.support[[0, 2, 4]].tolist() == pytest.approx([2 / 3, 1.0, 1.0])
    assert np.isnan(found.support[[1, 3, 5]]).all()
    tied = majority(labels, tie=2)
    assert tied.label.tolist() == [0, 2, 0, 2, 2, -1, 0]
    assert "label 2 (tie)" in tied.method and "1 of 7 items" in tied.warnings[0]
    assert majority(np.array([[0, NAN], [NAN, NAN]])).label.tolist() == [0, -1]
    # Two of four is not more than half.
    assert majority([[1, 1, 0, 2]]).label.tolist() == [-1]


def test_mean_leaves_out_missing_grades_and_counts_them() -> None:
    found = mean([[1, 2, 3], [4, NAN, 6], [NAN, NAN, 5], [NAN, NAN, NAN]])
    assert found.mean.tolist() == pytest.approx([2, 5, 5, NAN], nan_ok=True)
    assert found.spread.tolist() == pytest.approx([1, np.sqrt(2), NAN, NAN], nan_ok=True)
    assert (found.n, found.n_failed, found.n_withheld, found.votes.tolist()) == (4, 1, 6, [3, 2, 1, 0])


def test_weights_are_shrunk_log_odds() -> None:
    truth = np.array([0] * 10)
    labels = np.array([[0] * 9 + [1], [0] * 10, [1] * 10, [0] + [-1] * 9]).T
    found = log_odds_weights(labels, truth, judges=["good", "sure", "wrong", "new"], n_labels=2)
    accuracy = np.array([10 / 12, 11 / 12, 1 / 12, 2 / 3])
    assert found.accuracy == pytest.approx(accuracy)
    assert found.weight == pytest.approx(np.log(accuracy / (1 - accuracy)))
    assert (found.n, found.n_failed) == (40, 9)
    three = log_odds_weights(labels, truth, n_labels=3)
    assert three.weight[0] == pytest.approx(np.log(10 / 13 * 2 / (3 / 13)))
    assert found.frame()["judge"].tolist() == ["good", "sure", "wrong", "new"]


def test_one_good_judge_outweighs_two_bad_ones_and_support_is_the_posterior() -> None:
    labels = np.concatenate([np.tile([0, 0, 0], (5, 1)), np.tile([0, 1, 1], (45, 1)), np.tile([0, 0, 1], (50, 1))])
    weights = log_odds_weights(labels, np.zeros(100), n_labels=2)
    assert weights.weight[0] > 4 and weights.weight[2] < -2
    found = weighted([[0, 1, 1], [-1, 0, 1], [-1, -1, -1]], weights)
    assert found.label.tolist() == [0, 0, -1]
    p = weights.accuracy
    likely = np.array([p[0] * (1 - p[1]) * (1 - p[2]), (1 - p[0]) * p[1] * p[2]])
    assert found.support[0] == pytest.approx(likely[0] / likely.sum())
    equal = log_odds_weights([[0, 0], [1, 1]], [0, 1])
    assert weighted([[0, 1]], equal, tie=2).label.tolist() == [2]  # the same sum for both
    assert weighted([[0, 1]], equal).label.tolist() == [-1]


def test_effective_number_of_judges() -> None:
    rng = np.random.default_rng(2)
    labels, truth = simulate(rng, 20_000, [0.7] * 4, missing=0.1)
    alone = error_correlation(labels, truth)
    assert alone.mean == pytest.approx(0, abs=0.01) and alone.effective == pytest.approx(4, abs=0.15)
    assert alone.error_rate == pytest.approx([0.3] * 4, abs=0.01)
    copies = error_correlation(labels[:, [0, 0, 0]], truth)
    assert copies.mean == pytest.approx(1) and copies.effective == pytest.approx(1)
    mixed = error_correlation(labels[:, [0, 0, 1, 2]], truth)
    wrong = np.where(labels[:, [0, 1]] >= 0, labels[:, [0, 1]] != truth[:, None], np.nan)
    both = ~np.isnan(wrong).any(axis=1)
    assert mixed.correlation[0, 2] == pytest.approx(np.corrcoef(wrong[both].T)[0, 1])
    assert mixed.pairs[0, 2] == both.sum()
    assert mixed.effective == pytest.approx(4 / (1 + 3 * mixed.mean))
    perfect = error_correlation(np.column_stack([truth, labels[:, 0]]), truth)
    assert np.isnan(perfect.mean) and "one never errs" in perfect.warnings[0]


def test_smallest_jury_that_is_not_worse() -> None:
    rng = np.random.default_rng(3)
    # A judge that is nearly always right and four that mostly guess: the full jury loses to the one.
    labels, truth = simulate(rng, 1500, [0.95, 0.4, 0.4, 0.4, 0.4])
    found = select_jury(labels, truth, judges=list("abcde"))
    assert found.judges == ("a",) and found.accuracy > found.full_accuracy and found.lost_at_most < 0.01
    # Five equals, who do better together: any fewer lose more than one point.
    labels, truth = simulate(rng, 3000, [0.7] * 5, k=2)
    kept = select_jury(labels, truth)
    assert len(kept.judges) == 5 and kept.tried == 31
    assert len(select_jury(labels, truth, margin=0.2).judges) < 5
    # Beyond twelve judges they are dropped one by one: copies of one judge add nothing.
    labels, truth = simulate(rng, 500, [0.8])
    many = select_jury(np.repeat(labels, 14, axis=1), truth)
    assert len(many.judges) == 1 and "one by one" in many.method


def test_selection_allows_for_clusters_and_failures() -> None:
    rng = np.random.default_rng(4)
    labels, truth = simulate(rng, 300, [0.8, 0.8, 0.8], missing=0.2)
    labels[:10] = -1
    found = select_jury(labels, truth)
    assert (found.n, found.n_failed) == (300, 10)
    once = select_jury(labels, truth, margin=0.05)
    twice = select_jury(np.tile(labels, (8, 1)), np.tile(truth, 8), clusters=np.tile(np.arange(300), 8), margin=0.05)
    assert twice.members == once.members and twice.lost_at_most == pytest.approx(once.lost_at_most)
    nothing = select_jury(labels, np.full(300, -1))
    assert len(nothing.judges) == 3 and np.isnan(nothing.accuracy) and "No item" in nothing.warnings[0]


def test_learned_on_one_half_and_reported_on_the_other() -> None:
    rng = np.random.default_rng(5)
    labels, truth = simulate(rng, 4000, [0.9, 0.6, 0.55, 0.55, 0.5], missing=0.05)
    labels[:40] = -1
    clusters = np.arange(4000) // 4
    found = compare_juries(labels, truth, judges=list("abcde"), clusters=clusters, seed=1)
    assert found.n + found.n_learned == 4000 and found.n % 4 == 0
    table = found.frame().set_index("jury")
    assert table["n"].eq(found.n).all() and table.loc["majority", "n_failed"] == found.n_failed > 0
    # A plain majority loses to the best judge; weighting does not.
    assert table.loc["weighted", "accuracy"] > table.loc["majority", "accuracy"] + 0.05
    assert table.loc["best judge", "judges"] == "a" == table.loc["sub-jury", "judges"]
    assert table.loc["Dawid-Skene", "lower"] > table.loc["majority", "upper"]
    assert ((table["lower"] < table["accuracy"]) & (table["accuracy"] < table["upper"])).all()
    again = compare_juries(labels, truth, judges=list("abcde"), clusters=clusters, seed=1)
    pd.testing.assert_frame_equal(found.frame(), again.frame())
    with pytest.raises(UserError, match="known for 0 groups"):
        compare_juries(labels, np.full(4000, -1))


def test_labels_from_votes() -> None:
    rows = [
        (1, "y", "x", "model_a", "gpt"),  # y wins: the second of (x, y)
        (1, "x", "y", "model_b", "claude"),
        (1, "x", "y", "model_b", "h1"),
        (2, "x", "y", "both_bad", "gpt"),
        (2, "x", "y", None, "claude"),
        (2, "x", "y", "model_a", "h1"),
        (2, "x", "y", "model_b", "h2"),
        (3, "x", "y", "model_a", "gpt"),
        (4, "x", "y", "model_a", "h1"),
        (5, "x", "x", "model_a", "gpt"),
    ]
    votes = pd.DataFrame(rows, columns=["item_id", "model_a", "model_b", "winner", "annotator"])
    found = jury_labels(votes, "[gc]*", "h*")
    assert found.judges == ("claude", "gpt")
    assert found.labels.tolist() == [[1, 1], [-1, 2], [-1, 0]]
    assert found.truth.tolist() == [1, 2, -1]  # a human tie on 2, no human on 3; no judge on 4
    assert found.items.tolist() == [1, 2, 3]
    assert found.warnings == ("1 votes name no model, or one against itself; left out.",)
    with pytest.raises(UserError, match="vote 1 has no annotator"):
        jury_labels(votes.assign(annotator=None), "*", "h*")
    with pytest.raises(UserError, match="gpt match both"):
        jury_labels(votes, "gpt", "g*")


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: majority([[0, 3]], n_labels=3), "item 1 by judge 2 is 3"),
        (lambda: majority([[0.5]]), "item 1 by judge 1 is 0.5"),
        (lambda: majority([0, 1]), "the shape"),
        (lambda: log_odds_weights([[0]], [0, 1]), "one label an item, 1, is needed"),
        (lambda: log_odds_weights([[0, 1]], [0], judges=["a"]), "1 names"),
        (lambda: weighted([[0]], log_odds_weights([[0, 1]], [0])), "of 1 judges, the weights of 2"),
        (lambda: mean([[np.inf]]), "finite"),
        (lambda: select_jury([[0]], [0], margin=-1), "the margin is -1"),
    ],
)
def test_wrong_input_is_a_sentence(call, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        call()
