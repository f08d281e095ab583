"""Weights of a jury's votes learned together, so that judges who err alike share one weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from evalkit.errors import UserError
from evalkit.stats.juries import NO_LABEL, JuryWeights, log_odds_weights, tally, with_truth
from evalkit.stats.ranks import critical_value
from evalkit.stats.votes import FloatArray, IntArray, factorize

_Fit = Callable[[IntArray, IntArray], FloatArray]
PENALTIES = (1.0, 10.0, 100.0)
FOLDS = 5
_MAX_STEPS = 50
_TOLERANCE = 1e-8
_CONFIDENCE = 0.95  # one-sided
_SILENT = 1e-3  # all the other judges' votes together, beside the best judge's of 0.1 or more


def stacked_weights(
    labels: ArrayLike,
    truth: ArrayLike,
    *,
    judges: Sequence[str] | None = None,
    clusters: ArrayLike | None = None,
    n_labels: int | None = None,
    seed: int = 0,
) -> JuryWeights:
    """Weights of the votes that are not expected to do worse than the best judge alone.

    Log-odds weights (`juries.log_odds_weights`) take errors as independent: five copies of a bad judge outvote a good
    one. Here the weights w are fitted together, by stacked generalisation (Wolpert 1992, Neural Networks 5:241-259)
    with a conditional logit (McFadden 1974):

        P(label l) = exp(u_l) / sum_k exp(u_k),   u_l = sum_j w_j [judge j says l],

    maximising the log-likelihood of the known truths less penalty / 2 |w - w0|^2 (ridge), w0 the best judge's log-odds
    weight and next to 0 for everyone else: where little is known the jury is its best judge. The most likely label is
    the one with the largest sum of weights, so they are used as any others (`juries.weighted`).

    Which weights are kept is decided by cross-validation over whole clusters, in 5 folds: candidates are the log-odds
    weights and the stacked ones for penalties of 1, 10 and 100; the one that is right most often is taken if it beats
    the best judge (found anew in each fold) on the items left out: the lower one-sided 95 % limit of the paired gain,
    clustered, is above 0. Else the best judge decides, the others only where it is silent. `method` says which it was,
    and over how many clusters: a handful cannot even tell which judge is best on new ones.

    Args:
        labels: Shape (items, judges), -1 or NaN where there is no readable verdict.
        truth: Shape (items,), -1 or NaN where unknown.
        judges: Names.
        clusters: Labels of groups of like items, shape (items,); each item one of its own if None.
        n_labels: K; from the labels and the truth if None.
        seed: Of the folds.

    Raises:
        UserError: As `juries.log_odds_weights`, or fewer than two clusters have a known truth.
    """
    codes, right, k = with_truth(labels, truth, n_labels)
    unit = np.arange(len(codes)) if clusters is None else factorize(pd.Series(np.asarray(clusters)))[0]
    known = (right != NO_LABEL) & (codes != NO_LABEL).any(axis=1)
    held, target = codes[known], right[known]
    unit = np.unique(unit[known], return_inverse=True)[1]
    n_units = int(unit.max(initial=-1)) + 1
    if n_units < 2:
        raise UserError(f"the truth is known for {n_units} groups of items; 2 or more are needed to learn weights.")
    fold = (np.random.default_rng(seed).permutation(n_units) % FOLDS)[unit]
    candidates = _candidates(k)
    hits = {name: np.zeros(len(held)) for name in candidates}
    for left_out in np.unique(fold):
        test = fold == left_out
        for name, fit in candidates.items():
            hits[name][test] = expected_hits(held[test], target[test], k, fit(held[~test], target[~test]))
    best, *others = candidates
    chosen = max(others, key=lambda name: float(hits[name].mean()))
    gain, lower = _paired(hits[chosen] - hits[best], unit)
    kept = chosen if lower > 0 else best
    weight = candidates[kept](held, target)
    base = log_odds_weights(codes, right, judges=judges, n_labels=k)
    where = f"in cross-validation over {n_units} groups of items"
    reason = (
        f"{gain:+.1%} over the best judge {where} ({lower:+.1%} at the least)"
        if kept == chosen
        else f"no jury was reliably better {where}: {chosen} {gain:+.1%} ({lower:+.1%} at the least)"
    )
    return JuryWeights(
        judges=base.judges,
        weight=weight,
        accuracy=base.accuracy,
        correct=base.correct,
        answered=base.answered,
        n=base.n,
        n_failed=base.n_failed,
        n_labels=k,
        method=f"{kept}; {reason}",
    )


def expected_hits(codes: IntArray, right: IntArray, k: int, weight: FloatArray) -> FloatArray:
    """Chance that the label with the largest sum of weights is right, shape (items,); labels of equal sums share it."""
    sums = tally(codes, k, weight)
    top = sums >= sums.max(axis=1, keepdims=True) - 1e-9
    return np.asarray(top[np.arange(len(codes)), right] / top.sum(axis=1), dtype=np.float64)


def best_judge(codes: IntArray, right: IntArray, k: int) -> int:
    """The judge that is right on most items; where it is silent it is right as often as a guess."""
    correct = (codes == right[:, None]).sum(axis=0) + (codes == NO_LABEL).sum(axis=0) / k
    return int(correct.argmax())


def _candidates(k: int) -> dict[str, _Fit]:
    def best(codes: IntArray, right: IntArray) -> FloatArray:
        return _best(codes, right, k)

    def independent(codes: IntArray, right: IntArray) -> FloatArray:
        return log_odds_weights(codes, right, n_labels=k).weight

    def stacked(penalty: float) -> _Fit:
        return lambda codes, right: conditional_logit(codes, right, k, penalty, _best(codes, right, k))

    named = {f"stacked weights (ridge {penalty:g})": stacked(penalty) for penalty in PENALTIES}
    return {"the best judge decides": best, "log-odds weights": independent, **named}


def _best(codes: IntArray, right: IntArray, k: int) -> FloatArray:
    """The judge that was right most often; the others' weights are so small that they matter where it is silent."""
    found = log_odds_weights(codes, right, n_labels=k)
    place = best_judge(codes, right, k)
    weight = _SILENT * found.weight / max(float(np.abs(found.weight).sum()), 1.0)
    weight[place] = max(float(found.weight[place]), 0.1)
    return weight


def conditional_logit(codes: IntArray, right: IntArray, k: int, penalty: float, toward: FloatArray) -> FloatArray:
    """Weights that maximise the penalised likelihood of `stacked_weights`, by Newton's method, shape (judges,)."""
    said = (codes[:, None, :] == np.arange(k)[:, None]).astype(np.float64)  # items, K, judges
    hit = said[np.arange(len(codes)), right]
    weight = toward.copy()
    for _ in range(_MAX_STEPS):
        utility = said @ weight
        chance = np.exp(utility - utility.max(axis=1, keepdims=True))
        chance /= chance.sum(axis=1, keepdims=True)
        mean = np.einsum("ik,ikj->ij", chance, said)
        gradient = (hit - mean).sum(axis=0) - penalty * (weight - toward)
        spread = np.einsum("ik,ikj,ikl->jl", chance, said, said, optimize=True) - mean.T @ mean
        step = np.linalg.solve(spread + penalty * np.eye(len(weight)), gradient)
        weight = weight + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() <= _TOLERANCE:
            break
    return weight


def _paired(gain: FloatArray, unit: IntArray) -> tuple[float, float]:
    """Mean gain, and its lower one-sided limit, clustered (CR1)."""
    n, g = len(gain), int(unit.max()) + 1
    mean = float(gain.mean())
    sums = np.bincount(unit, gain - mean, minlength=g)
    error = float(np.sqrt(g / (g - 1) * (sums**2).sum()) / n)
    return mean, mean - critical_value(2 * _CONFIDENCE - 1, g - 1) * error
