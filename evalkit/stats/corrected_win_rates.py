"""Win rates of a judge corrected with few human verdicts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from evalkit.errors import UserError
from evalkit.stats.battles import UNREADABLE, battle_labels, matching
from evalkit.stats.correction import FEW_LABELS, CorrectedMean, check_power, label_warnings, ppi_mean, shared_power
from evalkit.stats.votes import FloatArray, IntArray, code_names, factorize, list_names


@dataclass(frozen=True, eq=False)
class JudgedBattles:
    """Battles with the judge's and the humans' scores of the first model, NaN where there is none.

    Attributes:
        models: Names in sorted order.
        first, second: Codes of the models, shape (battles,).
        judge, human: Mean scores, shape (battles,).
        unit: Cluster codes, shape (battles,).
        judge_names, human_names: The annotators that the globs matched.
        warnings: Sentences.
    """

    models: tuple[str, ...]
    first: IntArray
    second: IntArray
    judge: FloatArray
    human: FloatArray
    unit: IntArray
    judge_names: tuple[str, ...]
    human_names: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class CorrectedWinRates:
    """Win rates of models, corrected.

    Attributes:
        models: Names, best first.
        rates: One for each model.
        power: Weight of the judge's verdicts, lambda.
        n: Battles, failures included.
        n_labelled: Battles with a human verdict.
        n_failed: Battles without a readable verdict of the judge.
        method: In words.
        warnings: Sentences.
    """

    models: tuple[str, ...]
    rates: tuple[CorrectedMean, ...]
    power: float
    n: int
    n_labelled: int
    n_failed: int
    method: str
    warnings: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """Columns model, win_rate, lower, upper, judge, human, each with limits, power, n, n_labelled, n_failed."""
        rows = [
            {
                "model": model,
                **{"win_rate": r.value, "lower": r.lower, "upper": r.upper},
                **{"judge": r.judge.value, "judge_lower": r.judge.lower, "judge_upper": r.judge.upper},
                **{"human": r.human.value, "human_lower": r.human.lower, "human_upper": r.human.upper},
                **{"power": r.power, "n": r.n, "n_labelled": r.n_labelled, "n_failed": r.n_failed},
            }
            for model, r in zip(self.models, self.rates, strict=True)
        ]
        return pd.DataFrame(rows)


def ppi_win_rate(
    votes: pd.DataFrame,
    judge: str,
    annotators: str,
    *,
    power: float | None = None,
    cluster: str | None = None,
    confidence: float = 0.95,
) -> CorrectedWinRates:
    """Win rate of each model over all its battles as humans would decide them (`ppi_mean` of each model's scores).

    A battle scores 1 for a win, 1/2 for a tie or both_bad, 0 for a loss; several verdicts of one side on a battle
    count with their mean.

    Args:
        votes: Judge's and humans' votes (see `battles.battle_labels`).
        judge, annotators: Globs for the judge (several matching: their mean score) and for the humans.
        power: lambda, 0 to 1; if None one for all models, tuned for the smallest sum of variances, which leaves less to
            chance than one for each.
        cluster: `item_id` where battles share items; None takes battles as independent.
        confidence: Level.

    Raises:
        UserError: As `battles.battle_labels`, a glob matches nobody, or `cluster` is not a column of battles.
    """
    data = judged_battles(votes, judge, annotators, cluster)
    n = len(data.first)
    side = np.concatenate([data.first, data.second])
    order = np.argsort(side, kind="stable")
    ends = np.cumsum(np.bincount(side, minlength=len(data.models)))
    samples = []
    for entries in np.split(order, ends[:-1]):
        rows, is_first = entries % n, entries < n
        f, y = (np.where(is_first, score[rows], 1.0 - score[rows]) for score in (data.judge, data.human))
        samples.append((f, y, np.unique(data.unit[rows], return_inverse=True)[1]))
    check_power(power)
    chosen = shared_power(samples) if power is None else power
    found = [
        (model, ppi_mean(f, y, power=chosen, clusters=unit, confidence=confidence))
        for model, (f, y, unit) in zip(data.models, samples, strict=True)
    ]
    found.sort(key=lambda pair: (np.isnan(pair[1].value), -pair[1].value))
    short = [model for model, rate in found if rate.n_labelled < FEW_LABELS]
    labelled, failed = int((~np.isnan(data.human)).sum()), int(np.isnan(data.judge).sum())
    warnings = [*data.warnings, *label_warnings(n, labelled, failed)]
    if short:
        warnings.append(f"Fewer than {FEW_LABELS} human verdicts on {list_names(short)}: rough intervals.")
    return CorrectedWinRates(
        models=tuple(model for model, _ in found),
        rates=tuple(rate for _, rate in found),
        power=chosen,
        n=n,
        n_labelled=labelled,
        n_failed=failed,
        method=f"win rate, ties half, PPI++ with lambda {chosen:.2f}, clusters: {cluster or 'none'}, {confidence:.0%}",
        warnings=tuple(warnings),
    )


def judged_battles(votes: pd.DataFrame, judge: str, annotators: str, cluster: str | None) -> JudgedBattles:
    """Battles that the judge or a human has a verdict on, see `ppi_win_rate`."""
    found = battle_labels(votes)
    sides = matching(found.annotators, judge, annotators)
    if cluster is not None and cluster not in found.battles.columns[:-2]:
        columns = ", ".join(map(str, found.battles.columns[:-2]))
        raise UserError(f"battles cannot be clustered by {cluster!r}; their columns are {columns}.", code=2)
    seen = np.zeros(len(found.battles), dtype=np.bool_)
    labelled = np.isin(found.annotator, sides[1]) & (found.label != UNREADABLE)
    seen[found.battle[np.isin(found.annotator, sides[0]) | labelled]] = True
    battles = found.battles[seen]
    unit = np.arange(len(battles)) if cluster is None else factorize(battles[cluster])[0]
    models, sides_of = code_names(battles["first"], battles["second"])
    scores = [found.scores(side)[seen] for side in sides]
    who = [tuple(found.annotators[i] for i in side) for side in sides]
    return JudgedBattles(models, sides_of[0], sides_of[1], scores[0], scores[1], unit, who[0], who[1], found.warnings)
