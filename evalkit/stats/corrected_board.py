"""A judge's Bradley-Terry board corrected with human votes on a few of its battles (PPI++)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse, special
from scipy.sparse import csgraph

from evalkit.errors import UserError
from evalkit.stats.bradley_terry import Fit, fit
from evalkit.stats.corrected_win_rates import judged_battles
from evalkit.stats.correction import check_power, label_warnings, tuned
from evalkit.stats.ranks import critical_value
from evalkit.stats.ratings import ELO, Ratings, bradley_terry
from evalkit.stats.votes import FloatArray, IntArray, list_names

_FEW_VOTES = 10
# Log-odds beyond which a strength is an escape to infinity (a win chance of 1 - 2e-9).
_LARGEST = 20.0


@dataclass(frozen=True, eq=False)
class CorrectedBoard:
    """Ratings as humans would give them; every array has one entry for each model, best first, unrated last.

    Attributes:
        models: Names.
        rating, lower, upper: Corrected, Elo points; NaN and infinite for a model that cannot be placed.
        covariance: Of the corrected ratings, squared Elo points, shape (m, m).
        judge: The judge's own board on all its battles: what a report without correction would print.
        human: The board of the human votes alone.
        votes: Battles with a human verdict each model took part in.
        power: Weight of the judge's verdicts, lambda: 0 leaves them out, 1 is plain prediction-powered inference.
        n: Battles, failures included.
        n_labelled: Battles with a human verdict.
        n_failed: Battles without a readable verdict of the judge.
        df: Degrees of freedom of t: effective number of clusters with a human verdict, less 1.
        converged: Whether Newton's method converged.
        method, ties, reference: In words.
        confidence: Level of the intervals.
        warnings: Sentences.
    """

    models: tuple[str, ...]
    rating: FloatArray
    lower: FloatArray
    upper: FloatArray
    covariance: FloatArray
    judge: Ratings
    human: Ratings
    votes: IntArray
    power: float
    n: int
    n_labelled: int
    n_failed: int
    df: float
    converged: bool
    method: str
    ties: str
    reference: str
    confidence: float
    warnings: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """Columns model, rating, lower, upper, judge, human, each with its limits, votes (humans'); best first."""
        own = {"model": list(self.models), "rating": self.rating, "lower": self.lower, "upper": self.upper}
        frame = pd.DataFrame(own)
        for name, board in (("judge", self.judge), ("human", self.human)):
            other = board.frame().set_index("model")[["rating", "lower", "upper"]]
            other.columns = pd.Index([name, f"{name}_lower", f"{name}_upper"])
            frame = frame.join(other, on="model")
        return frame.assign(votes=self.votes)


@dataclass(frozen=True, eq=False)
class CorrectedStrengths:
    """Strengths on the log-odds scale; what `CorrectedBoard` turns into ratings.

    Attributes:
        strength: Mean 0, shape (m,); NaN where no finite strengths exist.
        covariance: Shape (m, m).
        power: Lambda.
        df: Degrees of freedom of t.
        converged: Whether finite strengths were found.
    """

    strength: FloatArray
    covariance: FloatArray
    power: float
    df: float
    converged: bool


@dataclass(frozen=True, eq=False)
class _Problem:
    """Battles of the models to be rated: first and second model, scores (0 where there is none), who has spoken."""

    first: IntArray
    second: IntArray
    judge: FloatArray
    human: FloatArray
    read: FloatArray
    labelled: FloatArray
    unit: IntArray
    m: int

    @property
    def n(self) -> float:
        return float(self.labelled.sum())

    @property
    def rest(self) -> float:
        return float(len(self.labelled) - self.labelled.sum())

    def wins(self, power: float) -> FloatArray:
        """Pseudo-wins of row over column: the corrected loss is the Bradley-Terry loss of these."""
        weight = self.labelled / self.n
        rectifier = power * self.read * ((1 - self.labelled) / max(self.rest, 1.0) - weight)
        cell = self.first * self.m + self.second
        total = np.bincount(cell, weight + rectifier, minlength=self.m**2)
        score = np.bincount(cell, weight * self.human + rectifier * self.judge, minlength=self.m**2)
        won, lost = score.reshape(self.m, self.m), (total - score).reshape(self.m, self.m)
        return np.asarray(won + lost.T, dtype=np.float64)

    def meat(self, strength: FloatArray, scale: FloatArray | float = 1.0) -> FloatArray:
        """Covariance of (mean human score, mean judge score's rectifier), shape (2m, 2m), clustered.

        Scores are centred among the labelled and among the other battles, since the judge's do not vanish on average,
        and multiplied by `scale`, shape (battles,).
        """
        p = special.expit(strength[self.first] - strength[self.second])
        part = [self.labelled / self.n, (1 - self.labelled) / max(self.rest, 1.0)]
        slopes = [scale * part[0] * (self.human - p), scale * self.read * (self.judge - p) * (part[1] - part[0])]
        columns = [side + shift for shift in (0, self.m) for side in (self.first, self.second)]
        values = [sign * slope for slope in slopes for sign in (1.0, -1.0)]
        rows = np.tile(self.unit, 4)
        shape = (int(self.unit.max()) + 1, 2 * self.m)
        scores = sparse.coo_array((np.concatenate(values), (rows, np.concatenate(columns))), shape=shape).tocsr()
        share = np.stack([np.bincount(self.unit, weight, minlength=shape[0]) for weight in part], axis=1)
        means = np.zeros((2, 2 * self.m))
        for k, mine in enumerate((self.labelled, 1 - self.labelled)):
            for column, value in zip(columns, values, strict=True):
                means[k] += np.bincount(column, value * mine, minlength=2 * self.m)
        cross = np.asarray(scores.T @ share) @ means
        return np.asarray((scores.T @ scores).todense() - cross - cross.T + means.T @ (share.T @ share) @ means)


def ppi_bradley_terry(
    votes: pd.DataFrame,
    judge: str,
    annotators: str,
    *,
    power: float | None = None,
    cluster: str | None = None,
    anchor: str | None = None,
    center: float = 1000.0,
    confidence: float = 0.95,
) -> CorrectedBoard:
    """Bradley-Terry ratings of human preferences from a judge's verdicts on all battles and human ones on a few.

    PPI++ (Angelopoulos, Duchi & Zrnic 2023, "PPI++: Efficient Prediction-Powered Inference") with the Bradley-Terry
    loss: strengths minimise L_n(human) + lambda (L_N(judge) - L_n(judge)), L the mean negative log-likelihood over the
    n battles with a human verdict or the N others. A tie is half a win for each side. Newton's method; covariance
    H^-1 V H^-1, H the corrected loss's second derivative, V the covariance of the labelled battles' mean of s_human -
    lambda s_judge plus that of the others' mean of lambda s_judge: s the scores, centred in each part, divided by 1 -
    their leverage (HC3: MacKinnon & White 1985, J. Econometrics 29:305-325) and summed within clusters. t with the
    effective number (sum n_c)^2 / sum n_c^2 of clusters of n_c human verdicts, less 1. Lambda is the value in 0 .. 1
    with the smallest trace of the covariance.

    The strengths are those of the human board on all battles whatever the judge's errors, as long as the battles that
    humans saw are a random sample of all. A verdict that failed is no prediction: its battle counts and moves nothing.

    Args:
        votes: Judge's and humans' votes (see `battles.battle_labels`); several verdicts of one side on a battle
            count with their mean score.
        judge, annotators: Globs for the judge and for the humans.
        power: lambda, 0 to 1; tuned if None.
        cluster: `item_id` where battles share items; None takes battles as independent.
        anchor: Model whose rating is `center`; the mean of the rated models if None.
        center: Elo points.
        confidence: Level.

    Raises:
        UserError: As `battles.battle_labels`, a glob matches nobody, `cluster` is not a column of battles, lambda
            is out of range, or the anchor is not rated.
    """
    check_power(power)
    data = judged_battles(votes, judge, annotators, cluster)
    warnings = [*data.warnings]
    names, i, j = data.models, data.first, data.second
    seen = ~np.isnan(data.human)
    spoken = np.bincount(np.concatenate([i[seen], j[seen]]), minlength=len(names))
    core, left_out = _comparable(i, j, seen, spoken)
    warnings += label_warnings(len(seen), int(seen.sum()), int(np.isnan(data.judge).sum()))
    if len(left_out):
        text = list_names([names[k] for k in left_out])
        warnings.append(f"Not rated: {text}: no human verdict links them to the other models.")
    few = [names[k] for k in core if spoken[k] < _FEW_VOTES]
    if few:
        warnings.append(f"Fewer than {_FEW_VOTES} human verdicts on {list_names(few)}: rough intervals.")
    rated = [names[k] for k in core]
    if anchor is not None and anchor not in rated:
        raise UserError(f"the anchor model {anchor!r} is not among the rated ones ({list_names(rated) or 'none'}).", 2)
    boards = [
        _board(votes, found, cluster, anchor, center, confidence) for found in (data.judge_names, data.human_names)
    ]
    for who, board in zip(("judge", "humans"), boards, strict=True):
        warnings += [f"Board of the {who} alone: {sentence}" for sentence in board.warnings]
    m = len(core)
    rows = np.isin(i, core) & np.isin(j, core)
    first, second = np.searchsorted(core, i[rows]), np.searchsorted(core, j[rows])
    found = ppi_strengths(first, second, data.judge[rows], data.human[rows], clusters=data.unit[rows], power=power)
    if not found.converged:
        warnings.append("No corrected board: the human verdicts are too few for finite ratings.")
    shift = np.eye(m)
    if anchor is not None:
        shift[:, rated.index(anchor)] -= 1.0
    rating = center + ELO * (shift @ found.strength)
    covariance = ELO**2 * (shift @ found.covariance @ shift.T)
    width = np.array([0.0 if name == anchor else 1.0 for name in rated]) * np.sqrt(np.maximum(np.diag(covariance), 0))
    width = np.where(width > 0, critical_value(confidence, found.df) * width, width)
    everyone = [*core, *left_out]
    padding = np.full(len(left_out), np.nan)
    full = np.concatenate([rating, padding])
    order = np.array(sorted(range(len(everyone)), key=lambda k: (np.isnan(full[k]), -full[k], names[everyone[k]])))
    limits = [np.concatenate([rating + side * width, padding])[order] for side in (-1, 1)]
    spread = np.full((len(full), len(full)), np.nan)
    spread[:m, :m] = covariance
    clusters = f"clustered by {cluster}" if cluster else "battles taken as independent"
    return CorrectedBoard(
        models=tuple(names[everyone[k]] for k in order),
        rating=full[order],
        lower=np.nan_to_num(limits[0], nan=-np.inf, neginf=-np.inf),
        upper=np.nan_to_num(limits[1], nan=np.inf, posinf=np.inf),
        covariance=spread[np.ix_(order, order)],
        judge=boards[0],
        human=boards[1],
        votes=spoken[np.array(everyone)[order]],
        power=found.power,
        n=len(seen),
        n_labelled=int(seen.sum()),
        n_failed=int(np.isnan(data.judge).sum()),
        df=found.df,
        converged=found.converged,
        method=f"Bradley-Terry, PPI++ with lambda {found.power:.2f}, sandwich, {clusters}, {confidence:.0%}",
        ties="half",
        reference=f"{anchor} = {center:g}" if anchor else f"mean of the rated models = {center:g}",
        confidence=confidence,
        warnings=tuple(warnings),
    )


def ppi_strengths(
    first: IntArray,
    second: IntArray,
    judge: FloatArray,
    human: FloatArray,
    *,
    clusters: IntArray | None = None,
    power: float | None = None,
) -> CorrectedStrengths:
    """The fit behind `ppi_bradley_terry`, from arrays.

    Args:
        first, second: Models of each battle as codes 0 .. m - 1, all of them linked by battles with a human verdict;
            shape (battles,).
        judge, human: Scores of the first model, 0 to 1, NaN where there is none, shape (battles,).
        clusters: Codes, shape (battles,); None takes battles as independent.
        power: lambda, 0 to 1; tuned if None.
    """
    m = int(max(first.max(initial=-1), second.max(initial=-1))) + 1
    seen = ~np.isnan(human)
    problem = _Problem(
        first=first,
        second=second,
        judge=np.nan_to_num(judge),
        human=np.nan_to_num(human),
        read=(~np.isnan(judge)).astype(np.float64),
        labelled=seen.astype(np.float64),
        unit=np.arange(len(first)) if clusters is None else np.unique(clusters, return_inverse=True)[1],
        m=m,
    )
    solution, chosen = _solve(problem, power) if m else (None, power or 0.0)
    if solution is None:
        return CorrectedStrengths(np.full(m, np.nan), np.full((m, m), np.nan), chosen, 0.0, False)
    covariance, df = _sandwich(problem, solution, chosen)
    return CorrectedStrengths(solution.strength, covariance, chosen, df, True)


def _comparable(
    i: IntArray, j: IntArray, seen: np.ndarray[tuple[int], np.dtype[np.bool_]], spoken: IntArray
) -> tuple[IntArray, IntArray]:
    """Models to rate (the largest group that battles with a human verdict link), and the others."""
    m = len(spoken)
    graph = sparse.coo_array((np.ones(int(seen.sum())), (i[seen], j[seen])), shape=(m, m))
    _, group = csgraph.connected_components(graph, directed=False)
    size = np.bincount(group, spoken)
    core = np.flatnonzero((group == int(size.argmax())) & (spoken > 0)) if m else np.array([], dtype=np.int64)
    return core, np.setdiff1d(np.arange(m), core)


def _solve(problem: _Problem, power: float | None) -> tuple[Fit | None, float]:
    """The corrected strengths and lambda; None where no finite strengths are found."""
    if not problem.rest:
        power = 0.0  # humans have spoken on every battle
    if power is not None:
        return _finite(problem.wins(power)), power
    # The variance is judged at strengths close to the answer: the humans' where finite, else plain PPI's.
    chosen = 0.0
    solution = _finite(problem.wins(chosen))
    if solution is None:
        chosen = 1.0
        solution = _finite(problem.wins(chosen))
    for _ in range(2):
        if solution is None:
            return None, chosen
        m, meat = problem.m, problem.meat(solution.strength)
        # Variance of human + lambda rectifier; the rectifier's sign makes the best lambda -cross / square.
        bread = solution.bread @ solution.bread
        chosen = tuned(-float(np.trace(bread @ meat[:m, m:])), float(np.trace(bread @ meat[m:, m:])))
        solution = _finite(problem.wins(chosen))
    return solution, chosen


def _finite(wins: FloatArray) -> Fit | None:
    try:
        found = fit(wins, np.zeros(len(wins)))
    except np.linalg.LinAlgError:  # the information vanished on the way to infinity
        return None
    return found if found.converged and np.abs(found.strength).max() < _LARGEST else None


def _sandwich(problem: _Problem, solution: Fit, power: float) -> tuple[FloatArray, float]:
    m, n, bread = problem.m, problem.n, solution.bread
    sizes = np.bincount(problem.unit, problem.labelled)
    i, j = problem.first, problem.second
    p = special.expit(solution.strength[i] - solution.strength[j])
    spread = p * (1 - p) * (bread[i, i] + bread[j, j] - 2 * bread[i, j])
    leverage = problem.labelled / n * (sizes[problem.unit] + (1 - power * problem.read) * spread)
    meat = problem.meat(solution.strength, 1.0 / (1.0 - np.minimum(leverage, 0.9)))
    total = meat[:m, :m] + power * (meat[:m, m:] + meat[m:, :m]) + power**2 * meat[m:, m:]
    effective = float(sizes.sum() ** 2 / (sizes**2).sum())
    return bread @ total @ bread, max(effective - 1.0, 0.0)


def _board(
    votes: pd.DataFrame,
    names: tuple[str, ...],
    cluster: str | None,
    anchor: str | None,
    center: float,
    confidence: float,
) -> Ratings:
    """One side's own board; without the anchor where it cannot be rated there."""
    rows = votes[votes["annotator"].astype(str).isin(names)]
    board = bradley_terry(rows, cluster=cluster, center=center, confidence=confidence)
    if anchor is None or not np.isfinite(
        board.rating[list(board.models).index(anchor)] if anchor in board.models else np.nan
    ):
        return board
    return bradley_terry(rows, cluster=cluster, anchor=anchor, center=center, confidence=confidence)
