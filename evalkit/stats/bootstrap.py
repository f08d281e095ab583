"""The Poisson bootstrap of a board, on its counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from evalkit.errors import UserError
from evalkit.stats.bradley_terry import Fit, fit, strongly_connected, win_matrix
from evalkit.stats.estimate import block, tie_matrix
from evalkit.stats.ties import TieModel, fit_ties
from evalkit.stats.votes import Diagnosis, FloatArray, IntArray, VoteCounts

MIN_ROUNDS = 1_000

_TOLERANCE = 1e-9  # log-odds: the step at which a round has converged
_MAX_STEPS = 30
_QUANTILES = 1 << 16
_BLOCK = 2_000_000  # numbers drawn at once
_CACHED = 50_000  # numbers worked on at once


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Estimates from resampled votes.

    Attributes:
        strength: Log-odds units, mean 0, shape (rounds, m); NaN where the resampled votes have no finite maximum.
        tie: Tie parameter on the scale of the fit, shape (rounds,); 0 without one.
        n_undefined: Rounds without a finite maximum, such as one in which a model lost every battle.
        gradient: Largest absolute derivative of the log-likelihood, per vote of the model, over the defined rounds.
        steps: Most steps a round took.
    """

    strength: FloatArray
    tie: FloatArray
    n_undefined: int
    gradient: float
    steps: int

    @property
    def defined(self) -> NDArray[np.bool_]:
        """Which rounds have a maximum, shape (rounds,)."""
        return np.asarray(np.isfinite(self.strength).all(axis=1) & np.isfinite(self.tie))

    @property
    def words(self) -> str:
        """The method, for printing beside the intervals."""
        rounds = f"{len(self.strength):,} rounds"
        return f"Poisson bootstrap of the counts, {rounds}, bias-corrected percentiles, votes taken as independent"

    @property
    def doubts(self) -> list[Diagnosis]:
        """What the reader must know first."""
        if not self.n_undefined or not self.strength.shape[1]:
            return []
        sentence = (
            f"{self.n_undefined} of {len(self.strength)} bootstrap rounds have no finite maximum (a model lost or won "
            "every battle): they count as outside the intervals. Few votes: consider a prior."
        )
        return [Diagnosis("undefined_rounds", sentence, (), self.n_undefined)]

    def covariance(self, tie: bool) -> FloatArray:
        """Of the strengths over the defined rounds, (m, m), with the tie parameter last if `tie`; 0 with under two."""
        values = np.column_stack([self.strength, self.tie]) if tie else self.strength
        values = values[self.defined]
        values = values - values.mean(axis=0) if len(values) else values
        return np.asarray(values.T @ values / max(len(values) - 1, 1))


def bootstrap_strengths(
    counts: VoteCounts,
    core: IntArray,
    half: list[int],
    drawn: list[int],
    fitted: Fit,
    tie_model: TieModel | None = None,
    *,
    rounds: int = MIN_ROUNDS,
    seed: int = 0,
) -> Bootstrap:
    """Refit the strengths to votes resampled as counts.

    Giving every vote an independent Poisson(1) weight is the bootstrap with a random number of votes (Hanley &
    MacGibbon 2006, Comput. Methods Programs Biomed. 83:57-62); the weights of the n votes in one cell (winner, loser)
    add up to Poisson(n), so no vote is drawn one by one. Weighted votes, with sums W of the weights and V of their
    squares in a cell, are drawn as V / W times Poisson(W^2 / V), which has their mean and variance. Counts are read
    off 65,536 equally likely quantiles of the distribution where many cells share it.

    Every round is solved until its step is below 1e-9: from the full votes' strengths and with their inverse
    information as preconditioner, all rounds at once; a round for which that takes over 30 steps, and every round of a
    tie model, by Newton's method on its own.

    Args:
        counts: Votes.
        core: Positions of the rated models, m of them.
        half: Outcomes that are half a win each way.
        drawn: Outcomes that are ties of `tie_model`.
        fitted: The fit to all votes of the core.
        tie_model: Davidson or Rao-Kupper.
        rounds: Resamples, at least 1,000: percentiles of fewer are mostly noise.
        seed: Of the draws.

    Raises:
        UserError: Fewer than 1,000 rounds.
    """
    if rounds < MIN_ROUNDS:
        raise UserError(f"a bootstrap interval needs {MIN_ROUNDS:,} rounds or more, not {rounds}.", code=2)
    m = len(core)
    strength, tie = np.full((rounds, m), np.nan), np.zeros(rounds)
    gradient, steps = 0.0, 0
    if not m:
        return Bootstrap(strength, tie, rounds, gradient, steps)
    cells = _Cells(counts, core, half, drawn, seed)
    size = max(1, min(rounds, _BLOCK // m**2))
    for start in range(0, rounds, size):
        rows = slice(start, min(start + size, rounds))
        wins, tied = cells.draw(rows.stop - rows.start)
        if tie_model is None:
            strength[rows], largest, taken = _solve(wins, fitted)
        else:
            strength[rows], tie[rows], largest, taken = _solve_ties(wins, tied, tie_model, fitted)
        gradient, steps = max(gradient, largest), max(steps, taken)
    undefined = int((~(np.isfinite(strength).all(axis=1) & np.isfinite(tie))).sum())
    return Bootstrap(strength, tie, undefined, gradient, steps)


def percentile_limits(values: FloatArray, estimate: FloatArray, confidence: float) -> tuple[FloatArray, FloatArray]:
    """Bias-corrected percentile limits (Efron 1981, Canad. J. Statist. 9:139-172).

    The limits are the quantiles Phi(2 z0 -+ z) of the rounds, z0 = Phi^-1(share of rounds below the estimate). A round
    without a value counts as below the lower limit and above the upper one, so leaving it out cannot narrow an
    interval; where such rounds fill a tail, the limits are infinite.

    Args:
        values: Shape (rounds, m); a row of NaN has no value.
        estimate: Shape (m,).
        confidence: Of the interval.

    Returns:
        Lower and upper limits, each of shape (m,).
    """
    rounds = len(values)
    defined = np.sort(values[np.isfinite(values).all(axis=1)], axis=0)
    missing = rounds - len(defined)
    if not len(defined):
        return np.full(len(estimate), -np.inf), np.full(len(estimate), np.inf)
    below = ((defined < estimate).mean(axis=0) + (defined <= estimate).mean(axis=0)) / 2.0
    bias = special.ndtri(np.clip(below, 1.0 / rounds, 1.0 - 1.0 / rounds))
    z = special.ndtri(0.5 + confidence / 2.0)
    column = np.arange(len(estimate))
    low = np.floor(special.ndtr(2.0 * bias - z) * (rounds + 1)).astype(np.int64) - 1 - missing
    high = np.ceil(special.ndtr(2.0 * bias + z) * (rounds + 1)).astype(np.int64) - 1
    lower = np.where(low >= 0, defined[np.maximum(low, 0), column], -np.inf)
    upper = np.where(high < len(defined), defined[np.minimum(high, len(defined) - 1), column], np.inf)
    return lower, upper


class _Cells:
    """The cells that hold votes, ordered by their Poisson mean, so that equal ones are drawn together."""

    def __init__(self, counts: VoteCounts, core: IntArray, half: list[int], drawn: list[int], seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.models = len(core)
        weight, squared = (block(plane, core) for plane in (counts.weight, counts.weight_squared))
        sums, variances = (
            np.stack([win_matrix(plane, []), *(np.triu(tie_matrix(plane, kinds)) for kinds in (half, drawn))]).ravel()
            for plane in (weight, squared)
        )
        held = np.flatnonzero(sums > 0)
        mean = sums[held] ** 2 / variances[held]
        order = np.argsort(mean, kind="stable")
        self.cell, self.mean = held[order], mean[order]
        self.unit = (variances[held] / sums[held])[order]
        _, first = np.unique(self.mean, return_index=True)
        self.groups = [slice(a, b) for a, b in zip(first, [*first[1:], len(held)], strict=True)]
        self.tables: dict[float, NDArray[np.float32]] = {}

    def draw(self, rounds: int) -> tuple[FloatArray, FloatArray]:
        """Win matrices with half wins, and matrices of ties, each of shape (rounds, m, m)."""
        m = self.models
        votes = np.empty((rounds, len(self.cell)))
        rest = []
        for group in self.groups:
            if (group.stop - group.start) * MIN_ROUNDS < _QUANTILES:
                rest.append(np.arange(group.start, group.stop))
                continue
            place = np.frombuffer(self.rng.bytes(2 * rounds * (group.stop - group.start)), dtype=np.uint16)
            votes[:, group] = self._table(float(self.mean[group.start])).take(place).reshape(rounds, -1)
        if rest:
            columns = np.concatenate(rest)
            votes[:, columns] = self.rng.poisson(self.mean[columns], size=(rounds, len(columns)))
        if (self.unit != 1.0).any():
            votes *= self.unit
        planes = np.zeros((rounds, 3 * m * m))
        for plane, own in zip(planes, votes, strict=True):
            plane[self.cell] = own
        wins, half, tied = (planes[:, k * m * m : (k + 1) * m * m].reshape(rounds, m, m) for k in range(3))
        if half.any():
            half /= 2.0
            wins = wins + half + half.transpose(0, 2, 1)
        return wins, tied + tied.transpose(0, 2, 1) if tied.any() else tied

    def _table(self, mean: float) -> NDArray[np.float32]:
        """The quantiles; small, so that a cache holds them."""
        if mean not in self.tables:
            top = int(mean + 10.0 * np.sqrt(mean) + 20.0)
            ends = np.rint(_QUANTILES * special.pdtr(np.arange(top), mean)).astype(np.int64)
            self.tables[mean] = np.repeat(np.arange(top, dtype=np.float32), np.diff(ends, prepend=0))
        return self.tables[mean]


def _solve(wins: FloatArray, fitted: Fit) -> tuple[FloatArray, float, int]:
    """Maximise every round's likelihood; returns strengths, the largest relative gradient and the most steps."""
    rounds, m, _ = wins.shape
    strength = np.full((rounds, m), np.nan)
    edges = wins > 0
    union = np.asarray(edges.any(axis=0))
    # Most rounds of a dense board have every edge there is; those need no search.
    defined = (edges == union).all(axis=(1, 2)) & strongly_connected(union)
    for k in np.flatnonzero(~defined):
        defined[k] = strongly_connected(edges[k])
    gradients, most = np.zeros(rounds), 0
    size = max(1, _CACHED // m**2)
    for start in range(0, rounds, size):
        rows = start + np.flatnonzero(defined[start : start + size])
        if not len(rows):
            continue
        own = wins[rows]
        found, gradient, converged, steps = _shared_newton(own, fitted)
        for k in np.flatnonzero(~converged):
            alone = fit(own[k], fitted.strength)
            found[k], gradient[k] = alone.strength if alone.converged else np.nan, alone.gradient
            steps = max(steps, _MAX_STEPS + alone.iterations)
        strength[rows], gradients[rows], most = found, gradient, max(most, steps)
    return strength, float(gradients[np.isfinite(strength[:, 0])].max(initial=0.0)), most


def _shared_newton(wins: FloatArray, fitted: Fit) -> tuple[FloatArray, FloatArray, NDArray[np.bool_], int]:
    won, battles = wins.sum(axis=2), wins + wins.transpose(0, 2, 1)
    total = battles.sum(axis=2)
    strength = np.tile(fitted.strength, (len(wins), 1))
    share = np.empty_like(wins)

    def gradient_at(strength: FloatArray) -> FloatArray:
        odds = np.exp(strength)
        np.add(odds[:, :, None], odds[:, None, :], out=share)
        np.divide(battles, share, out=share)
        return np.asarray(won - odds * share.sum(axis=2), dtype=np.float64)

    gradient, steps = gradient_at(strength), 0
    converged = np.zeros(len(wins), dtype=np.bool_)
    while not converged.all() and steps < _MAX_STEPS:
        step = gradient @ fitted.bread
        strength += step
        gradient = gradient_at(strength)
        largest = np.abs(step).max(axis=1)
        converged = largest <= _TOLERANCE
        steps += 1
        if not (largest < 10.0).all():
            break
    return strength, np.asarray((np.abs(gradient) / total).max(axis=1)), converged, steps


def _solve_ties(
    wins: FloatArray, tied: FloatArray, model: TieModel, fitted: Fit
) -> tuple[FloatArray, FloatArray, float, int]:
    strength, tie = np.full(wins.shape[:2], np.nan), np.zeros(len(wins))
    gradient, steps = 0.0, 0
    for k, (won, drawn) in enumerate(zip(wins, tied, strict=True)):
        if not strongly_connected(won + drawn > 0):
            continue
        found = fit_ties(won, drawn, model, fitted.strength)
        if found.fit.converged:
            strength[k], tie[k] = found.fit.strength, found.tie
            gradient, steps = max(gradient, found.fit.gradient), max(steps, found.fit.iterations)
    return strength, tie, gradient, steps
