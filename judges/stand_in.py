"""For which categories a judge may stand in for people, and how many more votes would tell."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.stats import AltTest
    from evalkit.stats.battles import BattleLabels
    from evalkit.stats.votes import FloatArray, IntArray

Answer = Literal["yes", "no", "too few votes"]
EVERYTHING = "all"
ALPHA = 0.05
POWER = 0.8
MOST_VOTES = 100_000
DEFINITION = (
    "On every battle with two human votes or more: how often a person agrees with the other people, less how often the "
    "judge does (the gap; each battle once, a tie being an answer of its own). Yes: the gap is shown to be below "
    "epsilon {epsilon:g}, which is what the judge's lower cost is taken to be worth; no: it is shown to be above. One-"
    "sided t tests clustered by item, decided together over all judges and categories by Benjamini-Yekutieli at "
    "{alpha:g}. Votes needed: to find the gap as it is now with a chance of {power:.0%}."
)


@dataclass(frozen=True, slots=True)
class MoreVotes:
    """New items, and human votes on them at the present number for each item."""

    items: int
    votes: int


@dataclass(frozen=True, slots=True)
class StandIn:
    """One judge in one category.

    Attributes:
        category: `all` for all battles together.
        judge_agreement, people_agreement: With the (other) people, on the battles that count here.
        gap, lower, upper: people_agreement - judge_agreement with its limits; NaN and infinite where there are none.
        n: Battles with two human votes or more.
        items, votes: Items and human votes behind them.
        answer: Whether the judge may stand in for a person here.
        more: What would settle it; None where it is settled, or where nothing that anybody could pay would, as the gap
            lies on the limit.
    """

    judge: str
    category: str
    judge_agreement: float
    people_agreement: float
    gap: float
    lower: float
    upper: float
    n: int
    items: int
    votes: int
    answer: Answer
    more: MoreVotes | None


@dataclass(frozen=True)
class MarginTest:
    """Planning of a one-sided test of a mean against a margin: `stats.power.Design`."""

    deviation: float

    @property
    def unit(self) -> str:
        """What n counts."""
        return "items"

    @property
    def definition(self) -> str:
        """Effect and formula in words."""
        return f"a mean's distance from a margin, standard deviation of an item {self.deviation:.3g}"

    @property
    def largest(self) -> float:
        """No limit."""
        return math.inf

    def spread(self, effect: float) -> tuple[float, float, float]:
        """The standard deviation does not depend on the effect."""
        return effect, self.deviation, self.deviation


def stand_ins(
    labels: BattleLabels,
    people: IntArray,
    judges: dict[str, int],
    categories: pd.Series[str] | None,
    *,
    epsilon: float,
    confidence: float = 0.95,
) -> list[StandIn]:
    """Asks of each judge in each category whether it agrees with people as people do with each other.

    See `DEFINITION`. With k votes of people on a battle, c_l of them for label l and f the judge's: the gap there is
    sum_l c_l (c_l - 1) / (k (k - 1)) - c_f / k: the agreement of a person left out with the others, less the judge's
    with the same others, averaged over whom to leave out (what the alternative annotator test compares, person by
    person).

    Args:
        labels: Of judges and people.
        people: Places of the people in `labels.annotators`.
        judges: Places of the judges, by name.
        categories: Category of each row of `labels.battles`; None without.
        epsilon: What the gap may be.
        confidence: Level of the gap's interval.

    Returns:
        A row for each judge in each category, and for all battles together where there are several categories or none.
    """
    import numpy as np

    from evalkit.stats.alt_test import benjamini_yekutieli
    from evalkit.stats.votes import factorize

    counts = people_counts(labels, people)
    cast = counts.sum(axis=1)
    item = factorize(labels.battles["item_id"])[0]
    told = np.full(len(item), "", dtype=object) if categories is None else categories.fillna("").to_numpy(dtype=object)
    groups = [EVERYTHING, *sorted({name for name in told[cast > 1] if name})]
    found: list[tuple[StandIn, float, float]] = []
    for name, code in judges.items():
        said = labels.matrix(np.array([code]))[:, 0]
        usable = (cast > 1) & (said >= 0)
        own = np.take_along_axis(counts, np.maximum(said, 0)[:, None], axis=1)[:, 0] / np.maximum(cast, 1)
        others = (counts * (counts - 1)).sum(axis=1) / np.maximum(cast * (cast - 1), 1)
        for group in groups:
            at = usable if group == EVERYTHING else usable & (told == group)
            found.append(_row(name, group, own[at], others[at], item[at], int(cast[at].sum()), epsilon, confidence))
    p = np.array([p for _, p, _ in found])
    tested = np.flatnonzero(~np.isnan(p))
    both = np.concatenate([p[tested], 1 - p[tested]])
    rejected = benjamini_yekutieli(both, ALPHA) if len(both) else np.zeros(0, dtype=np.bool_)
    answers: dict[int, Answer] = {}
    for k, index in enumerate(tested.tolist()):
        answers[index] = "yes" if rejected[k] else "no" if rejected[len(tested) + k] else "too few votes"
    level = ALPHA / sum(1 / k for k in range(1, max(len(both), 1) + 1))
    return [
        _answered(row, answers.get(index, "too few votes"), epsilon, level, deviation)
        for index, (row, _, deviation) in enumerate(found)
    ]


def people_counts(labels: BattleLabels, people: IntArray) -> FloatArray:
    """How many people gave each label (first, second, tie) on each battle, shape (battles, 3)."""
    import numpy as np

    rows = np.isin(labels.annotator, people) & (labels.label >= 0)
    cell = labels.battle[rows] * 3 + labels.label[rows]
    return np.bincount(cell, minlength=3 * len(labels.battles)).reshape(-1, 3).astype(np.float64)


def _row(
    judge: str,
    category: str,
    own: FloatArray,
    others: FloatArray,
    item: IntArray,
    votes: int,
    epsilon: float,
    confidence: float,
) -> tuple[StandIn, float, float]:
    """The row without its answer, the p-value of a gap of epsilon or more, and an item's deviation; NaN unknown."""
    import numpy as np
    from scipy import special

    from evalkit.stats import clustered_mean

    nan = float("nan")
    items = len(np.unique(item))
    both = (float(own.mean()), float(others.mean())) if len(own) else (nan, nan)

    def made(gap: float, lower: float, upper: float) -> StandIn:
        return StandIn(judge, category, *both, gap, lower, upper, len(own), items, votes, "too few votes", None)

    if items < 2:
        return made(both[1] - both[0], -math.inf, math.inf), nan, nan
    mean = clustered_mean(others - own, item, confidence)
    p = float(special.stdtr(mean.df, (mean.value - epsilon) / mean.se)) if mean.se > 0 else nan
    return made(mean.value, mean.lower, mean.upper), p, mean.se * math.sqrt(items)


def _answered(row: StandIn, answer: Answer, epsilon: float, level: float, deviation: float) -> StandIn:
    more = None
    if answer == "too few votes" and deviation > 0:
        more = more_votes(deviation, abs(epsilon - row.gap), row.items, row.votes, level)
    return replace(row, answer=answer, more=more)


def more_votes(deviation: float, effect: float, items: int, votes: int, level: float) -> MoreVotes | None:
    """What is still needed to find the effect with a chance of `POWER`; None beyond what anybody would ask for.

    Args:
        deviation: Standard deviation of an item's mean.
        effect: Distance of the mean from the margin.
        items, votes: Those there are.
        level: Of the one-sided test.
    """
    from evalkit.stats import sample_size

    if not effect > 0 or not deviation > 0:
        return None
    new = max(sample_size(MarginTest(deviation), effect, alpha=2 * level, power=POWER).n - items, 1)
    cast = math.ceil(new * votes / items)
    return MoreVotes(new, cast) if cast <= MOST_VOTES else None


def instances_needed(test: AltTest) -> tuple[int, int] | None:
    """Battles that each person must share with the judge for the alternative annotator test, and the median now.

    By the formula of `stats.sample_size` for the mean advantage that the judge has now, at the level that
    Benjamini-Yekutieli asks of all people together; None where the judge is no nearer than epsilon allows.
    """
    from evalkit.stats import sample_size

    if not test.annotators:
        return None
    table, n = test.by_annotator, test.by_annotator["instances"]
    human, judge = (float((table[f"{who}_advantage"] * n).sum() / n.sum()) for who in ("human", "judge"))
    effect = test.epsilon - (human - judge)
    variance = (1 - judge) + (1 - human) - (human - judge) ** 2
    if effect <= 0 or variance <= 0:
        return None
    level = ALPHA / sum(1 / k for k in range(1, test.annotators + 1))
    return sample_size(MarginTest(math.sqrt(variance)), effect, alpha=2 * level, power=POWER).n, int(n.median())
