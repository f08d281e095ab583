"""Simulated votes in which style decides too, with known coefficients: how often intervals contain the truth."""

from __future__ import annotations

import numpy as np
from simulated_coverage import MODELS, Coverage, Tally, frame, place

from evalkit.stats.style import style_control

EFFECTS = {"tokens": 0.9, "headers": 0.3, "bold": -0.4, "lists": 0.2}  # log-odds for a relative difference of 1
MEANS = {"tokens": 300.0, "headers": 2.0, "bold": 4.0, "lists": 5.0}


def styled(rounds: int, seed: int = 0, votes: int = 2000) -> list[Coverage]:
    """Style control of four features; weaker models write longer, so that the raw board is biased."""
    rng, m, tally = np.random.default_rng(seed), len(MODELS), Tally()
    strength = np.linspace(1.0, -1.0, m)
    for _ in range(rounds):
        i = rng.integers(m, size=votes)
        j = (i + rng.integers(1, m, size=votes)) % m
        logit, columns = strength[i] - strength[j], {}
        for name, mean in MEANS.items():
            a, b = (rng.poisson(mean * rng.gamma(3, 1 / 3, votes) * np.exp(0.1 * k)) for k in (i, j))
            columns[f"{name}_a"], columns[f"{name}_b"] = a, b
            logit = logit + EFFECTS[name] * (a - b) / np.maximum(a + b, 1)
        data = frame(i, j, rng.random(votes) < 1 / (1 + np.exp(-logit))).assign(**columns)
        found = style_control(data, list(EFFECTS), ranks="overlap")
        limits = np.array([(own.lower, own.upper) for own in found.coefficients])
        truth = np.array([EFFECTS[own.feature] * own.scale for own in found.coefficients])
        tally.add("style coefficients", limits[:, 0], limits[:, 1], truth)
        for name, board in (("ratings at equal style", found.ratings), ("ratings, style ignored", found.raw)):
            tally.add(name, board.lower, board.upper, place(board.models, strength))
    return tally.coverages()
