"""The mathematics of the Bradley-Terry fit: who can be rated, Newton's method, sandwich covariances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, special
from scipy.sparse import csgraph

from evalkit.errors import UserError
from evalkit.stats.votes import (
    A_WINS,
    B_WINS,
    Diagnosis,
    DiagnosisKind,
    FloatArray,
    IntArray,
    list_names,
)

Slopes = dict[int, FloatArray]
"""By outcome (a position in `OUTCOMES`), a value for each (model_a, model_b), shape (m, m)."""

_MAX_STEPS = 100
_STEP_TOLERANCE = 1e-9
_SMALL = 1e-4  # log-odds
_ROUNDING = 16 * float(np.finfo(np.float64).eps)
_EXP_RANGE = 600.0  # log-odds; beyond it exp would overflow


@dataclass(frozen=True, eq=False)
class Fit:
    """A maximum of the likelihood.

    Attributes:
        strength: Log-odds units, mean 0, shape (m,).
        bread: Pseudo-inverse of the information matrix, shape (m, m).
        iterations: Newton steps.
        gradient: Largest absolute derivative, per vote of the model.
        converged: Whether the last step was below 1e-9, or the gradient zero up to rounding.
        likelihood: Log-likelihood at the maximum, with the prior where there is one.
        log_determinant: Of the information, prior included, orthogonal to the common shift.
        curvature: The information's diagonal for the strengths, prior included, shape (m,).
    """

    strength: FloatArray
    bread: FloatArray
    iterations: int
    gradient: float
    converged: bool
    likelihood: float = 0.0
    log_determinant: float = 0.0
    curvature: FloatArray = field(default_factory=lambda: np.zeros(0))


def win_matrix(counts: FloatArray, half: Sequence[int]) -> FloatArray:
    """Wins of row over column, shape (m, m), from counts (m, m, 4); outcomes in `half` are half a win each way."""
    share = np.zeros((counts.shape[2], 2))  # of an outcome, for model_a and for model_b
    share[list(half)] = 0.5
    share[[A_WINS, B_WINS], [0, 1]] = 1.0
    first, second = (counts @ share).transpose(2, 0, 1)
    return np.asarray(first + second.T, dtype=np.float64)


def rateable_group(
    models: Sequence[str], wins: FloatArray, prior: bool = False
) -> tuple[IntArray, tuple[tuple[str, ...], ...], tuple[Diagnosis, ...]]:
    """The models that a finite maximum of the likelihood can place on one scale.

    These are a strongly connected component of the graph with an edge from each winner to each loser (Ford 1957,
    Amer. Math. Monthly 64:28-33); with a prior on the strengths, all models of one island. Of several, the one with
    the most models is taken, then the one with the most wins, then the first by name.

    Args:
        models: Names, shape (m,).
        wins: Wins of row over column, shape (m, m).
        prior: Whether a prior keeps the strengths finite.

    Returns:
        Positions of the group's models (empty where no two models can be compared), the islands (groups with no
        battle between them; models without votes are in none), and a diagnosis for all that cannot be placed, or only
        by the prior.
    """
    beats = wins > 0
    if len(models) > 1 and strongly_connected(beats):
        return np.arange(len(models)), (tuple(models),), ()
    lost, won = wins.sum(axis=0), wins.sum(axis=1)
    island = np.asarray(csgraph.connected_components(beats, directed=False)[1], dtype=np.int64)
    strong = np.asarray(csgraph.connected_components(beats, connection="strong")[1], dtype=np.int64)
    voted = lost + won > 0
    islands = tuple(tuple(models[i] for i in np.flatnonzero(island == k).tolist()) for k in np.unique(island[voted]))
    found: list[Diagnosis] = []
    core = _largest(models, wins, island if prior else strong)
    if len(core) < 2:
        core = np.array([], dtype=np.int64)
        sentence = "No two models have beaten each other: no rating exists."
        if prior:
            sentence = "No two models have met: no rating exists."
        found.append(Diagnosis("no_comparison", sentence, tuple(models), len(models)))
    linked = core[_largest([models[i] for i in core], wins[np.ix_(core, core)], strong[core])] if len(core) else core
    home = set(island[core].tolist())
    kinds: dict[DiagnosisKind, list[str]] = {}
    for i in np.setdiff1d(np.arange(len(models)), linked if len(linked) > 1 else []):
        if not voted[i]:
            kinds.setdefault("no_votes", []).append(models[i])
        elif len(core) and island[i] not in home:
            kinds.setdefault("disconnected", []).append(models[i])
        elif won[i] > 0 and lost[i] == 0:
            kinds.setdefault("undefeated", []).append(models[i])
        elif won[i] == 0:
            kinds.setdefault("winless", []).append(models[i])
        else:
            kinds.setdefault("separated", []).append(models[i])
    if len(islands) > 1 and not len(core):
        kinds["disconnected"] = [name for names in islands for name in names]
    infinite = "so no finite rating fits: it would be {}infinite"
    reasons: dict[DiagnosisKind, str] = {
        "no_votes": "no vote that counts",
        "undefeated": "never lost, " + infinite.format(""),
        "winless": "never won, " + infinite.format("minus "),
        "separated": "only win, or only lose, against the rated models, so the distance is infinite",
        "disconnected": f"the battles fall into {len(islands)} groups of models that never met: no ranking across them",
    }
    by_prior: dict[DiagnosisKind, str] = {
        "undefeated": "never lost",
        "winless": "never won",
        "separated": "only win, or only lose, against the others",
    }
    for kind, names in kinds.items():
        sentence = f"Not rated: {list_names(names)}: {reasons[kind]}."
        if prior and kind in by_prior:
            sentence = f"Rated by the prior alone: {list_names(names)}: {by_prior[kind]}; without it, infinite."
        found.append(Diagnosis(kind, sentence, tuple(names), len(names)))
    return core, islands, tuple(found)


def _largest(models: Sequence[str], wins: FloatArray, group: IntArray) -> IntArray:
    """Positions of the group with the most models, then the most wins within, then the first name."""
    if not len(group):
        return np.array([], dtype=np.int64)
    size = np.bincount(group)
    within = np.bincount(group, (wins * (group[:, None] == group)).sum(axis=1), minlength=len(size))
    best = [g for g in np.flatnonzero(size == size.max()).tolist() if within[g] == within[size == size.max()].max()]
    return np.flatnonzero(group == min(best, key=lambda g: min(models[i] for i in np.flatnonzero(group == g).tolist())))


def strongly_connected(edges: NDArray[np.bool_]) -> bool:
    """Whether every node has a path to every other along `edges`, shape (m, m), m at least 1."""
    return _reaches_all(edges) and _reaches_all(edges.T)


def _reaches_all(edges: NDArray[np.bool_]) -> bool:
    """Whether there is a path from the first node to every other."""
    reached = edges[0].copy()
    reached[0] = True
    latest = reached
    while latest.any() and not reached.all():
        latest = edges[latest].any(axis=0) & ~reached
        reached = reached | latest
    return bool(reached.all())


def newton(
    start: FloatArray,
    derivatives: Callable[[FloatArray], tuple[FloatArray, FloatArray]],
    likelihood: Callable[[FloatArray], float],
    votes: FloatArray,
    models: int,
) -> Fit:
    """Maximise a concave log-likelihood that does not change when all strengths move together.

    Each step solves H d = g. It is halved while the likelihood falls; a slope still upward at its end shows that it
    rose, so the likelihood itself is seldom computed.

    Args:
        start: Parameters: `models` strengths with mean 0, then others, shape (k,).
        derivatives: Gradient (k,) and information (k, k) at given parameters; the information may be changed in place.
        likelihood: Log-likelihood at given parameters.
        votes: Votes that each parameter has a part in, shape (k,).
        models: Number of strengths.

    Returns:
        The fit, all parameters in `strength`.

    Raises:
        UserError: No information can be had at the start, nor at equal strengths.
    """
    place, converged, steps = start, False, 0
    state = _factored(derivatives, place, models)
    if state is None:  # far out the information may vanish; at equal strengths it is largest
        place = np.where(np.arange(len(start)) < models, 0.0, start)
        state = _factored(derivatives, place, models)
    if state is None:
        raise UserError("the votes' counts or weights differ by too many orders of magnitude to fit ratings to them.")
    while not converged and steps < _MAX_STEPS:
        gradient, factor, _ = state
        step = linalg.cho_solve((factor, True), gradient, check_finite=False)
        step[:models] -= step[:models].mean()
        largest, size = float(np.abs(step).max()), 1.0
        while True:
            ahead = place + size * step
            new = _factored(derivatives, ahead, models)
            # Below 1e-4 Newton's method converges quadratically, and the likelihood cannot resolve the gain.
            if new is not None and (
                largest * size <= _SMALL or new[0] @ step >= 0.0 or likelihood(ahead) >= likelihood(place)
            ):
                break
            size /= 2.0
            if largest * size <= _STEP_TOLERANCE:
                break
        steps += 1
        if new is None:
            break
        place, state = ahead, new
        # Billions of votes leave rounding errors in the gradient that no step can remove.
        rounding = largest <= _SMALL and bool((np.abs(state[0]) <= _ROUNDING * votes).all())
        converged = largest <= _STEP_TOLERANCE or rounding
    gradient, factor, curvature = state
    inverse = linalg.lapack.dpotri(factor, lower=1)[0]
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    gauge = float(curvature.mean())
    inverse[:models, :models] -= 1.0 / (models * gauge)
    log_determinant = 2.0 * float(np.log(np.diag(factor)).sum()) - float(np.log(gauge))
    certificate = float((np.abs(gradient) / votes).max())
    return Fit(place, inverse, steps, certificate, converged, likelihood(place), log_determinant, curvature)


def _factored(
    derivatives: Callable[[FloatArray], tuple[FloatArray, FloatArray]], place: FloatArray, models: int
) -> tuple[FloatArray, FloatArray, FloatArray] | None:
    """Gradient, Cholesky factor and the information's diagonal; None where it is singular to working precision."""
    gradient, information = derivatives(place)
    curvature = np.diag(information)[:models].copy()
    # Moving all strengths together changes nothing; this term, taken off the inverse again, makes H invertible.
    information[:models, :models] += curvature.mean() / models
    factor, failed = linalg.lapack.dpotrf(information.T, lower=1, overwrite_a=1)  # symmetric; .T saves a copy
    return None if failed else (gradient, factor, curvature)


def fit(wins: FloatArray, start: FloatArray | None = None, precision: float = 0.0) -> Fit:
    """Maximise the Bradley-Terry likelihood by Newton's method with the analytic Hessian.

    Gradient g_i = sum_j (w_ij - n_ij p_ij), information H = Laplacian of n_ij p_ij p_ji, p_ij = 1 / (1 + exp(s_j -
    s_i)), n = w + w'. With a prior, -precision / 2 sum (s_i - mean s)^2 is added to the likelihood.

    Args:
        wins: Wins of row over column, shape (m, m): one strongly connected group, or a connected one with a prior.
        start: Strengths to start from, shape (m,), such as those of an earlier fit; from the win shares if None.
        precision: 1 / variance of a normal prior on the strengths; 0 for none.
    """
    m = len(wins)
    if not m:
        return Fit(np.zeros(0), np.zeros((0, 0)), 0, 0.0, True)
    battles = wins + wins.T
    won, total = wins.sum(axis=1), battles.sum(axis=1)
    if start is None:
        start = np.log((won + 0.5) / (total - won + 0.5))
    diagonal = np.arange(m)

    def derivatives(strength: FloatArray) -> tuple[FloatArray, FloatArray]:
        p = win_probability(strength)
        expected = battles * p
        gradient = won - expected.sum(axis=1) - precision * (strength - strength.mean())
        information = np.multiply(p, expected, out=p)
        information -= expected  # - n p (1 - p)
        information[diagonal, diagonal] = -information.sum(axis=1)
        return gradient, with_prior(information, precision, m)

    def likelihood(strength: FloatArray) -> float:
        spread = strength - strength.mean()
        return float((wins * log_win_probability(strength)).sum()) - precision / 2.0 * float(spread @ spread)

    return newton(start - start.mean(), derivatives, likelihood, total, m)


def with_prior(information: FloatArray, precision: float, models: int) -> FloatArray:
    """Add the precision of the prior, `precision` (I - 11' / m), to the strengths' block, in place."""
    if precision:
        information[:models, :models] -= precision / models
        information[np.arange(models), np.arange(models)] += precision
    return information


def log_win_probability(strength: FloatArray) -> FloatArray:
    """Logarithm of `win_probability`, finite however small that is."""
    if len(strength) and np.ptp(strength) > _EXP_RANGE:
        return np.asarray(-np.logaddexp(0.0, -np.subtract.outer(strength, strength)), dtype=np.float64)
    return np.asarray(np.log(win_probability(strength)), dtype=np.float64)


def win_probability(strength: FloatArray) -> FloatArray:
    """P(row beats column) = 1 / (1 + exp(s_j - s_i)), shape (m, m)."""
    if len(strength) and np.ptp(strength) > _EXP_RANGE:
        return np.asarray(special.expit(np.subtract.outer(strength, strength)), dtype=np.float64)
    middle = (strength.max() + strength.min()) / 2.0 if len(strength) else 0.0
    odds = np.exp(strength - middle)
    return np.asarray(odds[:, None] / np.add.outer(odds, odds), dtype=np.float64)


def vote_slopes(strength: FloatArray, half: Sequence[int]) -> Slopes:
    """Derivative of one vote's log-likelihood by s_a - s_b: y - P(a beats b), y = 1, 0 or, for `half`, 1/2.

    Args:
        strength: Shape (m,).
        half: Outcomes that are half a win each way; outcomes neither won, lost nor half are not used.
    """
    p = win_probability(strength)
    return {A_WINS: 1.0 - p, B_WINS: -p, **dict.fromkeys(half, 0.5 - p)}
