"""The mathematics of the Bradley-Terry fit: who can be rated, Newton's method, sandwich covariances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import linalg, sparse, special
from scipy.sparse import csgraph

from evalkit.errors import UserError
from evalkit.stats.votes import (
    A_WINS,
    B_WINS,
    CodedVotes,
    Diagnosis,
    DiagnosisKind,
    FloatArray,
    IntArray,
    VoteCounts,
    factorize,
    list_names,
)

_MAX_STEPS = 100
_STEP_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Fit:
    """A maximum of the likelihood.

    Attributes:
        strength: Log-odds units, mean 0, shape (m,).
        bread: Pseudo-inverse of the information matrix, shape (m, m).
        iterations: Newton steps.
        gradient: Largest absolute derivative, per vote of the model.
        converged: Whether the last step was below 1e-9.
    """

    strength: FloatArray
    bread: FloatArray
    iterations: int
    gradient: float
    converged: bool


def win_matrix(counts: FloatArray, half: Sequence[int]) -> FloatArray:
    """Wins of row over column, shape (m, m), from counts (m, m, 4); outcomes in `half` are half a win each way."""
    shared = counts[:, :, list(half)].sum(axis=2)
    return np.asarray(counts[:, :, A_WINS] + counts[:, :, B_WINS].T + 0.5 * (shared + shared.T), dtype=np.float64)


def rateable_group(
    models: Sequence[str], wins: FloatArray
) -> tuple[IntArray, tuple[tuple[str, ...], ...], tuple[Diagnosis, ...]]:
    """The models that a finite maximum of the likelihood can place on one scale.

    These are a strongly connected component of the graph with an edge from each winner to each loser (Ford 1957,
    Amer. Math. Monthly 64:28-33). Of several, the one with the most models is taken, then the one with the most wins,
    then the first by name.

    Args:
        models: Names, shape (m,).
        wins: Wins of row over column, shape (m, m).

    Returns:
        Positions of the group's models (empty where no two models can be compared), the islands (groups with no
        battle between them; models without votes are in none), and a diagnosis for all that cannot be placed.
    """
    beats = (wins > 0).astype(np.int8)
    lost, won = wins.sum(axis=0), wins.sum(axis=1)
    _, island = csgraph.connected_components(beats, directed=False)
    n_groups, group = csgraph.connected_components(beats, directed=True, connection="strong")
    voted = lost + won > 0
    islands = tuple(tuple(models[i] for i in np.flatnonzero(island == k).tolist()) for k in np.unique(island[voted]))
    size = np.bincount(group, minlength=n_groups)
    within = np.bincount(group, (wins * (group[:, None] == group)).sum(axis=1), minlength=n_groups)
    first = {int(g): min(models[i] for i in np.flatnonzero(group == g).tolist()) for g in range(n_groups)}
    ranked = sorted(range(n_groups), key=lambda g: (-size[g], -within[g], first[g]))
    found: list[Diagnosis] = []
    if not ranked or size[ranked[0]] < 2:
        core = np.array([], dtype=np.int64)
        sentence = "No two models have beaten each other: no rating exists."
        found.append(Diagnosis("no_comparison", sentence, tuple(models), len(models)))
    else:
        core = np.flatnonzero(group == ranked[0])
    home = set(island[core].tolist())
    kinds: dict[DiagnosisKind, list[str]] = {}
    for i in np.setdiff1d(np.arange(len(models)), core):
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
    reasons: dict[DiagnosisKind, str] = {
        "no_votes": "no vote that counts",
        "undefeated": "never lost, so no finite rating fits: it would be infinite",
        "winless": "never won, so no finite rating fits: it would be minus infinity",
        "separated": "only win, or only lose, against the rated models, so the distance is infinite",
        "disconnected": f"the battles fall into {len(islands)} groups of models that never met: no ranking across them",
    }
    for kind, names in kinds.items():
        found.append(Diagnosis(kind, f"Not rated: {list_names(names)}: {reasons[kind]}.", tuple(names), len(names)))
    return core, islands, tuple(found)


def _log_likelihood(wins: FloatArray, strength: FloatArray) -> float:
    return float(-(wins * np.logaddexp(0.0, strength - strength[:, None])).sum())


def fit(wins: FloatArray) -> Fit:
    """Maximise the Bradley-Terry likelihood by Newton's method with the analytic Hessian.

    Gradient g_i = sum_j (w_ij - n_ij p_ij), information H = Laplacian of n_ij p_ij p_ji, p_ij = 1 / (1 + exp(s_j -
    s_i)), n = w + w'. Each step solves H d = g, halved while the likelihood falls (it is concave).

    Args:
        wins: Wins of row over column, shape (m, m), one strongly connected group.
    """
    m = len(wins)
    strength = np.zeros(m)
    if not m:
        return Fit(strength, np.zeros((0, 0)), 0, 0.0, True)
    battles = wins + wins.T
    total = battles.sum(axis=1)
    likelihood = _log_likelihood(wins, strength)
    converged = False
    steps = 0
    while not converged and steps < _MAX_STEPS:
        gradient, factor, _ = _derivatives(wins, battles, strength)
        step = linalg.cho_solve(factor, gradient)
        step -= step.mean()
        size = 1.0
        # Below 1e-4 Newton's method converges quadratically, and the likelihood cannot resolve the gain.
        while np.abs(step).max() * size > 1e-4 and _log_likelihood(wins, strength + size * step) < likelihood:
            size /= 2.0
        strength = strength + size * step
        likelihood = _log_likelihood(wins, strength)
        steps += 1
        converged = bool(np.abs(step).max() <= _STEP_TOLERANCE)
    gradient, factor, gauge = _derivatives(wins, battles, strength)
    # The gauge term was added to make H invertible; its inverse is taken off again.
    bread = linalg.cho_solve(factor, np.eye(m)) - 1.0 / (m * gauge)
    return Fit(strength, bread, steps, float((np.abs(gradient) / total).max()), converged)


def _derivatives(
    wins: FloatArray, battles: FloatArray, strength: FloatArray
) -> tuple[FloatArray, tuple[FloatArray, bool], float]:
    p = special.expit(strength[:, None] - strength)
    gradient = (wins - battles * p).sum(axis=1)
    information = _laplacian(battles * p * p.T)
    gauge = float(np.diag(information).mean())
    return gradient, linalg.cho_factor(information + gauge / len(strength), lower=True), gauge


def _laplacian(weight: FloatArray) -> FloatArray:
    laplacian = -weight
    np.fill_diagonal(laplacian, 0.0)
    np.fill_diagonal(laplacian, -laplacian.sum(axis=1))
    return laplacian


def meat_from_counts(strength: FloatArray, weight_squared: FloatArray, half: Sequence[int]) -> FloatArray:
    """Sum of the votes' scores' outer products, sum w^2 (y - p_ij)^2 (e_i - e_j)(e_i - e_j)', from counts.

    Args:
        strength: Shape (m,).
        weight_squared: Sums of squared vote weights, shape (m, m, 4).
        half: Outcomes with y = 1/2; model_a winning has y = 1, model_b winning 0, others are not used.
    """
    p = special.expit(strength[:, None] - strength)
    pair = weight_squared[:, :, A_WINS] * (1.0 - p) ** 2 + weight_squared[:, :, B_WINS] * p**2
    for outcome in half:
        pair = pair + weight_squared[:, :, outcome] * (0.5 - p) ** 2
    return _laplacian(np.asarray(pair + pair.T))


def meat_by_cluster(
    coded: CodedVotes,
    cluster: pd.Series[Any],
    counts: VoteCounts,
    core: IntArray,
    strength: FloatArray,
    half: Sequence[int],
) -> tuple[FloatArray, int, float]:
    """Clustered meat: scores are summed within a cluster, then outer products over clusters, times G / (G - 1).

    Args:
        coded: The votes.
        cluster: Sampling unit of each vote, shape (votes,).
        counts: Counts whose `models` the positions in `core` refer to.
        core: Positions of the rated models.
        strength: Their strengths.
        half: Outcomes with y = 1/2.

    Returns:
        The meat (m, m), the number of clusters G, and the effective number (sum n_g)^2 / sum n_g^2 of clusters of
        n_g votes.

    Raises:
        UserError: A vote has no cluster.
    """
    m = len(core)
    position = np.full(len(coded.models) + 1, -1, dtype=np.int64)
    place = {name: i for i, name in enumerate(coded.models)}
    position[[place[counts.models[i]] for i in core]] = np.arange(m)
    score = np.full(6, np.nan)
    score[[A_WINS, B_WINS, *half]] = [1.0, 0.0, *(0.5 for _ in half)]
    a, b, y = position[coded.a], position[coded.b], score[coded.outcome]
    rows = np.flatnonzero((a >= 0) & (b >= 0) & (a != b) & ~np.isnan(y))
    unit, units = factorize(cluster)
    if (unit[rows] < 0).any():
        row = int(rows[np.flatnonzero(unit[rows] < 0)[0]]) + 1
        raise UserError(f"vote {row} has no {cluster.name}: intervals clustered by it need one for every vote.")
    a, b, unit = a[rows], b[rows], unit[rows]
    residual = y[rows] - special.expit(strength[a] - strength[b])
    if coded.weight is not None:
        residual *= coded.weight[rows]
    cells = (np.concatenate([residual, -residual]), (np.concatenate([unit, unit]), np.concatenate([a, b])))
    scores = sparse.coo_array(cells, shape=(len(units), m)).tocsr()
    sizes = np.bincount(unit, minlength=1)
    g = int((sizes > 0).sum())
    effective = float(sizes.sum() ** 2 / (sizes.astype(np.float64) ** 2).sum()) if g else 0.0
    return np.asarray((scores.T @ scores).todense()) * g / max(g - 1, 1), g, effective
