"""The audit of a judge with every check, and its agreement with the humans, from a table of strings."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from ratings_common import Row, cpu_seconds

from evalkit.stats import audit_judge, judge_agreement

GOALS = {1_000_000: 1.0}
ITEMS = 10_000
LABELS = np.array(["model_a", "model_b", "tie"], dtype=object)


def simulate_judging(verdicts: int, models: int, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A judge's verdicts, each battle in both orders, 10 % as many human votes by 500 voters, and the answers' lengths.

    1 % of the verdicts are unreadable. The judge leans to the first slot, to length and to itself.
    """
    rng = np.random.default_rng(seed)
    battles = verdicts // 2
    names = np.array(["judge", "null", *(f"provider/model-{k:04d}-instruct" for k in range(models - 2))], dtype=object)
    item, a = rng.integers(ITEMS, size=battles), rng.integers(models, size=battles)
    b = (a + rng.integers(1, models, size=battles)) % models
    strength = np.where(names == "null", -4.0, rng.normal(0.0, 0.7, models))
    length = np.exp(rng.normal(6.0, 0.6, size=(ITEMS, models))).astype(int) + 1
    longer = np.log(length[item, a] / length[item, b])
    better = strength[a] - strength[b]

    def outcome(eta: np.ndarray) -> np.ndarray:
        first = rng.random(len(eta)) < 1.0 / (1.0 + np.exp(-eta))
        return np.where(rng.random(len(eta)) < 0.15, 2, 1 - first)

    eta = better + 0.3 * longer + 0.6 * ((a == 0).astype(float) - (b == 0))
    winner = LABELS[np.column_stack([outcome(eta + 0.4), outcome(eta - 0.4)]).ravel()]
    likely = np.repeat(1.0 / (1.0 + np.exp(-1.5 * eta)), 2)
    failed = rng.random(len(winner)) < 0.01
    winner[failed], likely[failed] = None, np.nan
    voted = rng.choice(battles, size=verdicts // 10, replace=False)
    voter = np.array([f"voter-{k}" for k in range(500)], dtype=object)[rng.integers(500, size=len(voted))]
    both, n = np.concatenate([np.repeat(np.arange(battles), 2), voted]), 2 * battles
    columns = {
        "item_id": np.array([f"item-{k}" for k in range(ITEMS)], dtype=object)[item[both]],
        "model_a": names[a[both]],
        "model_b": names[b[both]],
        "winner": np.concatenate([winner, LABELS[outcome(better[voted] + 0.1 * longer[voted])]]),
        "annotator": np.concatenate([np.full(n, "judge", dtype=object), voter]),
        "annotator_kind": np.repeat(np.array(["judge", "human"], dtype=object), [n, len(voted)]),
        "order": np.concatenate([np.tile(np.array(["ab", "ba"], dtype=object), battles), np.full(len(voted), "ab")]),
    }
    votes = pd.DataFrame({name: pd.Series(values, dtype="str") for name, values in columns.items()})
    votes["probability"] = np.concatenate([likely, np.full(len(voted), np.nan)])
    used = np.unique(np.concatenate([item * models + a, item * models + b]))
    responses = pd.DataFrame(
        {
            "item_id": pd.Series([f"item-{k}" for k in used // models], dtype="str"),
            "model": pd.Series(names[used % models], dtype="str"),
            "length": length.ravel()[used],
        }
    )
    return votes, responses


def measure(votes: int, models: int) -> Iterator[Row]:
    """Rows for `votes` verdicts of one judge between `models` models."""
    table, responses = simulate_judging(votes, models)
    what = f"of {votes:,} verdicts and {len(table) - votes:,} human votes"
    seconds = cpu_seconds(lambda: audit_judge(table, "judge", null_model="null"))
    yield Row(f"judge audit {what}", seconds, GOALS.get(votes), "position, kinship, null model, calibration")
    seconds = cpu_seconds(lambda: audit_judge(table, "judge", responses=responses, null_model="null"))
    yield Row(f"judge audit {what}, with {len(responses):,} lengths", seconds, GOALS.get(votes), "and length")
    seconds = cpu_seconds(lambda: judge_agreement(table))
    yield Row(f"judge agreement {what}", seconds, None, "kappa with intervals, humans among themselves")
