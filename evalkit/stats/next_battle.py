"""Which pair of models to vote on next, how many votes each pair still needs, and when to stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from evalkit.errors import UserError
from evalkit.stats.elo_scale import ELO
from evalkit.stats.ranks import BoolArray, critical_value, two_sided_p
from evalkit.stats.ratings import Ratings, bradley_terry
from evalkit.stats.vote_plan import pair_variance, plan_votes
from evalkit.stats.votes import Diagnosis, FloatArray, IntArray, VoteCounts

LEVELS = ("pair", "family-wise")


@dataclass(frozen=True, eq=False)
class NextBattles:
    """Pairs to vote on, and what is known of every pair.

    Attributes:
        proposals: The battles to hold next, (model_a, model_b) in the order to show them, most useful first.
        pairs: One row a pair of rated models, the better one first: model_a, model_b, difference (Elo points), se,
            p_wrong (probability that their order is wrong), win_probability (of model_a), score, resolved,
            votes_needed.
        resolved, n_pairs: Pairs told apart, of all.
        unrated: Models without a rating; they are proposed first.
        stop: Whether voting can stop.
        reason: Why, or what is still missing.
        definition: What score, resolved and votes_needed mean.
        diagnoses: Those of the board.
    """

    proposals: tuple[tuple[str, str], ...]
    pairs: pd.DataFrame
    resolved: int
    n_pairs: int
    unrated: tuple[str, ...]
    stop: bool
    reason: str
    definition: str
    diagnoses: tuple[Diagnosis, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """The sentences of the diagnoses."""
        return tuple(diagnosis.sentence for diagnosis in self.diagnoses)

    def frame(self) -> pd.DataFrame:
        """The pairs, those with the highest score first."""
        return self.pairs.sort_values("score", ascending=False, kind="stable", ignore_index=True)


def next_battles(
    board: Ratings | VoteCounts,
    *,
    n: int = 1,
    models: Sequence[str] = (),
    budget: int | None = None,
    width: float | None = None,
    level: str = "pair",
    confidence: float = 0.95,
    seed: int = 0,
) -> NextBattles:
    """Propose the battles whose votes tell most pairs of models apart.

    For each pair with estimated difference d (log-odds), its standard error SE and p = 1 / (1 + exp(-d)):

        score = P(order is wrong) SE p (1 - p),    P(order is wrong) = Phi(-|d| / SE),

    p (1 - p) the information of one vote. A pair is resolved when |d| / SE reaches the critical value c of `level`; v
    more votes on it make 1 / SE^2 grow by v p (1 - p) (Sherman & Morrison 1950, Ann. Math. Statist. 21:124-127), so it
    needs ((c / |d|)^2 - 1 / SE^2) / (p (1 - p)) more if d stays as it is.

    The score of a pair says nothing of the other pairs that a vote on it informs, and near-equal models would take all
    votes. So the votes left are spread over the pairs such that most pairs can be expected to be told apart by them
    (`evalkit.stats.vote_plan.plan_votes`), and those proposed are the n that the plan gives most: each goes to the pair
    with the greatest planned / (2 proposed + 1) (Sainte-Lague's rule). The plan counts on `budget` votes, without one
    on as many as the board has, and on n at least. Ask again after each batch: the plan is made for what is known then.
    Where no pair can be told apart within the budget if its difference stays as it is, the unresolved pair with the
    highest score is proposed, each proposal taken as voted on for the next: the information of a vote does not depend
    on its outcome.

    Ties are broken, and the two answers' order is drawn, at random by the seed. Models without a rating (new ones, or
    without a common opponent) come first, against the model with fewest votes.

    Args:
        board: Ratings, best those with a prior; or counts, which are rated with `prior="empirical-bayes"`.
        n: Battles to propose.
        models: Further models that may have no votes yet.
        budget: Votes that can still be had; None for no bound.
        width: Stop as well once every rating's interval is at most this wide, Elo points.
        level: `pair` (each pair at `confidence`) or `family-wise` (all pairs together, Bonferroni).
        confidence: Of telling a pair apart.
        seed: Of the random choices.

    Raises:
        UserError: A number is out of range, an unknown level, or fewer than two models.
    """
    _check(n, budget, width, level, confidence)
    rated = bradley_terry(board, prior="empirical-bayes") if isinstance(board, VoteCounts) else board
    rng = np.random.default_rng(seed)
    placed = np.flatnonzero(np.isfinite(rated.rating) & np.isfinite(np.diag(rated.covariance)))
    names = [rated.models[i] for i in placed]
    unrated = [name for name in dict.fromkeys([*rated.models, *models]) if name not in names]
    if len(names) + len(unrated) < 2:
        raise UserError(f"a battle needs two models; there is {len(names) + len(unrated)}.")
    m = len(names)
    strength = rated.rating[placed] / ELO
    covariance = rated.covariance[np.ix_(placed, placed)] / ELO**2
    pairs = max(m * (m - 1) // 2, 1)
    critical = critical_value(confidence if level == "pair" else 1.0 - (1.0 - confidence) / pairs, rated.df)
    state = _State(strength, covariance, critical, budget, rated.df)
    table = state.table(names)
    proposals = _first_meetings(rated, names, unrated, n, rng)
    horizon = max(float(rated.votes.sum()) / 2.0 if budget is None else budget, n)
    for i, j in state.battles(n - len(proposals), horizon, rng):
        pair = (names[i], names[j])
        proposals.append(pair if rng.random() < 0.5 else pair[::-1])
    resolved = int(table["resolved"].sum())
    stop, reason = _stop(table, rated, placed, unrated, budget, width)
    words = f"{confidence:.0%} for each pair" if level == "pair" else f"{confidence:.0%} for all pairs together"
    return NextBattles(
        proposals=tuple(proposals),
        pairs=table,
        resolved=resolved,
        n_pairs=len(table),
        unrated=tuple(unrated),
        stop=stop,
        reason=reason,
        definition=(
            "score = P(order is wrong) x standard error (log-odds) x p (1 - p); resolved: the difference is beyond "
            f"{critical:.2f} standard errors ({words}); votes_needed: on this pair until then, if the difference stays "
            "as it is"
        ),
        diagnoses=rated.diagnoses,
    )


class _State:
    """Strengths of the rated models, best first, and their covariance as votes are added."""

    def __init__(
        self, strength: FloatArray, covariance: FloatArray, critical: float, budget: int | None, df: float
    ) -> None:
        self.strength, self.gap = strength, np.abs(np.subtract.outer(strength, strength))
        p = special.expit(self.gap)
        self.information = p * (1.0 - p)
        self.covariance, self.critical, self.df = covariance, critical, df
        self.resolved = self.statistic() >= critical
        needed = self.needed()
        self.open: BoolArray = ~self.resolved & (needed <= (np.inf if budget is None else budget)) & np.isfinite(needed)
        np.fill_diagonal(self.open, False)

    def variance(self) -> FloatArray:
        variance = np.maximum(pair_variance(self.covariance), np.finfo(np.float64).tiny)
        np.fill_diagonal(variance, np.inf)
        return variance

    def statistic(self) -> FloatArray:
        return np.asarray(self.gap / np.sqrt(self.variance()), dtype=np.float64)

    def needed(self) -> FloatArray:
        """Votes on each pair until it is resolved; infinite where the estimated difference is 0."""
        with np.errstate(divide="ignore"):
            wanted = (self.critical / self.gap) ** 2
        return np.where(self.resolved, 0.0, np.ceil((wanted - 1.0 / self.variance()) / self.information))

    def score(self) -> FloatArray:
        error = np.sqrt(self.variance())
        np.fill_diagonal(error, 0.0)
        wrong = two_sided_p(self.statistic(), self.df) / 2.0
        return np.asarray(np.where(self.resolved, 0.0, wrong * error * self.information), dtype=np.float64)

    def battles(self, n: int, votes: float, rng: np.random.Generator) -> list[tuple[int, int]]:
        """The next n, of `votes` left; see `next_battles`."""
        first, second = np.triu_indices(len(self.gap), 1)
        planned = self.open.any()
        if n > 0 and planned:
            plan = plan_votes(self.strength, self.covariance, self.critical, self.resolved, votes)[first, second]
        given = np.zeros(len(first))
        chosen: list[tuple[int, int]] = []
        while len(chosen) < n:
            claim = plan / (2.0 * given + 1.0) if planned else self.score()[first, second]
            if not claim.max(initial=0.0) > 0:
                break
            pair = int(rng.choice(np.flatnonzero(claim >= claim.max() * (1.0 - 1e-9))))
            given[pair] += 1.0
            chosen.append((int(first[pair]), int(second[pair])))
            if not planned:
                self.add_vote(*chosen[-1])
        return chosen

    def add_vote(self, i: int, j: int) -> None:
        """One more vote between two models, whoever wins it."""
        moved = self.covariance[:, i] - self.covariance[:, j]
        w = self.information[i, j]
        self.covariance = self.covariance - np.outer(moved, moved) * (w / (1.0 + w * (moved[i] - moved[j])))

    def table(self, names: Sequence[str]) -> pd.DataFrame:
        first, second = np.triu_indices(len(names), 1)
        at = (first, second)
        label = np.array(names, dtype=object)
        wrong = two_sided_p(self.statistic(), self.df) / 2.0
        return pd.DataFrame(
            {
                "model_a": label[first],
                "model_b": label[second],
                "difference": ELO * self.gap[at],
                "se": ELO * np.sqrt(self.variance()[at]),
                "p_wrong": wrong[at],
                "win_probability": special.expit(self.gap[at]),
                "score": self.score()[at],
                "resolved": self.resolved[at],
                "votes_needed": self.needed()[at],
            }
        )


def _first_meetings(
    rated: Ratings, names: Sequence[str], unrated: Sequence[str], n: int, rng: np.random.Generator
) -> list[tuple[str, str]]:
    """At least one battle for each model without a rating, against the others with the fewest votes so far."""
    votes = dict(zip(rated.models, rated.votes.tolist(), strict=True))
    held: dict[str, int] = dict.fromkeys([*names, *unrated], 0)
    found: list[tuple[str, str]] = []
    while len(found) < n and (waiting := [name for name in unrated if not names or held[name] == 0]):
        one = _fewest(waiting, held, votes, rng)
        other = _fewest([name for name in (names or unrated) if name != one], held, votes, rng)
        found.append((one, other) if rng.random() < 0.5 else (other, one))
        held[one] += 1
        held[other] += 1
    return found


def _fewest(names: Sequence[str], held: dict[str, int], votes: dict[str, int], rng: np.random.Generator) -> str:
    load: IntArray = np.array([held[name] + votes.get(name, 0) for name in names], dtype=np.int64)
    return names[int(rng.choice(np.flatnonzero(load == load.min())))]


def _stop(
    table: pd.DataFrame,
    rated: Ratings,
    placed: IntArray,
    unrated: Sequence[str],
    budget: int | None,
    width: float | None,
) -> tuple[bool, str]:
    """Whether to stop, and a sentence."""
    if unrated:
        return False, f"{len(unrated)} models have no rating yet."
    left = table[~table["resolved"]]
    if left.empty:
        return True, f"All {len(table)} pairs are told apart."
    widest = float((rated.upper - rated.lower)[placed].max())
    if width is not None and widest <= width:
        return True, f"Every interval is at most {width:g} Elo points wide (the widest {widest:.0f})."
    least = float(left["votes_needed"].min())
    if budget is not None and least > budget:
        votes = f"about {least:.0f} votes" if np.isfinite(least) else "more votes than can be said"
        return (
            True,
            f"None of the {len(left)} pairs left can be told apart within {budget} votes: the nearest needs {votes}.",
        )
    nearest = f"; the nearest needs about {least:.0f} votes" if np.isfinite(least) else ""
    return False, f"{len(left)} of {len(table)} pairs are not told apart{nearest}."


def _check(n: int, budget: int | None, width: float | None, level: str, confidence: float) -> None:
    if n < 1:
        raise UserError(f"{n} battles were asked for; at least 1 is needed.", code=2)
    if budget is not None and budget < 0:
        raise UserError(f"the budget is {budget} votes; it must be 0 or more.", code=2)
    if width is not None and not width > 0:
        raise UserError(f"the width is {width:g} Elo points; it must be positive.", code=2)
    if level not in LEVELS:
        raise UserError(f"the level is {level!r}; it must be one of {', '.join(LEVELS)}.", code=2)
    if not 0.0 < confidence < 1.0:
        raise UserError(f"the confidence is {confidence}; it must lie between 0 and 1, such as 0.95.", code=2)
