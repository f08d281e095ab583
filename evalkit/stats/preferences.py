"""Whether a judge prefers long answers, or those of its own kin, more than the humans do on the same battles."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from evalkit.errors import UserError
from evalkit.stats.delta import clustered_se, mean_interval, t_interval, t_test, wilson_interval
from evalkit.stats.verdicts import FAILED, BoolArray, Verdicts
from evalkit.stats.votes import (
    A_WINS,
    B_WINS,
    BOTH_BAD,
    TIE,
    FloatArray,
    IntArray,
    factorize,
    list_names,
    require_columns,
)

_ROUNDS = 50
_DENSE = 2**24  # places of a table by item, turn and model
_STEEPEST = 50.0
_CLOSE = 1e-8  # Newton's method squares the error: the next step would be 1e-16


@dataclass(frozen=True, eq=False)
class Tallies:
    """Verdicts counted by battle, so that every check costs as much as there are battles; shape (battles,) each.

    Attributes:
        first_wins, second_wins, ties, failed: The judge's verdicts; both_bad is a tie.
        readable: The sum of the first three.
        human_first, human_second: Human votes for either model.
        human_votes: Readable human votes, with ties and both_bad.
        item, turn, first, second: Codes of the battle.
    """

    first_wins: FloatArray
    second_wins: FloatArray
    ties: FloatArray
    failed: FloatArray
    readable: FloatArray
    human_first: IntArray
    human_second: IntArray
    human_votes: IntArray
    item: IntArray
    turn: IntArray
    first: IntArray
    second: IntArray

    @property
    def humans(self) -> bool:
        """Whether a human voted on any battle of the judge."""
        return bool((self.human_votes > 0).any())

    def take(self, rows: IntArray) -> Tallies:
        """The same for some battles."""
        return Tallies(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def score(self, first: BoolArray) -> FloatArray:
        """Sum of what the judge gave the first model, or the second where `first` is false."""
        return np.asarray(np.where(first, self.first_wins, self.second_wins) + self.ties / 2, dtype=np.float64)

    def human_mean(self, first: BoolArray) -> FloatArray:
        """Mean of what the humans gave that model; every battle must have human votes."""
        lead = (self.human_first - self.human_second) / (2 * self.human_votes)
        return np.asarray(0.5 + np.where(first, lead, -lead), dtype=np.float64)


@dataclass(frozen=True)
class Found:
    """A measured number; `null` is what a judge without the fault has, None where nothing is right or wrong.

    `missing` says why it could not be measured, where that is not the want of human votes.
    """

    check: str
    value: float
    lower: float
    upper: float
    n: int
    n_failed: int
    null: float | None
    p_value: float
    sentence: str
    missing: str = ""


def tally(own: Verdicts, human: Verdicts) -> Tallies:
    """Count a judge's and the humans' verdicts by battle; both are parts of one `code_verdicts`."""
    size = int(own.battle.max()) + 1
    counts = np.bincount(own.outcome * size + own.battle, minlength=6 * size).reshape(6, size).astype(np.float64)
    on = np.flatnonzero(human.battle < size)  # the other battles are none of the judge's
    theirs = np.bincount(human.outcome[on] * size + human.battle[on], minlength=6 * size).reshape(6, size)
    theirs = theirs * (counts.sum(axis=0) > 0.0)
    row = np.zeros(size, dtype=np.int64)
    row[own.battle] = np.arange(len(own))
    ties = counts[TIE] + counts[BOTH_BAD]
    return Tallies(
        first_wins=counts[A_WINS],
        second_wins=counts[B_WINS],
        ties=ties,
        failed=counts[FAILED],
        readable=counts[A_WINS] + counts[B_WINS] + ties,
        human_first=theirs[A_WINS],
        human_second=theirs[B_WINS],
        human_votes=theirs[: BOTH_BAD + 1].sum(axis=0),
        item=own.item[row],
        turn=own.turn[row],
        first=own.first[row],
        second=own.second[row],
    )


def weighted_mean(
    check: str, those: Tallies, total: FloatArray, confidence: float, null: float | None = None, *, rate: bool = False
) -> Found:
    """Mean over the judge's readable verdicts on some battles, from sums by battle, clustered by item.

    sum_b total_b / sum_b w_b, w_b the readable verdicts on battle b; influence (total_b - w_b mean) / sum w. Wilson's
    interval for a rate (`delta.wilson_interval`); for a difference of rates the t interval (`delta.mean_interval`).

    Args:
        those: The battles.
        total: Sum over the verdicts on a battle, shape (battles,).
        null: Tested value; None for no test.
        rate: Whether the mean is a win rate, 0 to 1.
    """
    weight, failed = those.readable, round(those.failed.sum())
    n = float(weight.sum())
    if not n:
        nan = float("nan")
        return Found(check, nan, nan, nan, failed, failed, null, nan, "")
    mean = float(total.sum()) / n
    used = np.flatnonzero(weight)
    se, g = clustered_se(((total - weight * mean) / n)[used], those.item[used])
    if rate:
        lower, upper = wilson_interval(mean, se, g, confidence)
    else:
        lower, upper = mean_interval(mean, se, g, confidence)
    p = float("nan") if null is None else t_test(mean - null, se, g)
    return Found(check, mean, lower, upper, round(n) + failed, failed, null, p, "")


def length_checks(tallies: Tallies, ratio: FloatArray | None, confidence: float) -> list[Found]:
    """Whether the longer answer wins, and whether it wins more than the humans say.

    length_preference: share of the judge's decisive verdicts that the longer answer wins. verbosity: mean of what the
    judge gave the longer answer (a tie one half) less what the humans gave it, on the battles that both judged.
    length_slope: b of the logistic regression P(first wins) = 1 / (1 + exp(-b log(length_first / length_second))),
    a tie half a win, without an intercept since which answer is first means nothing. length_slope_excess: the judge's b
    less the humans' on the same battles. Influence of a battle on b: x (y - w p) / sum w x^2 p (1 - p); both slopes'
    influences are subtracted before they are summed by item, so the interval knows that they share their battles.

    Args:
        ratio: Log of the first answer's length over the second's, NaN unknown, shape (battles,); None for no lengths.
    """
    names = ("length_preference", "verbosity", "length_slope", "length_slope_excess")
    if ratio is None or not np.isfinite(ratio).any():
        nan = float("nan")
        why = "no responses, so no lengths." if ratio is None else "no battle has a response on both sides."
        return [Found(name, nan, nan, nan, 0, 0, None, nan, "", why) for name in names]
    differs = np.isfinite(ratio) & (ratio != 0)
    those, x = (tallies, ratio) if differs.all() else (tallies.take(np.flatnonzero(differs)), ratio[differs])
    shared = np.flatnonzero(those.human_votes > 0)
    both = those.take(shared)
    longer = x[shared] > 0
    extra = weighted_mean(names[1], both, both.score(longer) - both.readable * both.human_mean(longer), confidence, 0.0)
    extra = _say(extra, f"The longer answer gets {_points(extra.value)} from the judge than from the humans")
    return [
        _longer_wins(names[0], those, x > 0, confidence),
        extra,
        _slope_check(names[2], those, x, False, confidence),
        _slope_check(names[3], both, x[shared], True, confidence),
    ]


def own_checks(
    models: tuple[str, ...],
    itself: str,
    family: str,
    families: Mapping[str, str] | None,
    tallies: Tallies,
    confidence: float,
) -> list[Found]:
    """Whether the judge favours itself, or models of its family, against others.

    self_preference, family_preference: mean of what the judge gave its own model (a model of its family) against one
    that is not, less what the humans gave it on the same battles (compare Panickssery, Bowman & Feng 2024, "LLM
    evaluators recognize and favor their own generations"). The same with _indifferent: its own model's win rate (ties
    half) with the judge on the battles where as many humans are for either. That has no test: a model that is better
    than the votes of a few could show wins there with a fair judge too. A judge that is surer than the humans moves
    both in favour of a strong model, so look at its verdicts on strong models of others before you blame it.

    Args:
        models: Names behind the codes.
        itself: The model that the judge is.
        family: Of the judge.
        families: As `audit.audit_judge`.
    """
    kin = np.array([family_of(name, families) == family for name in models])
    alone = np.array([name == itself for name in models])
    of_family = list_names([name for name, mine in zip(models, kin, strict=True) if mine])
    found = []
    for label, own, whose, missing in (
        ("self_preference", alone, "its own answers", f"no model is named {itself}."),
        ("family_preference", kin, f"answers of its family ({of_family})", f"no model of the family {family}."),
    ):
        against = tallies.take(np.flatnonzero((own[tallies.first] != own[tallies.second]) & (tallies.human_votes > 0)))
        even = against.take(np.flatnonzero(against.human_first == against.human_second))
        first = own[against.first]
        why = missing if not own.any() else ""
        extra = weighted_mean(
            label, against, against.score(first) - against.readable * against.human_mean(first), confidence, 0.0
        )
        found.append(_say(extra, f"The judge gives {whose} {_points(extra.value)} than the humans do", why))
        if not why and len(against.item) and not len(even.item):
            why = "the humans are indifferent on none of its battles."
        rate = weighted_mean(f"{label}_indifferent", even, even.score(own[even.first]), confidence, rate=True)
        sentence = (
            f"Where the humans are indifferent, {whose} win {rate.value:.1%} (ties half); a fair judge is near 50%"
        )
        found.append(_say(rate, sentence, why))
    return found


def family_of(name: str, families: Mapping[str, str] | None) -> str:
    """The family given for a name, or else its first letters, without an owner's name before a slash."""
    if families is not None and name in families:
        return families[name]
    start = re.match(r"[^\W\d_]+", name.rsplit("/", 1)[-1].lower())
    return start.group() if start else name


def log_length_ratio(own: Verdicts, tallies: Tallies, responses: pd.DataFrame) -> tuple[FloatArray, int]:
    """Log of the first answer's length over the second's by battle (NaN unknown), and the judge's battles without it.

    An empty answer counts as of length 1.

    Raises:
        UserError: A column is missing, or a length is negative.
    """
    require_columns(responses, ["item_id", "model"], "responses")
    if "length" in responses.columns:
        length = np.asarray(responses["length"].to_numpy(np.float64, na_value=np.nan), dtype=np.float64)
    else:
        require_columns(responses, ["response"], "responses")
        length = np.asarray(responses["response"].str.len().to_numpy(np.float64, na_value=np.nan), dtype=np.float64)
    if (length < 0).any():
        row = int(np.flatnonzero(length < 0)[0])
        raise UserError(f"response {row + 1} has the length {length[row]:g}; it must not be negative.")
    m = len(own.models)
    turns = "turn" in responses.columns and "turn" in own.labels
    n_turns = len(own.labels["turn"]) if turns else 1
    item = _places(responses["item_id"], own.labels["item_id"])
    turn = _places(responses["turn"], own.labels["turn"]) if turns else np.zeros(len(responses), dtype=np.int64)
    model = _places(responses["model"], list(own.models))
    known = np.flatnonzero((item >= 0) & (turn >= 0) & (model >= 0) & ~np.isnan(length))
    key = ((item * n_turns + turn) * m + model)[known]
    start = (tallies.item * n_turns + (tallies.turn if turns else 0)) * m
    sides, size = [start + tallies.first, start + tallies.second], len(own.labels["item_id"]) * n_turns * m
    if size > _DENSE:
        found = pd.Index(pd.unique(key))
        key, size = found.get_indexer(key), len(found) + 1
        sides = [found.get_indexer(side) for side in sides]  # -1, the spare last place, where there is none
    count = np.bincount(key, minlength=size)
    log = np.full(size, np.nan)
    np.divide(np.bincount(key, np.maximum(length[known], 1.0), minlength=size), count, out=log, where=count > 0)
    np.log(log, out=log)
    ratio = log[sides[0]] - log[sides[1]]
    return ratio, int((np.isnan(ratio) & (tallies.readable + tallies.failed > 0)).sum())


def _places(column: pd.Series[Any], values: list[Any]) -> IntArray:
    """Place of each value of the column in `values`, -1 where it is not there; 17 and "17" are one."""
    codes, labels = factorize(column)
    place = {str(value): i for i, value in enumerate(values)}
    return np.array([*(place.get(str(label), -1) for label in labels), -1], dtype=np.int64)[codes]


def _longer_wins(check: str, those: Tallies, longer: BoolArray, confidence: float) -> Found:
    failed = round(those.failed.sum())
    n = round(those.readable.sum()) + failed
    decisive = those.first_wins + those.second_wins
    total, nan = float(decisive.sum()), float("nan")
    if not total:
        return Found(check, nan, nan, nan, n, failed, None, nan, "", "no decisive verdict on answers of unlike length.")
    hits = np.where(longer, those.first_wins, those.second_wins)
    value, used = float(hits.sum()) / total, np.flatnonzero(decisive)
    se, g = clustered_se(((hits - value * decisive) / total)[used], those.item[used])
    lower, upper = wilson_interval(value, se, g, confidence)
    sentence = f"The longer answer wins {value:.1%} of {round(total):,} decisive verdicts; that alone is no fault"
    return Found(check, value, lower, upper, n, failed, None, nan, sentence)


def _slope_check(check: str, those: Tallies, x: FloatArray, excess: bool, confidence: float) -> Found:
    failed = round(those.failed.sum())
    used = those.readable > 0
    if not used.all():
        those, x = those.take(np.flatnonzero(used)), x[used]
    first = np.ones(len(x), dtype=np.bool_)
    n = round(those.readable.sum()) + failed
    slope, influence = _slope(x, those.score(first), those.readable)
    odds = "A doubled length multiplies the odds of winning"
    sentence = f"{odds} by {2**slope:.2f} with the judge"
    if excess:
        theirs, their_influence = _slope(x, those.readable * those.human_mean(first), those.readable)
        slope, influence = slope - theirs, influence - their_influence
        sentence = f"{odds} {2**slope:.2f} times as much with the judge as with the humans"
    se, g = clustered_se(influence, those.item)
    lower, upper = t_interval(slope, se, g, confidence)
    p = t_test(slope, se, g) if excess else float("nan")
    why = "the longer (or the shorter) answer always wins." if len(x) and not np.isfinite(slope) else ""
    return Found(check, slope, lower, upper, n, failed, 0.0 if excess else None, p, sentence, why)


def _slope(x: FloatArray, y: FloatArray, w: FloatArray) -> tuple[float, FloatArray]:
    """Logistic slope without intercept and each battle's influence on it; NaN where it is not finite.

    Newton's method on sum y log p + (w - y) log(1 - p), p = 1 / (1 + exp(-b x)), which is concave in b.
    """
    slope, wx, target = 0.0, w * x, float(x @ y)
    wxx = wx * x
    for _ in range(_ROUNDS):
        p = special.expit(slope * x)
        spread = wxx * p
        curvature = float(spread.sum() - spread @ p)
        if not curvature > 0:
            break
        step = (target - float(wx @ p)) / curvature
        slope += float(np.clip(step, -1.0, 1.0))
        if abs(slope) > _STEEPEST:
            break
        if abs(step) < _CLOSE:
            return slope, (x * y - wx * p) / curvature
    return float("nan"), np.full(len(x), np.nan)


def _say(found: Found, sentence: str, missing: str = "") -> Found:
    return replace(found, sentence=sentence, missing=missing)


def _points(difference: float) -> str:
    return f"{abs(100 * difference):.1f} points {'more' if difference >= 0 else 'less'}"
