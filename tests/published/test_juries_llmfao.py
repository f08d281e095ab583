"""Juries on LLMFAO's recorded verdicts, held against the crowd: GPT-4, GPT-3.5 and jurors computed from the texts."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from recorded_juries import Recorded, llmfao

from evalkit.stats import compare_juries
from evalkit.stats.stacking import expected_hits, stacked_weights

Hits = NDArray[np.float64]


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    import os

    default = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
    folder = Path(os.environ.get("EVALKIT_SHARED_DATA", default)) / "llmfao"
    if not folder.exists():
        pytest.skip("llmfao is absent: set EVALKIT_SHARED_DATA to the folder with the published data")
    return llmfao(folder)


def with_winner(recorded: Recorded) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Labels, truth and prompts of battles that the crowd calls no tie; a judge's tie is no verdict there."""
    rows = (recorded.truth >= 0) & (recorded.truth != 2)
    labels = recorded.labels[rows]
    return np.where(labels == 2, -1, labels), recorded.truth[rows], recorded.items[rows]


def standard_error(gain: Hits, unit: NDArray[np.int64]) -> float:
    sums = np.bincount(np.unique(unit, return_inverse=True)[1], gain - gain.mean())
    return float(np.sqrt(len(sums) / (len(sums) - 1) * (sums**2).sum()) / len(gain))


def held_out(labels: NDArray[np.int64], truth: NDArray[np.int64], fold: NDArray[np.int64], clusters: NDArray[np.int64]):
    """Hits of the weighted jury on each battle, by weights learned on the other folds."""
    hits = np.zeros(len(truth))
    for k in np.unique(fold):
        learn, test = fold != k, fold == k
        found = stacked_weights(labels[learn], truth[learn], clusters=clusters[learn], n_labels=2)
        hits[test] = expected_hits(labels[test], truth[test], 2, found.weight)
    return hits


def test_accuracy_of_each_juror(recorded: Recorded) -> None:
    labels, truth, _ = with_winner(recorded)
    alone = {name: expected_hits(labels[:, [j]], truth, 2, np.ones(1)).mean() for j, name in enumerate(recorded.judges)}
    assert (len(truth), len(labels)) == (982, 982)
    expected = {"gpt4": 0.757, "gpt3": 0.628, "first-slot": 0.531, "longest": 0.322, "on-topic": 0.444}
    assert {name: round(float(alone[name]), 3) for name in expected} == pytest.approx(expected, abs=0.002)
    # A real inverted judge: runaway texts lose, so the longer answer is the worse one here.
    assert alone["longest"] < 0.35


def test_the_weighted_jury_is_not_worse_than_gpt4_and_the_majority_is(recorded: Recorded) -> None:
    labels, truth, prompts = with_winner(recorded)
    gpt4 = expected_hits(labels[:, [0]], truth, 2, np.ones(1))
    majority = expected_hits(labels, truth, 2, np.ones(labels.shape[1])) - gpt4
    assert majority.mean() < -0.1 and majority.mean() + 2 * standard_error(majority, prompts) < 0
    # On prompts nothing was learned from: each prompt judged by the weights of the 12 others that have a winner.
    new_prompts = held_out(labels, truth, prompts, prompts) - gpt4
    assert new_prompts.mean() + 2 * standard_error(new_prompts, prompts) >= 0
    # On battles nothing was learned from, of the same prompts.
    battle = np.arange(len(truth))
    fold = np.random.default_rng(0).permutation(battle) % 2
    new_battles = held_out(labels, truth, fold, battle) - gpt4
    assert new_battles.mean() + 2 * standard_error(new_battles, battle) >= 0


def test_with_ties_the_jury_is_better_than_gpt4(recorded: Recorded) -> None:
    rows = recorded.truth >= 0
    labels, truth = recorded.labels[rows], recorded.truth[rows]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = compare_juries(labels, truth, judges=recorded.judges, tie=2, n_labels=3)
    table = found.frame().set_index("jury")
    assert "stacked weights" in found.method
    assert table.loc["best judge", "judges"] == "gpt4"
    assert table.loc["weighted", "lower"] > table.loc["best judge", "upper"]
