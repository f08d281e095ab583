"""What the adaptive jury saves on recorded verdicts: `python tests/perf/adaptive_jury.py [--shares .3 .5] [--quick]`.

For each jury and each budget (a share of its requests): Spearman's rho between the board of the adaptive jury and the
board of the whole jury, with its interval (bootstrap over models, `stats.correlation`); once with the policy's own
board (expected scores), once with the board of its labels. Beside it the same number of requests spent at random (any
member, any battle; the votes cast make the verdict), and on battles drawn at random (each judged by the whole jury);
means of five draws. All boards are the same Bradley-Terry fit. The goal is 0.99 for half the requests.

Jurors computed from the texts ask nobody: their verdicts are known from the start and are no requests.

Ends with 1 where the simulated arena or LLMFAO's weighted juries miss the goal. The short form is in
tests/judges/test_adaptive.py.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from recorded_juries import Recorded, llmfao, mt_bench
from scipy import special, stats

from evalkit.stats import correlation
from evalkit.stats.bradley_terry import fit
from evalkit.stats.juries import majority, weighted_labels
from evalkit.stats.stacking import stacked_weights
from judges.adaptive import AdaptiveJury, AdaptiveVerdicts, Member, Rule

GOAL = 0.99
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Arena:
    """Recorded verdicts and how the whole jury votes; the first `paid` members are those that requests go to."""

    name: str
    pairs: Ints
    labels: Ints
    members: tuple[Member, ...]
    rule: Rule = "majority"
    weights: tuple[float, ...] | None = None
    paid: int = 5

    @property
    def requests(self) -> int:
        return self.paid * len(self.pairs)

    def whole(self, labels: Ints) -> Ints:
        """The jury's labels from the votes cast; -1 without any."""
        if self.weights is None:
            return majority(labels, tie=2, n_labels=3).label
        label = weighted_labels(labels, 3, np.array(self.weights))[0]
        return np.where((labels < 0).all(axis=1), -1, np.where(label < 0, 2, label))

    def board(self, label: Ints) -> Floats:
        """Strengths from labels, a tie half a win each; the policy's prior, so that every model has a rating."""
        m = int(self.pairs.max()) + 1
        rows = label >= 0
        (i, j), score = self.pairs[rows].T, np.array([1.0, 0.0, 0.5])[label[rows]]
        wins = np.bincount(i * m + j, score, minlength=m * m) + np.bincount(j * m + i, 1 - score, minlength=m * m)
        return fit(wins.reshape(m, m) + 1e-9 * (1 - np.eye(m)), None, 0.5).strength


def simulated(seed: int, battles: int = 4000, models: int = 40) -> Arena:
    """Five independent members, right on 85, 75, 70, 65 and 60 % of the battles; 15 % ties among even ones."""
    rng = np.random.default_rng(seed)
    strength = rng.normal(0.0, 1.0, models)
    i = rng.integers(models, size=battles)
    j = (i + rng.integers(1, models, size=battles)) % models
    p = special.expit(strength[i] - strength[j])
    tie, draw = 0.6 * p * (1 - p), rng.random(battles)
    truth = np.where(draw < p - tie / 2, 0, np.where(draw < 1 - tie / 2, 1, 2))
    right = rng.random((battles, 5)) < [0.85, 0.75, 0.7, 0.65, 0.6]
    labels = np.where(right, truth[:, None], (truth[:, None] + rng.integers(1, 3, (battles, 5))) % 3)
    members = tuple(Member(f"m{k}") for k in range(5))
    return Arena(f"simulated ({models} models, seed {seed})", np.stack([i, j], axis=1), labels, members)


def recorded(data: Recorded, names: Sequence[str], weighted: bool = False) -> Arena:
    """Some of the recorded judges; their weights, where asked for, learned from all of the crowd's votes."""
    columns = [data.judges.index(name) for name in names]
    labels, weights = data.labels[:, columns], None
    if weighted:
        weights = tuple(stacked_weights(labels, data.truth, n_labels=3).weight.tolist())
    name = f"{len(data.models)} models, {' + '.join(names)}"
    guess = tuple(Member(judge, 1.0, 0.75 if judge == "gpt4" else 0.6) for judge in names)
    paid = sum(judge.startswith("gpt") for judge in names)
    return Arena(name, data.pairs, labels, guess, "weighted" if weighted else "majority", weights, paid)


def drive(
    arena: Arena, budget: int | None, *, settled: float = 0.95, batch: int = 64, seed: int = 0
) -> tuple[AdaptiveVerdicts, int]:
    """Answers the policy's questions out of the record; the verdicts, and the requests it took."""
    jury = AdaptiveJury(
        arena.pairs, arena.members, settled=settled, budget=budget, rule=arena.rule, weights=arena.weights, seed=seed
    )
    for member in range(arena.paid, len(arena.members)):
        for battle in range(len(arena.pairs)):
            jury.tell(battle, member, int(arena.labels[battle, member]))
    while asks := jury.next_asks(batch):
        for battle, member in asks:
            jury.tell(battle, member, int(arena.labels[battle, member]))
    return jury.verdicts(), jury.spent


def at_random(arena: Arena, share: float, seed: int) -> tuple[float, float]:
    """Spearman's rho for the same number of requests spent at random, and on battles drawn at random."""
    rng = np.random.default_rng(seed)
    label = arena.whole(arena.labels)
    whole = arena.board(label)
    drawn = rng.random(arena.labels.shape) < share
    drawn[:, arena.paid :] = True
    some = np.where(drawn, arena.labels, -1)
    kept = np.where(rng.random(len(label)) < share, label, -1)
    boards = (arena.board(arena.whole(some)), arena.board(kept))
    return float(stats.spearmanr(whole, boards[0])[0]), float(stats.spearmanr(whole, boards[1])[0])


def look(arena: Arena, shares: Sequence[float]) -> dict[float, float]:
    """Prints the table of an arena; rho of the policy's board by share."""
    whole = arena.board(arena.whole(arena.labels))
    rule = arena.rule + (f" {[round(w, 2) for w in arena.weights]}" if arena.weights else "")
    print(f"\n{arena.name}; {rule}; {len(arena.pairs)} battles, {arena.requests} requests for the whole jury")
    print(f"{'share':>6} {'requests':>8} {'rho':>6} {'interval':>15} {'labels':>6} {'random':>6} {'skip':>6}  CPU s")
    found = {}
    for share in shares:
        start = time.process_time()
        verdicts, asked = drive(arena, int(share * arena.requests))
        seconds = time.process_time() - start
        rho = correlation(verdicts.strength, whole, rounds=1000).spearman
        labels = float(stats.spearmanr(arena.board(verdicts.label), whole)[0])
        chance = np.mean([at_random(arena, asked / arena.requests, seed) for seed in range(5)], axis=0)
        interval = f"{rho.lower:.4f}-{rho.upper:.4f}"
        print(
            f"{share:6.2f} {asked:8d} {rho.value:6.4f} {interval:>15} {labels:6.4f} {chance[0]:6.4f} {chance[1]:6.4f}"
            f"  {seconds:.1f}",
            flush=True,
        )
        found[share] = rho.value
        if asked < int(share * arena.requests) - 1:
            print("       everything is settled")
            break
    enough = [share for share in found if all(rho >= GOAL for other, rho in found.items() if other >= share)]
    print(f"{GOAL:g} from {min(enough):.0%} of the requests on" if enough else f"{GOAL:g} is not reached")
    return found


def at_half(found: dict[float, float]) -> float:
    """rho at the largest share up to a half."""
    return found[max(share for share in found if share <= 0.5)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0])
    parser.add_argument("--quick", action="store_true", help="half the requests only")
    options = parser.parse_args()
    shares = [0.5] if options.quick else options.shares
    missed = [at_half(look(simulated(seed), shares)) < GOAL for seed in (0, 1)]
    default = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
    folder = Path(os.environ.get("EVALKIT_SHARED_DATA", default))
    if not folder.exists():
        print("LLMFAO and MT-bench are absent: set EVALKIT_SHARED_DATA to the folder with the published data")
        return int(any(missed))
    arena = llmfao(folder / "llmfao")
    texts = ("least-repetitive", "longest", "on-topic")
    for names in (("gpt4", "gpt3", *texts), ("gpt4", "gpt3", *texts, "answer-key")):
        missed.append(at_half(look(recorded(arena, names, weighted=True), shares)) < GOAL)
    for names in (("gpt4", "gpt3"), ("gpt4", "gpt3", "least-repetitive"), ("gpt4", "gpt3", *texts)):
        look(recorded(arena, names), shares)
    look(recorded(mt_bench(folder / "mt_bench"), ("gpt4",)), shares)
    return int(any(missed))


if __name__ == "__main__":
    sys.exit(main())
