"""Style control of four features with full covariance, beside arena-rank's."""

from __future__ import annotations

import importlib.util
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pandas as pd
from ratings_common import Row, cpu_seconds, simulate_votes

from evalkit.stats import bradley_terry, style_control

GOAL_SECONDS, GOAL_MB = 0.5, 50.0
# Feature, mean, effect in log-odds for a relative difference of 1.
FEATURES = (("tokens", 300.0, 0.8), ("headers", 2.0, 0.3), ("bold", 4.0, -0.2), ("lists", 5.0, 0.4))
NAMES = [name for name, _, _ in FEATURES]


def styled_votes(votes: int, models: int, seed: int = 0) -> pd.DataFrame:
    """The shared votes, seven of ten decided by style as well, with counts of four features for both answers."""
    frame = simulate_votes(votes, models, seed)
    rng = np.random.default_rng(seed + 1)
    logit = np.zeros(votes)
    for name, mean, effect in FEATURES:
        a, b = (rng.poisson(mean * rng.gamma(3, 1 / 3, votes)) for _ in "ab")
        frame[f"{name}_a"], frame[f"{name}_b"] = a, b
        logit += effect * (a - b) / np.maximum(a + b, 1)
    decided = (frame["winner"].isin(["model_a", "model_b"]) & (rng.random(votes) < 0.7)).to_numpy()
    styled = np.where(rng.random(votes) < 1.0 / (1.0 + np.exp(-logit)), "model_a", "model_b")
    frame["winner"] = frame["winner"].where(~decided, pd.Series(styled, dtype=frame["winner"].dtype))
    return frame


def arena_rank_style(frame: pd.DataFrame) -> object:
    """arena-rank's contextual Bradley-Terry on the same normalised differences, without its ridge and reweighting."""
    from arena_rank.models.contextual_bradley_terry import ContextualBradleyTerry
    from arena_rank.utils.data_utils import ContextualPairDataset

    votes = frame[["model_a", "model_b", "winner"]].copy()
    for name in NAMES:
        a, b = frame[f"{name}_a"], frame[f"{name}_b"]
        votes[name] = ((a - b) / (a + b)).fillna(0.0)
    data = ContextualPairDataset.from_pandas(votes, NAMES, reweighted=False)
    model = ContextualBradleyTerry(len(data.competitors), len(NAMES), reg=0.0)
    return model.compute_ratings_and_cis(data)


def measure(votes: int, models: int) -> Iterator[Row]:
    """Ours with its memory beside the plain board, then the peer."""
    frame = styled_votes(votes, models)
    size = f"{votes:,} votes x {models} models"
    full = (votes, models) == (1_000_000, 200)
    board = cpu_seconds(lambda: bradley_terry(frame), 5)
    ours = cpu_seconds(lambda: style_control(frame, NAMES), 5)
    tracemalloc.start()
    style_control(frame, NAMES)
    extra = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    more = "" if extra <= GOAL_MB or not full else f" over the {GOAL_MB:.0f} MB"
    note = f"{ours / board:.1f} x the board without style; {extra:.0f} MB extra at the peak{more}"
    yield Row(f"style control of 4 features, {size}", ours, GOAL_SECONDS if full else None, note)
    if any(importlib.util.find_spec(name) is None for name in ("arena_rank", "jax", "jaxtyping", "optax")):
        yield Row("arena-rank, 4 features", None, note="left out: not installed")
        return
    arena_rank_style(frame.head(10_000))  # importing does not count
    taken = cpu_seconds(lambda: arena_rank_style(frame), 1)
    yield Row("arena-rank, 4 features, with intervals of the ratings only", taken, note=f"{taken / ours:.0f} x ours")
