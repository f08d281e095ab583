"""Planted slices are found, and without one false ones stay at their rate (short form of tests/perf/slices.py)."""

from __future__ import annotations

import numpy as np
import pytest
from slices import Q, simulate, synthetic

ROUNDS = 25


@pytest.mark.parametrize("kind", ["none", "clustered"])
def test_without_a_planted_slice_false_discoveries_stay_at_their_rate(kind: str) -> None:
    rates = simulate(lambda rng: synthetic(rng, kind), ROUNDS, seed=1, resamples=4)
    # Where nothing is true, a round with any discovery is a false one: a share of q, and chance.
    assert rates.any_false <= Q + 2 * np.sqrt(Q * (1 - Q) / ROUNDS)


@pytest.mark.parametrize("kind", ["single", "pair"])
def test_a_planted_slice_is_found_and_few_others(kind: str) -> None:
    rates = simulate(lambda rng: synthetic(rng, kind), ROUNDS, seed=1, resamples=4)
    assert rates.found >= 0.8
    assert rates.false_share <= Q
