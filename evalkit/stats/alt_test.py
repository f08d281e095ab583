"""The alternative annotator test: may this judge stand in for a human annotator here?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from scipy import special

from evalkit.errors import UserError
from evalkit.stats.battles import UNREADABLE, battle_labels, distinct, matching
from evalkit.stats.votes import FloatArray, IntArray, code_names, factorize, list_names, require_columns

Metric = Literal["accuracy", "neg_rmse"]
_T_TEST_FROM = 30
_PASSES_FROM = 0.5
_COLUMNS = ("annotator", "instances", "judge_advantage", "human_advantage", "p_value", "test", "judge_wins")


@dataclass(frozen=True, eq=False)
class AltTest:
    """The verdict on one judge.

    Attributes:
        judge: Name.
        winning_rate: Share of the annotators for whom the hypothesis that the judge is worse was rejected; NaN where
            no annotator could be tested.
        advantage_probability: Mean over the annotators of the share of instances where the judge is at least as near
            to the others as the annotator is.
        epsilon: The human's handicap.
        annotators: Annotators tested.
        n: Instances with two or more humans that the judge was asked about, failures included.
        n_failed: Of these, instances where the judge's verdict or grade could not be read: in no share.
        by_annotator: Columns annotator, instances, judge_advantage, human_advantage, p_value, test, judge_wins.
        warnings: Sentences.
    """

    judge: str
    winning_rate: float
    advantage_probability: float
    epsilon: float
    annotators: int
    n: int
    n_failed: int
    by_annotator: pd.DataFrame
    warnings: tuple[str, ...]

    @property
    def passes(self) -> bool:
        """Whether the winning rate is one half or more."""
        return self.winning_rate >= _PASSES_FROM


@dataclass(frozen=True, eq=False)
class AltTests:
    """One `AltTest` for each judge, best advantage probability first.

    Attributes:
        tests: The judges.
        method: What was compared and tested, in words.
        n, n_failed: Sums over the judges.
        warnings: Sentences about the data and about each judge.
    """

    tests: tuple[AltTest, ...]
    method: str
    n: int
    n_failed: int
    warnings: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """Columns judge, winning_rate, advantage_probability, epsilon, annotators, n, n_failed, passes."""
        names = ("judge", "winning_rate", "advantage_probability", "epsilon", "annotators", "n", "n_failed", "passes")
        return pd.DataFrame([[getattr(test, name) for name in names] for test in self.tests], columns=list(names))


@dataclass(frozen=True, eq=False)
class _Annotations:
    """One value of each annotator for each instance: label codes or grades, NaN where it could not be read."""

    instance: IntArray
    annotator: IntArray
    value: FloatArray
    annotators: tuple[str, ...]
    warnings: tuple[str, ...]

    def of(self, members: IntArray) -> _Annotations:
        rows = np.isin(self.annotator, members)
        return _Annotations(self.instance[rows], self.annotator[rows], self.value[rows], self.annotators, self.warnings)


def alt_test(
    data: pd.DataFrame,
    judges: str,
    annotators: str,
    *,
    metric: Metric = "accuracy",
    epsilon: float = 0.2,
    min_instances: int = 30,
    alpha: float = 0.05,
) -> AltTests:
    """The alternative annotator test of Calderon, Reichart & Dror 2025 (ACL, "The Alternative Annotator Test").

    Each human j is left out in turn. On each instance i that j and another human annotated, the judge's value f and
    j's value h are held against the remaining humans' values: S(x) = share of them equal to x (accuracy), or
    -sqrt(mean (x - value)^2) (neg_rmse). W_f = 1 if S(f) >= S(h), W_h = 1 if S(h) >= S(f); rho_f and rho_h are their
    means over i. H0: rho_f <= rho_h - epsilon is tested by a one-sided paired t test of d = W_h - W_f against epsilon
    (below 30 instances by Wilcoxon's exact signed-rank test, as the paper advises), and the hypotheses of all
    annotators are decided together by Benjamini-Yekutieli at `alpha`. Winning rate = share rejected; the judge passes
    at one half.
    The advantage probability is the mean of rho_f over the annotators: by it judges are compared.

    Epsilon is what the judge's lower cost is worth: the paper's guidance is 0.2 where the annotators are experts, 0.15
    for skilled annotators, 0.1 for crowd workers, and less where humans agree little.

    Args:
        data: Votes (instances are battles, labels first wins, second wins, tie; see
            `battles.battle_labels` for repeats) or grades (instances are item_id with model and criterion where
            there are such columns; repeats of one annotator: their mean for neg_rmse, the commonest value for accuracy,
            of several the first).
        judges, annotators: Globs for the annotators to be tested and for the humans; where there is a column
            annotator_kind, `*` is all of the kind judge, or human.
        metric: accuracy (votes, nominal grades) or neg_rmse (numeric grades).
        epsilon: 0 to 1.
        min_instances: Annotators with fewer instances are left out, with a warning.
        alpha: False discovery rate.

    Raises:
        UserError: A column is missing, a glob matches nobody, a name matches both, an option is out of range, or a
            grade is not a number where one is needed.
    """
    if metric not in get_args(Metric):
        raise UserError(f"the metric is {metric!r}; it must be {' or '.join(get_args(Metric))}.", code=2)
    if not 0.0 <= epsilon <= 1.0:
        raise UserError(f"epsilon is {epsilon}; it must lie between 0 and 1, such as 0.2 for experts.", code=2)
    if not 0.0 < alpha < 1.0 or min_instances < 2:
        raise UserError(f"alpha must lie between 0 and 1 ({alpha}), min_instances be 2 or more ({min_instances}).", 2)
    votes = "winner" in data.columns
    if votes and metric != "accuracy":
        raise UserError("neg_rmse needs numeric grades; for votes the metric is accuracy.", code=2)
    found = _from_votes(data) if votes else _from_grades(data, metric)
    kinds = None
    if "annotator_kind" in data.columns:
        kinds = {str(k): str(v) for k, v in zip(data["annotator"], data["annotator_kind"], strict=True)}
    tested, reference = matching(found.annotators, judges, annotators, kinds)
    humans = found.of(reference)
    readable = np.isfinite(humans.value)
    warnings = list(found.warnings)
    if not readable.all():
        warnings.append(f"{int((~readable).sum())} human labels could not be read; they count for nobody.")
    n_instances = int(found.instance.max(initial=-1)) + 1
    crowd = np.bincount(humans.instance[readable], minlength=n_instances)
    shared = readable & (crowd[humans.instance] >= 2)
    if not shared.any():
        warnings.append("No instance was annotated by two or more humans: nothing can be tested.")
    if len(reference) == 2:
        warnings.append("Only two humans: the paper asks for three or more, since two have no consensus.")
    humans = _Annotations(humans.instance[shared], humans.annotator[shared], humans.value[shared], found.annotators, ())
    results = [
        _test_judge(found.of(np.array([judge])), humans, crowd, metric, epsilon, min_instances, alpha)
        for judge in tested
    ]
    results.sort(key=lambda test: (np.isnan(test.winning_rate), -test.advantage_probability, test.judge))
    method = (
        f"leave-one-annotator-out, {metric}, epsilon {epsilon:g}, one-sided paired t test (Wilcoxon below "
        f"{_T_TEST_FROM} instances), Benjamini-Yekutieli at {alpha:g}; passes at a winning rate of {_PASSES_FROM:g}"
    )
    warnings += [f"{test.judge}: {sentence}" for test in results for sentence in test.warnings]
    n, n_failed = sum(test.n for test in results), sum(test.n_failed for test in results)
    return AltTests(tuple(results), method, n, n_failed, tuple(warnings))


def benjamini_yekutieli(p_values: FloatArray, alpha: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which hypotheses the Benjamini-Yekutieli step-up procedure rejects.

    All p_(1..k) for the largest k with p_(k) <= k alpha / (K (1 + 1/2 + ... + 1/K)): the false discovery rate is at
    most alpha whatever the dependence (Benjamini & Yekutieli 2001, Ann. Statist. 29:1165-1188).

    Args:
        p_values: Shape (K,).
        alpha: False discovery rate.
    """
    k = np.arange(1, len(p_values) + 1)
    order = np.argsort(p_values, kind="stable")
    below = np.flatnonzero(p_values[order] <= k * alpha / (len(p_values) * (1.0 / k).sum()))
    rejected = np.zeros(len(p_values), dtype=np.bool_)
    rejected[order[: below[-1] + 1 if len(below) else 0]] = True
    return rejected


def _test_judge(
    judge: _Annotations,
    humans: _Annotations,
    crowd: IntArray,
    metric: Metric,
    epsilon: float,
    min_instances: int,
    alpha: float,
) -> AltTest:
    name = judge.annotators[int(judge.annotator[0])]
    said = np.full(len(crowd), np.nan)
    said[judge.instance] = judge.value
    asked = judge.instance[crowd[judge.instance] >= 2]
    n_failed = int(np.isnan(said[asked]).sum())
    rows = np.isfinite(said[humans.instance])
    instance, annotator, h = humans.instance[rows], humans.annotator[rows], humans.value[rows]
    advantage = _alignment(instance, h, said[instance], metric)
    judge_ahead, human_ahead = advantage >= 0, advantage <= 0
    difference = human_ahead.astype(np.float64) - judge_ahead
    left_out: list[str] = []
    table = []
    for j in np.unique(annotator):
        mine = annotator == j
        n = int(mine.sum())
        if n < min_instances:
            left_out.append(humans.annotators[j])
            continue
        p, test = _p_value(difference[mine], epsilon)
        row = (humans.annotators[j], n, float(judge_ahead[mine].mean()), float(human_ahead[mine].mean()), p, test)
        table.append(row)
    wins = benjamini_yekutieli(np.array([row[4] for row in table]), alpha)
    frame = pd.DataFrame([(*row, bool(win)) for row, win in zip(table, wins, strict=True)], columns=list(_COLUMNS))
    warnings = []
    if n_failed:
        warnings.append(f"{n_failed} of {len(asked)} verdicts could not be read; they are in n and in no share.")
    if left_out:
        text = (
            f"{len(left_out)} annotators left out with fewer than {min_instances} instances ({list_names(left_out)})."
        )
        warnings.append(text)
    if len(table) and (frame["test"] == "Wilcoxon").any():
        warnings.append(f"Fewer than {_T_TEST_FROM} instances for some annotators: Wilcoxon's test in place of t.")
    if not table:
        warnings.append("no annotator could be tested.")
    return AltTest(
        judge=name,
        winning_rate=float(wins.mean()) if table else float("nan"),
        advantage_probability=float(frame["judge_advantage"].mean()) if table else float("nan"),
        epsilon=epsilon,
        annotators=len(table),
        n=len(asked),
        n_failed=n_failed,
        by_annotator=frame,
        warnings=tuple(warnings),
    )


def _alignment(instance: IntArray, human: FloatArray, judge: FloatArray, metric: Metric) -> FloatArray:
    """Sign of how much nearer to the other humans the judge is than the human of the row: 1, 0 or -1.

    Both are held against the same others, so matches and squared differences need not be divided.
    """
    n = np.bincount(instance)[instance]
    if metric == "accuracy":
        values = np.unique(np.concatenate([human, judge]))
        label, guess = np.searchsorted(values, human), np.searchsorted(values, judge)
        counts = np.bincount(
            instance * len(values) + label, minlength=(int(instance.max(initial=-1)) + 1) * len(values)
        )
        matches_human = counts[instance * len(values) + label] - 1
        matches_judge = counts[instance * len(values) + guess] - (guess == label)
        return np.asarray(np.sign(matches_judge - matches_human), dtype=np.float64)
    # Around the instance's mean m: the sum over the others is that over all, less the row's own term.
    center = (np.bincount(instance, human) / np.maximum(np.bincount(instance), 1))[instance]
    h, f = human - center, judge - center
    squares = np.bincount(instance, h**2)[instance]
    far_human = squares + n * h**2
    far_judge = squares + n * f**2 - (f - h) ** 2
    gain = far_human - far_judge
    return np.where(np.abs(gain) <= 1e-9 * (far_human + far_judge), 0.0, np.sign(gain))


def _p_value(difference: FloatArray, epsilon: float) -> tuple[float, str]:
    """One-sided p-value of mean(difference) >= epsilon, and the test's name."""
    n = len(difference)
    shifted = difference - epsilon
    if n < _T_TEST_FROM:
        return _signed_rank_p(shifted), "Wilcoxon"
    mean, deviation = float(shifted.mean()), float(shifted.std(ddof=1))
    if deviation <= 0:
        # Every instance says the same: the limit of the t test as the deviation goes to 0.
        return (0.0 if mean < 0 else 1.0), "t"
    return float(special.stdtr(n - 1, mean / (deviation / np.sqrt(n)))), "t"


def _signed_rank_p(values: FloatArray) -> float:
    """Exact one-sided p-value of Wilcoxon's signed-rank test that the values tend below 0.

    P(W <= w), W the sum of the ranks (means of tied ranks) of the positive values when each sign is a fair coin; zeros
    are left out (Wilcoxon 1945, Biometrics Bulletin 1:80-83). Ranks are doubled, so that all sums are whole.
    """
    kept = values[values != 0]
    _, tied, times = np.unique(np.abs(kept), return_inverse=True, return_counts=True)
    ranks = (2 * np.cumsum(times) - times + 1)[tied]
    chance = np.zeros(int(ranks.sum()) + 1)
    chance[0] = 1.0
    for rank in ranks:
        chance[rank:] = (chance[rank:] + chance[: len(chance) - rank]) / 2.0
        chance[:rank] /= 2.0
    return float(min(1.0, chance[: int(ranks[kept > 0].sum()) + 1].sum()))


def _from_votes(votes: pd.DataFrame) -> _Annotations:
    found = battle_labels(votes)
    value = np.where(found.label == UNREADABLE, np.nan, found.label.astype(np.float64))
    return _Annotations(found.battle, found.annotator, value, found.annotators, found.warnings)


def _from_grades(grades: pd.DataFrame, metric: Metric) -> _Annotations:
    require_columns(grades, ("item_id", "annotator", "value"), "grades")
    for column in ("item_id", "annotator"):
        empty = grades[column].isna().to_numpy()
        if empty.any():
            raise UserError(f"grade {int(np.flatnonzero(empty)[0]) + 1} has no {column}; every grade needs one.")
    keys = [factorize(grades[name])[0] + 1 for name in ("item_id", "model", "criterion") if name in grades.columns]
    instance, _ = distinct(*keys)
    names, (annotator,) = code_names(grades["annotator"])
    cell, seen = distinct(instance, annotator)
    if metric == "neg_rmse":
        value = np.asarray(pd.to_numeric(grades["value"], errors="coerce"), dtype=np.float64)
        wrong = np.flatnonzero(~np.isfinite(value) & grades["value"].notna().to_numpy())
        if len(wrong):
            row = int(wrong[0])
            raise UserError(f"grade {row + 1} has the value {grades['value'].iloc[row]!r}; neg_rmse needs a number.")
        known = np.isfinite(value)
        n = np.bincount(cell[known], minlength=len(seen))
        total = np.bincount(cell[known], value[known], minlength=len(seen))
        merged = np.where(n > 0, total / np.maximum(n, 1), np.nan)
    else:
        code = factorize(grades["value"])[0]
        readable = np.flatnonzero(code >= 0)
        choice, first = distinct(cell[readable], code[readable])
        # The commonest value of each annotator and instance; of several, the one that came first.
        ranked = np.lexsort((readable[first], -np.bincount(choice)))
        merged = np.full(len(seen), np.nan)
        merged[cell[readable[first[ranked[::-1]]]]] = code[readable[first[ranked[::-1]]]]
    return _Annotations(instance[seen], annotator[seen], merged, names, ())
