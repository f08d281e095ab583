"""Arena-Hard's metrics of one board against another: by hand, and what boards may not hold."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from evalkit.errors import UserError
from evalkit.stats import compare_boards


def board(*rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["model", "rating", "lower", "upper"])


def test_metrics_by_hand() -> None:
    # Benchmark separates a|c and b|c and a|d, b|d; not a|b, c|d. Reference separates all but a|b; and has d over c.
    benchmark = board(("a", 10, 9, 11), ("b", 9.5, 8.5, 10.5), ("c", 5, 4, 6), ("d", 4.5, 3.5, 5.5))
    reference = board(("c", 1, 0, 2), ("d", 100, 99, 101), ("a", 50, 40, 60), ("b", 51, 41, 61))
    found = compare_boards(benchmark, reference)
    assert (found.n_models, found.n_pairs) == (4, 6)
    assert found.separability == pytest.approx(4 / 6) and found.reference_separability == pytest.approx(5 / 6)
    # a|c, b|c agree; a|d, b|d disagree.
    assert found.agreement_with_confidence == 0.0
    error = np.sqrt(2) / stats.norm.ppf(0.975)
    p = stats.norm.cdf(np.array([0.5, 5, 5.5, 4.5, 5, 0.5]) / error)  # ab ac ad bc bd cd
    outcome = np.array([0, 1, 0, 1, 0, 0])
    assert found.pair_rank_brier == pytest.approx(((p - outcome) ** 2).mean())
    assert found.spearman.value == pytest.approx(stats.spearmanr([10, 9.5, 5, 4.5], [50, 51, 1, 100]).statistic)
    assert found.kendall.value == pytest.approx(stats.kendalltau([10, 9.5, 5, 4.5], [50, 51, 1, 100]).statistic)
    row = found.frame().iloc[0]
    assert row["separability"] == found.separability and row["n_models"] == 4


def test_equal_boards_agree_as_far_as_they_separate() -> None:
    same = board(*((f"m{i:02d}", 10.0 * i, 10 * i - 4, 10 * i + 4) for i in range(10)))
    found = compare_boards(same, same.sample(frac=1, random_state=0))
    assert found.separability == found.agreement_with_confidence == found.spearman.value == 1.0
    assert found.pair_rank_brier < 1e-4 and np.isnan(found.spearman.lower)
    turned = compare_boards(same, same.assign(rating=-same.rating, lower=-same.upper, upper=-same.lower))
    assert turned.agreement_with_confidence == turned.kendall.value == -1.0 and turned.pair_rank_brier > 0.99


def test_an_interval_of_no_width_overlaps_every_other() -> None:
    flat = board(("a", 3, 3, 3), ("b", 2, 2, 2), ("c", 1, 1, 1))
    found = compare_boards(flat, board(("a", 3, 2.9, 3.1), ("b", 2, 1.9, 2.1), ("c", 1, 0.9, 1.1)))
    assert (found.separability, found.agreement_with_confidence, found.pair_rank_brier) == (0.0, 0.0, 0.25)
    assert found.reference_separability == 1.0
    assert "On the benchmark board a, b, c have an interval of no width" in found.warnings[0]
    anchored = board(("a", 9, 8, 10), ("b", 5, 5, 5), ("c", 1, 0, 2))
    assert compare_boards(anchored, anchored).separability == pytest.approx(1 / 3)


def test_touching_intervals_overlap() -> None:
    touching = board(("a", 3, 2, 4), ("b", 1, 0, 2))
    assert compare_boards(touching, touching).separability == 0.0


def test_models_on_one_board_only_are_named() -> None:
    left = board(("a", 1, 0, 2), ("b", 5, 4, 6), ("x", 1, 0, 2), ("u", None, None, None), ("v", 4, -np.inf, np.inf))
    right = board(("a", 1, 0, 2), ("b", 5, 4, 6), ("y", 1, 0, 2), ("u", 1, 0, 2), ("v", 9, 8, 10))
    found = compare_boards(left, right)
    assert found.n_models == 3 and found.separability == pytest.approx(1 / 3)
    text = " ".join(found.warnings)
    assert "On the benchmark board but not on the reference (1): x." in text
    assert "On the reference board but not on the benchmark (1): y." in text
    assert "Not rated on the benchmark board (1): u." in text
    assert "On the benchmark board v has no interval" in text


GOOD = board(("a", 1, 0, 2), ("b", 5, 4, 6))


@pytest.mark.parametrize(
    "bad, sentence",
    [
        (GOOD.drop(columns="upper"), "the rows of the benchmark board lack the column.s. upper"),
        (GOOD.assign(model="a"), "benchmark board, row 2, column model: the name 'a' is there twice"),
        (GOOD.assign(model=["a", None]), "benchmark board, row 2, column model: the name is empty"),
        (GOOD.assign(rating=["1", "high"]), "benchmark board, row 2, column rating: 'high' is not a finite number"),
        (GOOD.assign(rating=[1, np.inf]), "benchmark board, row 2, column rating: .*inf.* is not a finite number"),
        (GOOD.assign(lower=[0, 5.5]), "benchmark board, row 2, column lower: 5.5 puts the rating 5 outside its limits"),
        (GOOD.assign(upper=[0.5, 6]), "benchmark board, row 1, column upper: 0.5 puts the rating 1 outside its limits"),
        (board(("z", 1, 0, 2)), "0 models are rated on both boards"),
    ],
)
def test_bad_boards_end_in_a_sentence(bad: pd.DataFrame, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        compare_boards(bad, GOOD)
