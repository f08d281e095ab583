"""How many votes the next-battle policy saves on simulated voters: `python tests/perf/next_battle.py [--seeds 8]`.

Uniform sampling draws every battle from all pairs alike; the policy asks `next_battles` before each batch. Both are
rated alike, and a pair counts as resolved by the same rule. The ratio is the votes after which the policy has resolved
as many pairs as uniform sampling with all of its votes, by that number; from the mean curves over the seeds. The goal
is 65 % or less; ends with 1 where a setting misses it. The policy was chosen on the seeds 0 to 7, so others are the
default. The short form is in tests/stats/test_next_battle.py.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evalkit.stats.bradley_terry import win_probability
from evalkit.stats.next_battle import next_battles
from evalkit.stats.votes import A_WINS, B_WINS, VoteCounts

GOAL = 0.65


@dataclass(frozen=True)
class Curve:
    """Pairs resolved after each batch, and how many of them in the wrong order; shape (batches,)."""

    votes: NDArray[np.int64]
    resolved: NDArray[np.int64]
    wrong: NDArray[np.int64]


def simulate(policy: bool, seed: int, models: int, spread: float, votes: int, batch: int, level: str) -> Curve:
    """One board from its first vote on.

    Args:
        policy: Ask `next_battles`, or draw uniformly.
        seed: Of the models' strengths and the voters.
        models: Number of models.
        spread: Standard deviation of their strengths, log-odds.
        votes: In all.
        batch: Votes between two refreshes, as by so many voters at once.
        level: As in `next_battles`.
    """
    strength = np.sort(np.random.default_rng(seed).normal(0.0, spread, models))[::-1]
    names = tuple(f"m{k:02d}" for k in range(models))
    rng, chance = np.random.default_rng(seed + 10_000), win_probability(strength)
    counts = np.zeros((models, models, 4))
    proposals: tuple[tuple[str, str], ...] = ()
    curve: list[tuple[int, int, int]] = []
    for done in range(0, votes, batch):
        n = min(batch, votes - done)
        i = rng.integers(models, size=n)
        j = (i + rng.integers(1, models, size=n)) % models
        if policy and proposals:
            asked = np.array([(int(a[1:]), int(b[1:])) for a, b in proposals])
            i, j = asked[np.arange(n) % len(asked)].T
        a_wins = rng.random(n) < chance[i, j]
        np.add.at(counts, (i, j, np.where(a_wins, A_WINS, B_WINS)), 1.0)
        left = votes - done - n
        board = VoteCounts(names, counts, counts, counts, 0, ())
        found = next_battles(board, n=batch if policy else 1, budget=max(left, 1), level=level, seed=seed + done)
        proposals = found.proposals
        table = found.pairs[found.pairs["resolved"]]
        wrong = int((table["model_a"] > table["model_b"]).sum())  # names are in the order of the true strengths
        curve.append((done + n, found.resolved, wrong))
        if policy and not proposals:
            break
    return Curve(*np.array(curve).T)


def votes_saved(
    seeds: range, models: int, spread: float, votes: int, batch: int, level: str
) -> tuple[float, float, float, float, float]:
    """The ratio (infinite where the policy never gets there), pairs resolved by each, wrongly ordered ones by each."""
    curves = [[simulate(p, s, models, spread, votes, batch, level) for s in seeds] for p in (False, True)]
    length = len(curves[0][0].votes)
    mean = [
        np.mean([np.pad(c.resolved, (0, length - len(c.resolved)), "edge") for c in some], axis=0) for some in curves
    ]
    reached = np.flatnonzero(mean[1] >= mean[0][-1])
    ratio = curves[0][0].votes[reached[0]] / votes if len(reached) else np.inf
    wrong = [float(np.mean([c.wrong[-1] for c in some])) for some in curves]
    return float(ratio), float(mean[0][-1]), float(mean[1][-1]), wrong[0], wrong[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=100)
    given = parser.parse_args()
    print(f"{given.seeds} seeds; resolved and wrong: pairs at the end, uniform / policy")
    print(f"{'models':>7}{'spread':>8}{'votes':>7}{'level':>13}{'ratio':>8}{'resolved':>18}{'wrong':>13}{'CPU s':>7}")
    missed = 0
    for models, spread, votes, level in (
        (10, 0.8, 1500, "pair"),
        (20, 0.8, 4000, "pair"),
        (20, 1.2, 4000, "pair"),
        (20, 0.5, 6000, "pair"),
        (12, 0.8, 3000, "family-wise"),
        (20, 0.8, 8000, "family-wise"),
    ):
        start = time.process_time()
        ratio, plain, ours, plain_wrong, wrong = votes_saved(
            range(given.first_seed, given.first_seed + given.seeds), models, spread, votes, max(votes // 60, 1), level
        )
        over = ratio > GOAL
        missed += over
        print(
            f"{models:7}{spread:8}{votes:7}{level:>13}{ratio:8.2f}{f'{plain:.1f} / {ours:.1f}':>18}"
            f"{f'{plain_wrong:.1f} / {wrong:.1f}':>13}{time.process_time() - start:7.1f}"
            f"{'  over the goal' if over else ''}",
            flush=True,
        )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
