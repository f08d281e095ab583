"""Failure slices by simulation: how often planted ones are found, and how many found ones are false.

`python tests/perf/slices.py [--rounds 200]` prints rates on synthetic tables and, where the shared data is, on the
prompts of MMLU with failures of our own making. `tests/slices/test_rates.py` runs a short form of it.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from evalkit.slices.embed import _tfidf
from evalkit.slices.features import Features, encode, prompt_columns
from evalkit.slices.near import words
from evalkit.slices.predicates import members
from evalkit.slices.tree import build_tree
from evalkit.slices.two_halves import search_halves

Q = 0.1
HIGH, LOW = 0.65, 0.25
ITEMS = 1_500


@dataclass(frozen=True)
class Setup:
    """One simulated search: the table, true failure rate of each answer, its unit; and what was planted."""

    features: Features
    rate: NDArray[np.float64]
    units: NDArray[np.int64]
    train: NDArray[np.bool_]
    planted: NDArray[np.bool_] | None


@dataclass(frozen=True)
class Rates:
    """Over the rounds of one setup.

    Attributes:
        false_share: Mean share of confirmed slices that are false: their true rate is not above the rest's.
        any_false: Share of rounds with a false one.
        found: Share of rounds in which a confirmed slice overlaps the planted one by 0.8 (Jaccard).
        confirmed: Mean number of confirmed slices.
    """

    false_share: float
    any_false: float
    found: float
    confirmed: float


def synthetic(rng: np.random.Generator, kind: str, n: int = 800) -> Setup:
    """Random words for features of n answers; failures by `kind`: none, single, pair, clustered (none, but alike)."""
    units = np.arange(n) // 3 if kind == "clustered" else np.arange(n)
    column_of = [rng.choice(k, units.max() + 1, p=rng.dirichlet(np.full(k, 3.0)))[units] for k in (2, 2, 3, 4, 4, 6, 8)]
    train = rng.random(units.max() + 1)[units] < 0.5
    columns = {f"f{k}": [f"v{value}" for value in column] for k, column in enumerate(column_of)}
    table = encode(columns, dict.fromkeys(columns, "prompts"), train, 8)
    planted = None
    if kind in ("single", "pair"):
        big = lambda column: column == np.bincount(column).argmax()  # noqa: E731
        planted = column_of[5] == int(rng.integers(6))
        if kind == "pair":
            planted = big(column_of[3]) & big(column_of[5])
    rate = np.full(n, LOW) if planted is None else np.where(planted, HIGH, LOW)
    if kind == "clustered":  # near-duplicates fail together
        rate = (rng.random(units.max() + 1)[units] < LOW).astype(np.float64)
    return Setup(table, rate, units, train, planted)


@cache
def questions(folder: Path) -> tuple[list[str], list[str]]:
    """A sample of MMLU's test questions, and their subjects."""
    rows: list[tuple[str, str]] = []
    for path in sorted(folder.rglob("*test*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                rows.append((row["question"], row.get("subject") or path.stem))
    chosen = np.random.default_rng(0).choice(len(rows), ITEMS, replace=False)
    return [rows[k][0] for k in chosen], [rows[k][1] for k in chosen]


def real(rng: np.random.Generator, kind: str, folder: Path) -> Setup:
    """MMLU's prompts with their features and capability tree; failures planted in one of them, or none."""
    texts, subjects = questions(folder)
    train = rng.random(len(texts)) < 0.5
    found = [{"group": subject.split("_")[0], "subject": subject} for subject in subjects]
    lengths = [len(words(text)) for text in texts]
    columns = prompt_columns(found, lengths, train)
    tree = build_tree(_vectors(folder), texts, train, min_support=15, seed=0)
    columns |= {f"node {k}": ["yes" if one else None for one in tree.members(k)] for k in range(1, len(tree.nodes))}
    table = encode(columns, dict.fromkeys(columns, "prompts"), train, 15)
    planted = None
    if kind == "length":
        planted = np.asarray(lengths) > np.quantile(np.asarray(lengths)[train], 0.75)
    if kind == "subject":
        planted = np.array([one["group"] == "professional" for one in found])
    rate = np.full(len(texts), LOW) if planted is None else np.where(planted, HIGH, LOW)
    return Setup(table, rate, np.arange(len(texts)), train, planted)


@cache
def _vectors(folder: Path) -> NDArray[np.float32]:
    return _tfidf(questions(folder)[0])


def simulate(make: Callable[[np.random.Generator], Setup], rounds: int, seed: int, resamples: int = 10) -> Rates:
    """Searches `rounds` simulated tables."""
    shares, anyone, hits, sizes = [], [], [], []
    for k in range(rounds):
        rng = np.random.default_rng([seed, k])
        setup = make(rng)
        failed = rng.random(len(setup.rate)) < setup.rate
        prompts = [i for i, name in enumerate(setup.features.names) if not name.startswith("node")]
        tested, *_ = search_halves(
            setup.features.codes, failed, setup.train, setup.units, paired=[prompts], min_support=10,
            resamples=resamples, min_stability=0.5, seed=k,
        )  # fmt: skip
        masks = [members(setup.features.codes, t.definition) for t in tested if t.confirmation.q_value <= Q]
        # Where nothing was planted, nothing is true, whatever the units' own luck.
        true = [setup.planted is not None and _above(setup, mask) for mask in masks]
        shares.append(true.count(False) / max(1, len(true)))
        anyone.append(False in true)
        sizes.append(len(masks))
        hits.append(setup.planted is not None and any(_alike(mask, setup.planted) for mask in masks))
    return Rates(float(np.mean(shares)), float(np.mean(anyone)), float(np.mean(hits)), float(np.mean(sizes)))


def _above(setup: Setup, mask: NDArray[np.bool_]) -> bool:
    return bool(setup.rate[mask].mean() > setup.rate[~mask].mean())


def _alike(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> bool:
    return bool((a & b).sum() >= 0.8 * (a | b).sum())


def setups() -> Iterator[tuple[str, Callable[[np.random.Generator], Setup]]]:
    """Names and makers of the simulated tables."""
    for kind in ("none", "clustered", "single", "pair"):
        yield f"synthetic, {kind}", lambda rng, kind=kind: synthetic(rng, kind)
    data = Path(os.environ.get("EVALKIT_SHARED_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
    folder = data / "benchmarks" / "mmlu"
    if folder.is_dir():
        for kind in ("none", "length", "subject"):
            yield f"MMLU's prompts, {kind}", lambda rng, kind=kind: real(rng, kind, folder)


def main() -> None:
    """Prints the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    print(f"{rounds} rounds each, q = {Q}; failure rate {HIGH} in the planted slice, {LOW} elsewhere")
    for name, make in setups():
        start = time.process_time()
        rates = simulate(make, rounds, seed=0)
        print(
            f"{name:28} false share {rates.false_share:.3f}  any false {rates.any_false:.3f}  found {rates.found:.2f}  "
            f"confirmed {rates.confirmed:.2f}  ({(time.process_time() - start) / rounds:.2f} CPU s a round)"
        )


if __name__ == "__main__":
    main()
