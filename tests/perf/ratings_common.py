"""What the parts of the ratings measurement share: seeded votes, CPU seconds, rows of the table."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: What was run.
        seconds: CPU seconds, the best of the repeats; None where it was left out.
        goal: CPU seconds it may take, or None.
        note: Anything else, such as a ratio, or why it was left out.
    """

    what: str
    seconds: float | None
    goal: float | None = None
    note: str = ""


def cpu_seconds(run: Callable[[], object], repeats: int = 3) -> float:
    """CPU seconds of the quickest of some runs; CPU, as other processes may share the core."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        run()
        best = min(best, time.process_time() - start)
    return best


def simulate_votes(votes: int, models: int, seed: int = 0, kind: str = "str") -> pd.DataFrame:
    """Votes between models with normal strengths: 18 % ties, 12 % both_bad, the rest by Bradley-Terry.

    Args:
        votes: Number of rows.
        models: Number of models.
        seed: Of the draw.
        kind: Type of the text columns: `str` (Arrow strings, as pandas reads files) or `object`.
    """
    rng = np.random.default_rng(seed)
    strength = rng.normal(0.0, 0.8, models)
    i = rng.integers(models, size=votes)
    j = (i + rng.integers(1, models, size=votes)) % models
    names = np.array([f"provider-{k % 9}/model-{k:04d}-instruct" for k in range(models)], dtype=object)
    labels = np.array(["model_a", "model_b", "tie", "both_bad"], dtype=object)
    outcome = (rng.random(votes) > 1.0 / (1.0 + np.exp(strength[j] - strength[i]))).astype(np.int64)
    other = rng.random(votes)
    outcome[other < 0.30] = 2
    outcome[other < 0.12] = 3
    columns = {"model_a": names[i], "model_b": names[j], "winner": labels[outcome]}
    return pd.DataFrame({name: pd.Series(values, dtype=kind) for name, values in columns.items()})
