"""The middle of a sandwich covariance: the summed outer products of the votes' scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from evalkit.errors import UserError
from evalkit.stats.bradley_terry import Slopes
from evalkit.stats.votes import CodedVotes, FloatArray, IntArray, VoteCounts, factorize

_DENSE = 20_000_000  # scores of clusters, in numbers


def _laplacian(weight: FloatArray) -> FloatArray:
    laplacian = -weight
    np.fill_diagonal(laplacian, 0.0)
    np.fill_diagonal(laplacian, -laplacian.sum(axis=1))
    return laplacian


def meat_from_counts(weight_squared: FloatArray, slopes: Slopes, tie_slopes: Slopes | None = None) -> FloatArray:
    """Sum of the outer products of the votes' scores, from counts.

    A vote's score is its slope times (e_a - e_b), followed by its slope in the tie parameter where there is one.

    Args:
        weight_squared: Sums of squared vote weights, shape (m, m, 4).
        slopes: By outcome, see `vote_slopes`.
        tie_slopes: The same by the tie parameter.

    Returns:
        Shape (m, m), or (m + 1, m + 1) with a tie parameter.
    """
    pair = np.zeros(weight_squared.shape[:2])
    distinct = {id(slope): slope for slope in slopes.values()}
    of_slope = np.array([[id(slopes.get(k)) == own for own in distinct] for k in range(weight_squared.shape[2])])
    shared = (weight_squared @ of_slope.astype(np.float64)).transpose(2, 0, 1)
    for weight, slope in zip(shared, distinct.values(), strict=True):
        pair += weight * slope**2
    strengths = _laplacian(pair + pair.T)
    if tie_slopes is None:
        return strengths
    crossed, corner = np.zeros_like(pair), 0.0
    for outcome, tie_slope in tie_slopes.items():
        weighted = weight_squared[:, :, outcome] * tie_slope
        crossed += weighted * slopes[outcome]
        corner += float((weighted * tie_slope).sum())
    cross = crossed.sum(axis=1) - crossed.sum(axis=0)
    return np.block([[strengths, cross[:, None]], [cross, np.array([[corner]])]])


def meat_by_cluster(
    coded: CodedVotes,
    cluster: pd.Series[Any],
    counts: VoteCounts,
    core: IntArray,
    slopes: Slopes,
    tie_slopes: Slopes | None = None,
) -> tuple[FloatArray, int, float]:
    """Clustered meat: scores are summed within a cluster, then outer products over clusters, times G / (G - 1).

    Args:
        coded: The votes.
        cluster: Sampling unit of each vote, shape (votes,).
        counts: Counts whose `models` the positions in `core` refer to.
        core: Positions of the rated models, in the order of the slopes.
        slopes, tie_slopes: As in `meat_from_counts`.

    Returns:
        The meat, the number of clusters G, and the effective number (sum n_g)^2 / sum n_g^2 of clusters of n_g votes.

    Raises:
        UserError: A vote has no cluster.
    """
    m = len(core)
    position = np.full(len(coded.models) + 1, -1, dtype=np.int64)
    place = {name: i for i, name in enumerate(coded.models)}
    position[[place[counts.models[i]] for i in core]] = np.arange(m)
    plane = np.full(6, -1, dtype=np.int64)
    plane[list(slopes)] = np.arange(len(slopes))
    a, b, outcome = position[coded.a], position[coded.b], plane[coded.outcome]
    rows = np.flatnonzero((a >= 0) & (b >= 0) & (a != b) & (outcome >= 0))
    unit, units = factorize(cluster)
    if (unit[rows] < 0).any():
        row = int(rows[np.flatnonzero(unit[rows] < 0)[0]]) + 1
        raise UserError(f"vote {row} has no {cluster.name}: intervals clustered by it need one for every vote.")
    cells, unit = (outcome[rows], a[rows], b[rows]), unit[rows]
    weight = 1.0 if coded.weight is None else coded.weight[rows]
    score = np.stack([slopes[k] for k in slopes])[cells] * weight
    columns, values = [cells[1], cells[2]], [score, -score]
    if tie_slopes is not None:
        columns.append(np.full(len(rows), m))
        values.append(np.stack([tie_slopes[k] for k in slopes])[cells] * weight)
    cluster_of, column, value = np.tile(unit, len(columns)), np.concatenate(columns), np.concatenate(values)
    shape = (len(units), m + (tie_slopes is not None))
    if shape[0] * shape[1] <= _DENSE:
        scores = np.bincount(cluster_of * shape[1] + column, value, minlength=shape[0] * shape[1]).reshape(shape)
        meat: FloatArray = np.asarray(scores.T @ scores, dtype=np.float64)
    else:
        sparse_scores = sparse.coo_array((value, (cluster_of, column)), shape=shape).tocsr()
        meat = np.asarray((sparse_scores.T @ sparse_scores).toarray(), dtype=np.float64)
    sizes = np.bincount(unit, minlength=1)
    g = int((sizes > 0).sum())
    effective = float(sizes.sum() ** 2 / (sizes.astype(np.float64) ** 2).sum()) if g else 0.0
    return meat * g / max(g - 1, 1), g, effective
