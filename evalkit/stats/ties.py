"""Models in which a tie is an outcome of its own: Davidson (1970) and Rao & Kupper (1967)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from scipy import special
from scipy.sparse import csgraph

from evalkit.stats.bradley_terry import Fit, Slopes, fit, newton, with_prior
from evalkit.stats.votes import A_WINS, B_WINS, TIE, Diagnosis, FloatArray

TieModel = Literal["davidson", "rao-kupper"]


@dataclass(frozen=True)
class TieParameter:
    """How readily the voters call a tie.

    Attributes:
        name: `nu` (Davidson: two equal models tie with probability nu / (nu + 2); 0 is no ties) or `theta`
            (Rao-Kupper: (theta - 1) / (theta + 1); 1 is no ties).
        value: Its estimate.
        lower, upper: Confidence limits, from the sandwich on the log scale.
        confidence: Level of the interval.
    """

    name: str
    value: float
    lower: float
    upper: float
    confidence: float


@dataclass(frozen=True, eq=False)
class TieFit:
    """A joint maximum over strengths and tie parameter.

    Attributes:
        fit: As for Bradley-Terry; `bread` has the shape (m + 1, m + 1), the tie parameter last.
        tie: Tie parameter on the scale of the fit: log nu, or log(theta^2 - 1); minus infinity without ties.
        slopes: Derivative of a vote's log-likelihood by s_a - s_b, for model_a, model_b and tie.
        tie_slopes: The same by the tie parameter.
    """

    fit: Fit
    tie: float = -np.inf
    slopes: Slopes = field(default_factory=dict)
    tie_slopes: Slopes = field(default_factory=dict)


def davidson_probabilities(strength: FloatArray, tie: float) -> tuple[FloatArray, FloatArray]:
    """P(row beats column) and P(tie), each (m, m), for strengths in log-odds and log nu."""
    half = np.subtract.outer(strength, strength) / 2.0
    top = np.maximum(np.abs(half), tie)
    win, drawn = np.exp(half - top), np.exp(tie - top)
    total = win + win.T + drawn
    return win / total, drawn / total


def _davidson(
    wins: FloatArray, drawn: FloatArray, precision: float
) -> tuple[Callable[[FloatArray], tuple[FloatArray, FloatArray]], Callable[[FloatArray], float]]:
    m = len(wins)
    battles, total_ties = wins + wins.T + drawn, drawn.sum() / 2.0
    score = (wins - wins.T).sum(axis=1) / 2.0

    def derivatives(place: FloatArray) -> tuple[FloatArray, FloatArray]:
        strength = place[:m]
        win, tie = davidson_probabilities(strength, place[m])
        lead = (win - win.T) / 2.0
        gradient = np.append(score - (battles * lead).sum(axis=1), total_ties - (battles * tie).sum() / 2.0)
        gradient[:m] -= precision * (strength - strength.mean())
        pair = battles * ((1.0 - tie) / 4.0 - lead**2)
        cross = -(battles * tie * lead).sum(axis=1)
        return gradient, with_prior(_bordered(pair, cross, (battles * tie * (1.0 - tie)).sum() / 2.0), precision, m)

    def likelihood(place: FloatArray) -> float:
        spread = place[:m] - place[:m].mean()
        half = np.subtract.outer(place[:m], place[:m]) / 2.0
        normaliser = np.logaddexp(np.logaddexp(half, -half), place[m])
        log_sum = float((wins * half).sum() - (battles * normaliser).sum() / 2.0 + place[m] * total_ties)
        return log_sum - precision / 2.0 * float(spread @ spread)

    return derivatives, likelihood


def _rao_kupper(
    wins: FloatArray, drawn: FloatArray, precision: float
) -> tuple[Callable[[FloatArray], tuple[FloatArray, FloatArray]], Callable[[FloatArray], float]]:
    m = len(wins)
    # A tie is "not lost" from both sides: P(tie) = (theta^2 - 1) P(i wins) P(j wins).
    held, total_ties = wins + drawn, drawn.sum() / 2.0

    def derivatives(place: FloatArray) -> tuple[FloatArray, FloatArray]:
        strength, threshold = place[:m], _threshold(place[m])
        lead = np.subtract.outer(strength, strength) - threshold
        short = special.expit(-lead)
        residual = held * short
        curvature = residual * (1.0 - short)
        first, second = special.expit(place[m]) / 2.0, special.expit(place[m]) * special.expit(-place[m]) / 2.0
        gradient = np.append(residual.sum(axis=1) - residual.sum(axis=0), total_ties - first * residual.sum())
        gradient[:m] -= precision * (strength - strength.mean())
        cross = first * (curvature.sum(axis=0) - curvature.sum(axis=1))
        corner = second * residual.sum() + first**2 * curvature.sum()
        return gradient, with_prior(_bordered(curvature + curvature.T, cross, corner), precision, m)

    def likelihood(place: FloatArray) -> float:
        spread = place[:m] - place[:m].mean()
        lead = np.subtract.outer(place[:m], place[:m]) - _threshold(place[m])
        log_sum = float(-(held * np.logaddexp(0.0, -lead)).sum() + total_ties * place[m])
        return log_sum - precision / 2.0 * float(spread @ spread)

    return derivatives, likelihood


def _threshold(tie: float) -> float:
    """log theta from log(theta^2 - 1)."""
    return float(np.logaddexp(0.0, tie)) / 2.0


def _bordered(pair: FloatArray, cross: FloatArray, corner: float) -> FloatArray:
    m = len(pair)
    information = np.empty((m + 1, m + 1))
    information[:m, :m] = -pair
    np.fill_diagonal(information, 0.0)
    np.fill_diagonal(information[:m, :m], -information[:m, :m].sum(axis=1))
    information[m, :m] = information[:m, m] = cross
    information[m, m] = corner
    return information


def fit_ties(
    wins: FloatArray,
    drawn: FloatArray,
    model: TieModel,
    start: FloatArray | None = None,
    precision: float = 0.0,
) -> TieFit:
    """Maximise the likelihood over strengths and tie parameter together, by Newton's method with analytic Hessian.

    Davidson (1970, J. Amer. Statist. Assoc. 65:317-328), with d = s_i - s_j: P(i wins) = e^(d/2) / Z, P(tie) = nu / Z,
    Z = e^(d/2) + e^(-d/2) + nu. Rao & Kupper (1967, J. Amer. Statist. Assoc. 62:194-204): P(i wins) = 1 / (1 + theta
    e^-d), P(tie) what remains. Both likelihoods are concave in the strengths and log nu, or log(theta^2 - 1).

    Args:
        wins: Wins of row over column, shape (m, m).
        drawn: Ties between row and column, symmetric, shape (m, m).
        model: `davidson` or `rao-kupper`.
        start: Strengths to start from, shape (m,); those without ties if None.
        precision: 1 / variance of a normal prior on the strengths; 0 for none.
    """
    m = len(wins)
    if not drawn.any():
        plain = fit(wins, start, precision)
        bread = np.zeros((m + 1, m + 1))
        bread[:m, :m] = plain.bread
        return TieFit(replace(plain, bread=bread), -np.inf, *_slopes(plain.strength, -np.inf, model))
    share = drawn.sum() / (2.0 * wins.sum() + drawn.sum())
    nu = 2.0 * share / (1.0 - share)
    if start is None:
        start = fit(wins + drawn / 2.0, None, precision).strength
    first = np.log(nu) if model == "davidson" else np.log((1.0 + nu) ** 2 - 1.0)  # theta - 1 = nu between equals
    derivatives, likelihood = (_davidson if model == "davidson" else _rao_kupper)(wins, drawn, precision)
    battles = wins + wins.T + drawn
    votes = np.append(battles.sum(axis=1), battles.sum() / 2.0)
    found = newton(np.append(start - start.mean(), first), derivatives, likelihood, votes, m)
    strength, tie = found.strength[:m], float(found.strength[m])
    found = replace(found, strength=strength)
    return TieFit(found, tie, *_slopes(strength, tie, model))


def _slopes(strength: FloatArray, tie: float, model: TieModel) -> tuple[Slopes, Slopes]:
    if model == "davidson":
        win, drawn = davidson_probabilities(strength, tie)
        lead = (win - win.T) / 2.0
        return {A_WINS: 0.5 - lead, B_WINS: -0.5 - lead, TIE: -lead}, {A_WINS: -drawn, B_WINS: -drawn, TIE: 1.0 - drawn}
    short = special.expit(_threshold(tie) - np.subtract.outer(strength, strength))
    first = special.expit(tie) / 2.0
    return (
        {A_WINS: short, B_WINS: -short.T, TIE: short - short.T},
        {A_WINS: -first * short, B_WINS: -first * short.T, TIE: 1.0 - first * (short + short.T)},
    )


def tie_diagnoses(wins: FloatArray, drawn: FloatArray, model: TieModel, prior: bool) -> tuple[Diagnosis, ...]:
    """What keeps the tie parameter from being finite; with `ties_separate` there is no maximum at all.

    With all models in one strongly connected group (ties linking both ways), the maximum exists unless strengths x
    exist with x_i - x_j >= 1 where i ever beat j and |x_i - x_j| <= 1 where they ever tied: then larger and larger
    strengths and tie parameter fit better and better. Such x exist just where the graph of these differences has no
    negative cycle.

    Args:
        wins: Wins of row over column, shape (m, m).
        drawn: Ties, symmetric, shape (m, m).
        model: The tie model, for the sentence.
        prior: Whether a prior holds the strengths; then any win is enough.
    """
    if not drawn.any():
        sentence = f"No ties among the rated models: the {model} model is then Bradley-Terry without a tie parameter."
        return (Diagnosis("no_ties", sentence),)
    decisive = wins > 0
    if prior and decisive.any():
        return ()
    groups, _ = csgraph.connected_components(decisive, directed=True, connection="strong")
    if groups < len(wins):  # models that beat each other in a circle
        return ()
    length = np.where(drawn > 0, 1.0, 0.0)
    length[decisive] = -1.0
    try:
        csgraph.bellman_ford(length, indices=np.array([0]))
    except csgraph.NegativeCycleError:
        return ()
    sentence = (
        f"Ties and wins fall apart (no circle with more wins than ties): the {model} model's tie parameter would be "
        "infinite. Count ties as half wins, or drop them."
    )
    return (Diagnosis("ties_separate", sentence),)


def tie_parameter(
    model: TieModel, tie: float, variance: FloatArray, critical: float, confidence: float
) -> TieParameter:
    """The tie parameter on its usual scale with its interval.

    Args:
        model: `davidson` or `rao-kupper`.
        tie: As `TieFit.tie`.
        variance: Its variance, shape (1, 1).
        critical: Critical value of the interval.
        confidence: Level of the interval.
    """
    width = critical * float(np.sqrt(max(variance[0, 0], 0.0))) if np.isfinite(tie) else np.inf
    limits = [tie, tie - width, tie + width] if np.isfinite(tie) else [-np.inf, -np.inf, np.inf]
    with np.errstate(over="ignore"):  # so wide an interval ends at infinity
        value, lower, upper = np.exp(limits) if model == "davidson" else np.exp(np.logaddexp(0.0, limits) / 2.0)
    return TieParameter("nu" if model == "davidson" else "theta", float(value), float(lower), float(upper), confidence)
