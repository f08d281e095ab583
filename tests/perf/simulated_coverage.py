"""Simulated votes whose true ratings are known, and how often intervals contain them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evalkit.stats.bradley_terry import fit
from evalkit.stats.corrected_board import ppi_strengths
from evalkit.stats.correction import ppi_mean, rogan_gladen, shared_power
from evalkit.stats.ranks import critical_value
from evalkit.stats.ratings import ELO, bradley_terry
from evalkit.stats.votes import A_WINS, B_WINS, TIE, FloatArray, IntArray, VoteCounts

MODELS = np.array([f"m{k:02d}" for k in range(8)])
LABELS = 200


@dataclass(frozen=True)
class Coverage:
    """How often intervals contained the truth.

    Attributes:
        name: Which intervals.
        share: Of the intervals, over all models and rounds.
        error: Standard error of the share, from the rounds.
        rounds: Simulations.
        width: Mean width, in the units of the estimate.
    """

    name: str
    share: float
    error: float
    rounds: int
    width: float


class Tally:
    """Intervals seen so far, by name."""

    def __init__(self) -> None:
        self.hits: dict[str, list[float]] = {}
        self.widths: dict[str, list[float]] = {}

    def add(self, name: str, lower: FloatArray, upper: FloatArray, truth: FloatArray) -> None:
        """Count one simulation; a missing interval counts as a miss."""
        self.hits.setdefault(name, []).append(float(((lower <= truth) & (truth <= upper)).mean()))
        self.widths.setdefault(name, []).append(float(np.mean(upper - lower)))

    def coverages(self) -> list[Coverage]:
        return [
            Coverage(
                name,
                float(np.mean(h)),
                float(np.std(h, ddof=1) / np.sqrt(len(h))),
                len(h),
                float(np.mean(self.widths[name])),
            )
            for name, h in self.hits.items()
        ]


def place(models: tuple[str, ...], truth: FloatArray) -> FloatArray:
    """True ratings in the order of a board."""
    return 1000.0 + ELO * truth[[int(name[1:]) for name in models]]


def expected_strengths(win_chance: FloatArray) -> FloatArray:
    """What a Bradley-Terry fit of endless votes on evenly drawn pairs gives, shape (m,)."""
    chance = win_chance.copy()
    np.fill_diagonal(chance, 0.0)
    strength = fit(chance, np.zeros(len(chance))).strength
    return strength - strength.mean()


def iid(rounds: int, seed: int = 0, votes: int = 2000, ties: float = 0.2) -> list[Coverage]:
    """Independent votes, a share of them ties: the sandwich from counts."""
    rng, m = np.random.default_rng(seed), len(MODELS)
    strength = np.linspace(1.0, -1.0, m)
    p = 1 / (1 + np.exp(strength - strength[:, None]))
    truth = expected_strengths((1 - ties) * p + ties / 2)
    pairs = 1.0 - np.eye(m)
    chances = np.zeros((m, m, 4))
    chances[:, :, 0], chances[:, :, 1], chances[:, :, TIE] = (1 - ties) * p, (1 - ties) * (1 - p), ties
    chances *= pairs[:, :, None] / pairs.sum()
    tally = Tally()
    for _ in range(rounds):
        counts = rng.multinomial(votes, chances.ravel()).reshape(chances.shape).astype(np.float64)
        board = bradley_terry(VoteCounts(tuple(MODELS), counts, counts, counts, 0, ()))
        tally.add("independent votes, sandwich", board.lower, board.upper, place(board.models, truth))
    return tally.coverages()


def by_voter(rounds: int, seed: int = 0, voters: int = 250, taste: float = 1.0, tail: float = 1.4) -> list[Coverage]:
    """Voters who vote with very different frequency (Pareto) and each have a taste of their own.

    The truth is the board of endless such voters: of win chances averaged over tastes.
    """
    rng, m = np.random.default_rng(seed), len(MODELS)
    strength = np.linspace(1.0, -1.0, m)
    node, weight = np.polynomial.hermite_e.hermegauss(41)
    gap = (strength[:, None] - strength)[..., None] + np.sqrt(2.0) * taste * node
    truth = expected_strengths(np.asarray((weight / weight.sum() / (1 + np.exp(-gap))).sum(axis=-1)))
    tally = Tally()
    for _ in range(rounds):
        mean = 20.0
        size = np.ceil(mean * (tail - 1) / tail * (1 + rng.pareto(tail, voters))).astype(np.int64)
        voter = np.repeat(np.arange(voters), np.minimum(size, 2000))
        own = strength + rng.normal(0.0, taste, (voters, m))
        i = rng.integers(m, size=len(voter))
        j = (i + rng.integers(1, m, size=len(voter))) % m
        wins = rng.random(len(voter)) < 1 / (1 + np.exp(own[voter, j] - own[voter, i]))
        votes = frame(i, j, wins).assign(annotator=voter)
        for name, cluster in (("heavy-tailed voters, taken as independent", None), ("clustered by voter", "annotator")):
            board = bradley_terry(votes, cluster=cluster)
            tally.add(name, board.lower, board.upper, place(board.models, truth))
    return tally.coverages()


def frame(i: IntArray, j: IntArray, first_wins: NDArray[np.bool_]) -> pd.DataFrame:
    """A votes frame of models by number."""
    columns = {"model_a": pd.Categorical.from_codes(i, MODELS), "model_b": pd.Categorical.from_codes(j, MODELS)}
    return pd.DataFrame({**columns, "winner": np.where(first_wins, "model_a", "model_b")})


@dataclass(frozen=True)
class Judged:
    """Battles with a judge's scores of the first model and, for some, a human's; true strengths and win rates."""

    first: IntArray
    second: IntArray
    item: IntArray
    judge: FloatArray
    human: FloatArray
    strength: FloatArray
    win_rate: FloatArray


def judged(rng: np.random.Generator, m: int, items: int, labelled: int, battles: int) -> Judged:
    """A judge on all battles and humans on those of some items, drawn at random.

    The judge follows what the human would say in six of ten battles and else prefers every second model. With several
    battles an item, items favour models, for judge and humans alike.
    """
    strength, favour = np.linspace(0.8, -0.8, m), 0.7 if battles > 1 else 0.0
    node, weight = np.polynomial.hermite_e.hermegauss(41)
    gap = (strength[:, None] - strength)[..., None] + np.sqrt(2.0) * favour * node
    chance = np.asarray((weight / weight.sum() / (1 + np.exp(-gap))).sum(axis=-1))
    np.fill_diagonal(chance, 0.0)
    n = items * battles
    item = np.repeat(np.arange(items), battles)
    own = strength + rng.normal(0.0, favour, (items, m))
    i = rng.integers(m, size=n)
    j = (i + rng.integers(1, m, size=n)) % m
    human = rng.random(n) < 1 / (1 + np.exp(own[item, j] - own[item, i]))
    loved = np.arange(m) % 2 == 1
    opinion = np.where(loved[i] == loved[j], human, loved[i])
    judge = np.where(rng.random(n) < 0.6, human, opinion).astype(np.float64)
    seen = np.where(item < labelled, human, np.nan)
    return Judged(i, j, item, judge, seen, expected_strengths(chance), chance.sum(axis=1) / (m - 1))


def corrected(
    rounds: int, seed: int = 0, m: int = 6, items: int = 2000, labelled: int = LABELS, battles: int = 1
) -> list[Coverage]:
    """A biased judge on all battles, humans on 200: the naive judge, the humans alone, PPI++.

    Works on arrays, as `ppi_bradley_terry` and `ppi_win_rate` do once they have coded the names.
    """
    rng, tally = np.random.default_rng(seed), Tally()
    for _ in range(rounds):
        world = judged(rng, m, items, labelled, battles)
        unit = world.item if battles > 1 else np.arange(len(world.item))
        truth = world.strength * ELO
        found = ppi_strengths(world.first, world.second, world.judge, world.human, clusters=unit)
        width = ELO * critical_value(0.95, found.df) * np.sqrt(np.diag(found.covariance))
        tally.add("PPI++ board", ELO * found.strength - width, ELO * found.strength + width, truth)
        for name, score in (("judge's board", world.judge), ("humans' board", world.human)):
            board = bradley_terry(counted(world, score), center=0.0)
            order = [int(model[1:]) for model in board.models]
            tally.add(name, board.lower, board.upper, truth[order])
        samples = []
        for model in range(m):
            is_first, rows = world.first == model, (world.first == model) | (world.second == model)
            f, y = (np.where(is_first, score, 1 - score)[rows] for score in (world.judge, world.human))
            samples.append((f, y, np.unique(unit[rows], return_inverse=True)[1]))
        power = shared_power(samples)
        rates = [ppi_mean(f, y, power=power, clusters=codes) for f, y, codes in samples]
        for name, parts in (
            ("PPI++ win rate", rates),
            ("judge's win rate", [rate.judge for rate in rates]),
            ("humans' win rate", [rate.human for rate in rates]),
        ):
            limits = np.array([(part.lower, part.upper) for part in parts])
            tally.add(name, limits[:, 0], limits[:, 1], world.win_rate)
    return tally.coverages()


def calibrated(rounds: int, seed: int = 0, items: int = 2000, labelled: int = LABELS) -> list[Coverage]:
    """A judge that finds nine of ten wins and calls three of ten losses wins, calibrated on 200 human labels."""
    rng, tally, truth = np.random.default_rng(seed), Tally(), np.array([0.4])
    for _ in range(rounds):
        human = rng.random(items) < truth[0]
        judge = (rng.random(items) < np.where(human, 0.9, 0.3)).astype(np.float64)
        found = rogan_gladen(judge, np.where(np.arange(items) < labelled, human, np.nan))
        tally.add("Rogan-Gladen", np.array([found.lower]), np.array([found.upper]), truth)
        tally.add("judge's share", np.array([found.apparent.lower]), np.array([found.apparent.upper]), truth)
    return tally.coverages()


def counted(world: Judged, score: FloatArray) -> VoteCounts:
    """Counts of the battles that have a score."""
    m, rows = len(world.strength), ~np.isnan(score)
    votes = np.zeros((m, m, 4))
    np.add.at(votes, (world.first[rows], world.second[rows], np.where(score[rows] == 1, A_WINS, B_WINS)), 1.0)
    return VoteCounts(tuple(MODELS[:m]), votes, votes, votes, 0, ())
