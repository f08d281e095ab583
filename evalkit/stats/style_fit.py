"""Bradley-Terry with covariates: the sums over votes that Newton's method and the sandwich need, block by block.

A vote has its own covariates, so counts are not enough; but the sums by pair of models are small, and only blocks of
votes are in use at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from evalkit.stats.votes import FloatArray, IntArray

_BLOCK = 1 << 15  # what a cache holds with its covariates: half the time of longer ones
_FIRST_ROWS = 1 << 16
_FIRST_STEPS = 3
_COLLINEAR = 1e-8
_TINY = float(np.finfo(np.float64).tiny)
_MAX_STEPS = 50
_LAST_STEP = 1e-5  # log-odds; Newton's method then leaves an error of its square


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over the votes at given strengths and coefficients.

    Attributes:
        gradient: Of the penalised log-likelihood, shape (m + k,).
        information: Shape (m + k, m + k), with the penalty.
        meat: Sum of the outer products of the votes' scores, shape (m + k, m + k); None unless asked for.
    """

    gradient: FloatArray
    information: FloatArray
    meat: FloatArray | None


@dataclass(frozen=True, eq=False)
class StyleFit:
    """A maximum of the likelihood.

    Attributes:
        parameters: Strengths with mean 0, then coefficients, log-odds, shape (m + k,).
        bread: Pseudo-inverse of the information, shape (m + k, m + k).
        meat: As in `Sums`, not clustered.
        iterations: Newton steps.
        gradient: Largest absolute derivative, per vote of the model or of all.
        converged: Whether the last step was below 1e-5, so that the error is below about 1e-10.
    """

    parameters: FloatArray
    bread: FloatArray
    meat: FloatArray
    iterations: int
    gradient: float
    converged: bool


@dataclass(frozen=True, eq=False)
class StyleVotes:
    """Votes between rated models, with covariates.

    Attributes:
        models: Number of models m.
        pair: a m + b for model_a a and model_b b, shape (n,).
        score: 1 where a wins, 0 where b wins, 1/2 for a half win, shape (n,).
        x: Covariates, a less b, shape (k, n).
        weight: Vote weights, shape (n,), or None.
        ridge: Penalty: ridge / 2 times the sum of the squared coefficients.
    """

    models: int
    pair: NDArray[np.int32]
    score: NDArray[np.float32]
    x: FloatArray
    weight: FloatArray | None
    ridge: float

    def blocks(self) -> Iterator[slice]:
        """Slices of the votes, not much shorter than the table of pairs that is filled from each."""
        length = max(_BLOCK, self.models**2 // 2)
        return (slice(start, start + length) for start in range(0, len(self.score), length))

    def gaps(self, parameters: FloatArray) -> FloatArray:
        """Difference of the strengths by pair, shape (m m,)."""
        return np.asarray(np.subtract.outer(parameters[: self.models], parameters[: self.models]).ravel())

    def probabilities(
        self, gaps: FloatArray, coefficients: FloatArray, rows: slice
    ) -> tuple[IntArray, FloatArray, FloatArray]:
        """Pairs, log-odds that a wins, and its probability, of some votes."""
        pair = self.pair[rows].astype(np.int64)
        logit = gaps[pair]
        logit += coefficients @ self.x[:, rows]
        p = np.negative(logit)
        with np.errstate(over="ignore"):  # exp overflows to infinity, and the probability is then 0
            np.exp(p, out=p)
        p += 1.0
        return pair, logit, np.reciprocal(p, out=p)

    def sums(self, parameters: FloatArray, meat: bool = False) -> Sums:
        """One pass over the votes.

        Both matrices are sums of v z z', z = (e_a - e_b, x): v = p (1 - p) for the information, (y - p)^2 for the meat.
        """
        m, k = self.models, len(self.x)
        slope_by_pair, slope_of_x = np.zeros(m * m), np.zeros(k)
        outer = [_Outer(m, k) for _ in range(1 + meat)]
        gaps = self.gaps(parameters)
        for rows in self.blocks():
            pair, _, p = self.probabilities(gaps, parameters[m:], rows)
            x, residual = self.x[:, rows], self.score[rows] - p
            np.multiply(p, 1.0 - p, out=p)
            if self.weight is not None:
                p *= self.weight[rows]
                residual *= self.weight[rows]
            slope_by_pair += np.bincount(pair, residual, minlength=m * m)
            slope_of_x += x @ residual
            outer[0].add(pair, x, p)
            if meat:
                outer[1].add(pair, x, np.multiply(residual, residual, out=residual))
        gradient = np.concatenate([_net(slope_by_pair[None], m)[0], slope_of_x - self.ridge * parameters[m:]])
        information = outer[0].matrix()
        information[range(m, m + k), range(m, m + k)] += self.ridge
        return Sums(gradient, information, outer[1].matrix() if meat else None)

    def likelihood(self, parameters: FloatArray) -> float:
        """Penalised log-likelihood: sum of y log p + (1 - y) log(1 - p), less the penalty."""
        total, gaps = 0.0, self.gaps(parameters)
        for rows in self.blocks():
            _, logit, p = self.probabilities(gaps, parameters[self.models :], rows)
            # log(1 - p) = log p - logit; where p is 0 to working precision, log p is the logit itself.
            value = (self.score[rows] - 1.0) * logit + np.where(p > 0, np.log(np.maximum(p, _TINY)), logit)
            total += float(value.sum() if self.weight is None else value @ self.weight[rows])
        return total - self.ridge / 2.0 * float(parameters[self.models :] @ parameters[self.models :])

    def totals(self) -> FloatArray:
        """Weight of the votes that each parameter has a part in, shape (m + k,)."""
        by_pair = np.zeros(self.models**2)
        for rows in self.blocks():
            weight = None if self.weight is None else self.weight[rows]
            by_pair += np.bincount(self.pair[rows], weight, minlength=len(by_pair))
        table = by_pair.reshape(self.models, self.models)
        return np.append(table.sum(axis=0) + table.sum(axis=1), np.full(len(self.x), by_pair.sum()))

    def take(self, columns: list[int]) -> StyleVotes:
        """The same votes with some of the covariates."""
        return replace(self, x=self.x[columns])

    def sample(self) -> StyleVotes:
        """Votes at equal steps, few enough for a first look."""
        step = max(len(self.score) // _FIRST_ROWS, 1)
        weight = None if self.weight is None else self.weight[::step]
        x = np.ascontiguousarray(self.x[:, ::step])
        return replace(self, pair=self.pair[::step], score=self.score[::step], x=x, weight=weight)


class _Outer:
    """Sum of v z z' over votes, z = (e_a - e_b, x)."""

    def __init__(self, models: int, features: int) -> None:
        self.m, self.k = models, features
        self.by_pair, self.crossed = np.zeros(models**2), np.zeros((features, models**2))
        self.corner = np.zeros((features, features))

    def add(self, pair: IntArray, x: FloatArray, v: FloatArray) -> None:
        self.by_pair += np.bincount(pair, v, minlength=self.m**2)
        weighted = x * v
        for sums, row in zip(self.crossed, weighted, strict=True):
            sums += np.bincount(pair, row, minlength=self.m**2)
        self.corner += weighted @ x.T

    def matrix(self) -> FloatArray:
        m = self.m
        pair = self.by_pair.reshape(m, m)
        pair = pair + pair.T
        matrix = np.empty((m + self.k, m + self.k))
        matrix[:m, :m] = np.diag(pair.sum(axis=1)) - pair
        matrix[m:, :m] = _net(self.crossed, m)
        matrix[:m, m:] = matrix[m:, :m].T
        matrix[m:, m:] = self.corner
        return matrix


def _net(by_pair: FloatArray, models: int) -> FloatArray:
    """Sums over the votes for a less those for b, shape (rows, m), from sums by pair, shape (rows, m m)."""
    table = by_pair.reshape(-1, models, models)
    return np.asarray(table.sum(axis=2) - table.sum(axis=1), dtype=np.float64)


def own_covariates(votes: StyleVotes, strength: FloatArray) -> list[int]:
    """Positions of the covariates that neither the models nor the covariates before them explain.

    Their share of information left, 1 - R^2 of the weighted regression on the models and earlier covariates, is above
    rounding. Information only grows with votes, so a sample often settles it.
    """
    place = np.concatenate([strength, np.zeros(len(votes.x))])
    own: list[int] = []
    for those in (votes.sample(), votes):
        try:
            own = _own(replace(those, ridge=0.0).sums(place).information, votes.models)
        except linalg.LinAlgError:  # a sample may leave groups of models without a battle between them
            continue
        if len(own) == len(votes.x):
            break
    return own


def _own(information: FloatArray, m: int) -> list[int]:
    strengths = information[:m, :m] + np.trace(information[:m, :m]) / m**2  # a common shift changes no vote
    left = information[m:, m:] - information[m:, :m] @ linalg.solve(strengths, information[:m, m:], assume_a="pos")
    own = []
    for f in range(len(left)):
        if left[f, f] > _COLLINEAR * information[m + f, m + f]:
            own.append(f)
            left = left - np.outer(left[:, f], left[f]) / left[f, f]
    return own


def fit_style(votes: StyleVotes, strength: FloatArray) -> StyleFit:
    """Maximise the likelihood by Newton's method, from the strengths of a fit without covariates.

    Each pass over the votes costs more than all else, hence as few as can be: no likelihood unless a step overshoots
    by half, and the last pass gives information, meat and the certificate of convergence together.

    Args:
        votes: With covariates that are not collinear.
        strength: Mean 0, shape (m,).
    """
    m = votes.models
    place = np.concatenate([strength, _first_coefficients(votes, strength)])
    state, converged, steps = votes.sums(place), False, 0
    while not converged and steps < _MAX_STEPS:
        step = _solve(state, m)
        if step is None:
            break
        slope, size = float(state.gradient @ step), 1.0
        largest = float(np.abs(step).max())
        converged = largest <= _LAST_STEP
        steps += 1
        if converged:
            place = place + step
            break
        while True:
            ahead = votes.sums(place + size * step)
            overshot = float(ahead.gradient @ step) < -0.5 * slope
            if not overshot or votes.likelihood(place + size * step) >= votes.likelihood(place):
                break
            size /= 2.0
        place, state = place + size * step, ahead
    state = votes.sums(place, meat=True)
    inverse, spare = _inverse(state.information, m), np.zeros_like(state.information)
    certificate = float((np.abs(state.gradient) / votes.totals()).max())
    bread, meat = spare if inverse is None else inverse, spare if state.meat is None else state.meat
    return StyleFit(place, bread, meat, steps, certificate, converged and inverse is not None)


def _inverse(information: FloatArray, m: int) -> FloatArray | None:
    """Pseudo-inverse of the information; None where it is singular to working precision."""
    # Moving all strengths together changes nothing; this term, taken off the inverse again, makes H invertible.
    gauge = float(np.trace(information[:m, :m])) / m
    fixed = information.copy()
    fixed[:m, :m] += gauge / m
    try:
        inverse = linalg.cho_solve(linalg.cho_factor(fixed, lower=True), np.eye(len(fixed)))
    except (linalg.LinAlgError, ValueError):  # the latter where a sum is not finite
        return None
    inverse[:m, :m] -= 1.0 / (m * gauge)
    return np.asarray(inverse, dtype=np.float64)


def _solve(state: Sums, m: int) -> FloatArray | None:
    """The Newton step; None where the information is singular."""
    inverse = _inverse(state.information, m)
    if inverse is None:
        return None
    step = inverse @ state.gradient
    step[:m] -= step[:m].mean()
    return step


def _first_coefficients(votes: StyleVotes, strength: FloatArray) -> FloatArray:
    """Coefficients at given strengths from a part of the votes: a start that saves steps over all of them."""
    part, m = votes.sample(), votes.models
    place = np.zeros(len(votes.x))
    for _ in range(_FIRST_STEPS):
        sums = part.sums(np.concatenate([strength, place]))
        move = np.linalg.lstsq(sums.information[m:, m:], sums.gradient[m:], rcond=None)[0]
        place = place + move / max(1.0, float(np.abs(move).max(initial=0.0)))
    return place


def clustered_meat(votes: StyleVotes, parameters: FloatArray, unit: IntArray) -> FloatArray:
    """Outer products of the scores summed within each unit, shape (m + k, m + k).

    Args:
        votes: The votes.
        parameters: Strengths and coefficients.
        unit: Code of each vote's sampling unit, shape (n,).
    """
    m, units = votes.models, int(unit.max(initial=-1)) + 1
    by_model = sparse.csr_array((units, m))
    by_feature, gaps = np.zeros((units, len(votes.x))), votes.gaps(parameters)
    for rows in votes.blocks():
        pair, _, p = votes.probabilities(gaps, parameters[m:], rows)
        residual = votes.score[rows] - p
        if votes.weight is not None:
            residual *= votes.weight[rows]
        group = unit[rows]
        places = (np.tile(group, 2), np.concatenate([pair // m, pair % m]))
        by_model = by_model + sparse.coo_array((np.concatenate([residual, -residual]), places), (units, m)).tocsr()
        for f, row in enumerate(votes.x[:, rows]):
            by_feature[:, f] += np.bincount(group, row * residual, minlength=units)
    crossed = by_model.T @ by_feature
    strengths = (by_model.T @ by_model).toarray()
    return np.block([[strengths, crossed], [crossed.T, by_feature.T @ by_feature]])
