"""The alternative annotator test against a worked example, a plain loop, and the authors' code on MT-bench."""

import itertools
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from evalkit.errors import UserError
from evalkit.stats.alt_test import _signed_rank_p, alt_test, benjamini_yekutieli

DATA = Path(os.environ.get("EVALKIT_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


def grades_of(table: dict[str, list], times: int = 1) -> pd.DataFrame:
    """One column an annotator, one entry an item (None: not annotated), the whole repeated with new items."""
    rows = [
        (f"{copy}-{item}", who, value)
        for copy in range(times)
        for who, values in table.items()
        for item, value in enumerate(values)
        if value is not None
    ]
    return pd.DataFrame(rows, columns=["item_id", "annotator", "value"])


WORKED = {"h1": list("AABB"), "h2": list("AABA"), "h3": list("ABBB"), "judge": list("AABB")}


def test_worked_example() -> None:
    # h2 alone says A on the fourth item, h3 alone B on the second; the judge is never further from the others.
    result = alt_test(grades_of(WORKED, times=9), "judge", "h*", epsilon=0.2)
    (judge,) = result.tests
    assert (judge.n, judge.n_failed, judge.annotators) == (36, 0, 3)
    assert judge.by_annotator["judge_advantage"].tolist() == [1.0, 1.0, 1.0]
    assert judge.by_annotator["human_advantage"].tolist() == [1.0, 0.75, 0.75]
    t = (-0.25 - 0.2) / (np.sqrt(0.25 * 0.75 * 36 / 35) / 6)
    assert judge.by_annotator["p_value"].tolist() == pytest.approx([0.0, *[stats.t.cdf(t, 35)] * 2])
    assert (judge.winning_rate, judge.advantage_probability, judge.passes) == (1.0, 1.0, True)
    columns = ["judge", "winning_rate", "advantage_probability", "epsilon", "annotators", "n", "n_failed", "passes"]
    assert list(result.frame().columns) == columns
    assert not result.warnings


def test_few_instances_take_wilcoxon_or_none() -> None:
    with_few = alt_test(grades_of(WORKED, times=3), "judge", "h*", min_instances=10).tests[0]
    difference = np.tile([0, 0, 0, -1], 3) - 0.2
    assert set(with_few.by_annotator["test"]) == {"Wilcoxon"}
    ranks = stats.rankdata(np.abs(difference))
    signs = np.array(list(itertools.product([0, 1], repeat=12)))
    p = (signs @ ranks <= ranks[difference > 0].sum() + 1e-9).mean()
    assert with_few.by_annotator["p_value"].tolist()[1] == pytest.approx(p)
    left_out = alt_test(grades_of(WORKED, times=3), "judge", "h*").tests[0]
    assert (left_out.annotators, left_out.n, left_out.passes) == (0, 12, False)
    assert np.isnan(left_out.winning_rate)
    assert any("3 annotators left out with fewer than 30" in sentence for sentence in left_out.warnings)


def test_untied_wilcoxon_as_scipy() -> None:
    x = np.random.default_rng(1).normal(-0.3, 1, 25)
    assert _signed_rank_p(x) == pytest.approx(stats.wilcoxon(x, alternative="less", method="exact").pvalue)
    assert _signed_rank_p(np.zeros(4)) == 1.0


def slow(humans: dict, judge: dict, score, epsilon: float) -> tuple[dict, dict]:
    rho, p = {}, {}
    for j in humans:
        ahead, difference = [], []
        for i in humans[j]:
            others = [humans[k][i] for k in humans if k != j and i in humans[k]]
            if not others or i not in judge:
                continue
            f, h = score(judge[i], others), score(humans[j][i], others)
            ahead.append(f >= h)
            difference.append(float(h >= f) - float(f >= h))
        rho[j], p[j] = np.mean(ahead), stats.ttest_1samp(difference, epsilon, alternative="less").pvalue
    return rho, p


@pytest.mark.parametrize("metric", ["accuracy", "neg_rmse"])
def test_equals_a_plain_loop(metric: str) -> None:
    rng = np.random.default_rng(5)
    truth = rng.integers(1, 6, 160)
    draw = lambda share: {  # noqa: E731
        i: int(truth[i] if rng.random() < 0.6 else rng.integers(1, 6)) for i in range(160) if rng.random() < share
    }
    humans, judge = {f"h{k}": draw(0.6) for k in range(5)}, draw(0.9)
    everyone = {**humans, "gpt": judge}
    frame = pd.DataFrame([(i, who, v) for who, said in everyone.items() for i, v in said.items()])
    frame.columns = pd.Index(["item_id", "annotator", "value"])
    score = {
        "accuracy": lambda x, others: np.mean([x == o for o in others]),
        "neg_rmse": lambda x, others: -np.sqrt(np.mean([(x - o) ** 2 for o in others])),
    }[metric]
    rho, p = slow(humans, judge, score, 0.15)
    found = alt_test(frame.sample(frac=1, random_state=1), "gpt", "h*", metric=metric, epsilon=0.15).tests[0]
    table = found.by_annotator.set_index("annotator")
    assert table["judge_advantage"].to_dict() == pytest.approx(rho)
    assert table["p_value"].to_dict() == pytest.approx(p)
    assert found.advantage_probability == pytest.approx(np.mean(list(rho.values())))


def test_benjamini_yekutieli_as_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest", reason="statsmodels is a test-only peer")
    rng = np.random.default_rng(0)
    for _ in range(50):
        p = rng.random(12) ** 4
        assert (benjamini_yekutieli(p, 0.05) == multitest.multipletests(p, 0.05, method="fdr_by")[0]).all()
    assert not benjamini_yekutieli(np.array([]), 0.05).any()


def mt_bench() -> pd.DataFrame:
    frames = []
    for name in ("human", "gpt4_pair"):
        file = DATA / "mt_bench" / f"{name}.jsonl"
        if not file.exists():
            pytest.skip(f"{file} is absent")
        frames.append(pd.read_json(file, lines=True).rename(columns={"question_id": "item_id", "judge": "annotator"}))
    votes = pd.concat(frames)
    return votes.assign(winner=votes["winner"].str.replace(" (inconsistent)", "", regex=False))


def test_mt_bench_as_the_authors_code() -> None:
    # The authors' published function gives 9 of 26 and 0.85127 on the same verdicts (epsilon 0.2, 30 instances).
    result = alt_test(mt_bench(), "gpt4*", "expert_*")
    (judge,) = result.tests
    assert (judge.annotators, judge.n) == (26, 734)
    assert judge.winning_rate == pytest.approx(9 / 26)
    assert judge.advantage_probability == pytest.approx(0.8512655902600692)
    assert not judge.passes
    assert any("32 annotators left out" in sentence for sentence in result.warnings)


def test_a_failed_verdict_stays_in_n_and_in_no_share() -> None:
    frame = grades_of(WORKED, times=10)
    broken = frame["annotator"].eq("judge") & frame["item_id"].str.endswith("-3")
    result = alt_test(frame.assign(value=frame["value"].mask(broken)), "judge", "h*")
    (judge,) = result.tests
    assert (judge.n, judge.n_failed) == (40, 10)
    assert judge.by_annotator["instances"].tolist() == [30, 30, 30]
    assert judge.by_annotator["human_advantage"].tolist() == pytest.approx([1.0, 1.0, 2 / 3])
    assert any("10 of 40 verdicts could not be read" in sentence for sentence in result.warnings)


def test_votes_in_any_order_of_the_models_and_repeats() -> None:
    rows = []
    for item in range(40):
        for who, winner in (("h1", "model_a"), ("h2", "model_a"), ("h3", "tie")):
            rows.append((item, "x", "y", winner, who))
        rows.append((item, "y", "x", "model_b", "judge"))  # x wins
        rows.append((item, "x", "y", "model_a" if item < 35 else "model_b", "judge"))  # in 5 it contradicts itself
    votes = pd.DataFrame(rows, columns=["item_id", "model_a", "model_b", "winner", "annotator"])
    table = alt_test(votes, "judge", "h?").tests[0].by_annotator.set_index("annotator")
    assert table["instances"].tolist() == [40, 40, 40]
    # Without h3, who says tie, x is what both others say: the judge's five ties lose.
    assert table.loc["h3", "judge_advantage"] == 1.0
    assert table.loc["h3", "human_advantage"] == 5 / 40
    assert table.loc["h1", "judge_advantage"] == 1.0


def test_grades_by_model_and_criterion_and_repeats() -> None:
    frame = grades_of({"h1": [1, 2], "h2": [1, 2], "j": [1, 4]}, times=20)
    again = frame[frame["annotator"].eq("j") & frame["item_id"].str.endswith("-1")].assign(value=0)
    both = pd.concat([frame, again]).assign(model="m", criterion="style")
    result = alt_test(both, "j", "h*", metric="neg_rmse")
    assert result.tests[0].advantage_probability == 1.0  # the mean of 4 and 0 is what the humans say
    assert result.tests[0].n == 40
    assert any("two humans" in sentence for sentence in result.warnings)


@pytest.mark.parametrize(
    ("change", "options", "sentence"),
    [
        ({}, {"judges": "nobody"}, "no annotator matches the judge 'nobody'"),
        ({}, {"annotators": "*"}, "judge match both"),
        ({}, {"metric": "rmse"}, "the metric is 'rmse'"),
        ({}, {"epsilon": 2.0}, "epsilon is 2.0"),
        ({}, {"metric": "neg_rmse"}, "grade 1 has the value 'A'"),
        ({"annotator": None}, {}, "grade 1 has no annotator"),
        ({"winner": "model_a"}, {"metric": "neg_rmse"}, "neg_rmse needs numeric grades"),
    ],
)
def test_wrong_input_is_a_sentence(change: dict, options: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        alt_test(grades_of(WORKED).assign(**change), **{"judges": "judge", "annotators": "h*", **options})


def test_no_shared_instance_is_said() -> None:
    frame = grades_of({"h1": ["A", None], "h2": [None, "B"], "judge": ["A", "B"]})
    result = alt_test(frame, "judge", "h*")
    assert np.isnan(result.frame().loc[0, "winning_rate"])
    assert any("two or more humans" in sentence for sentence in result.warnings)
