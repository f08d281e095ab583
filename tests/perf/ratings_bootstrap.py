"""Bootstrap intervals of 1,000 rounds, beside resampling the votes and fitting again."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from ratings_board import fastchat_method
from ratings_common import Row, cpu_seconds, simulate_votes

from evalkit.stats import bradley_terry

GOALS = {(1_000_000, 200): 7.5}
ROUNDS = 1000


def measure(votes: int, models: int) -> Iterator[Row]:
    """Rows for our board with bootstrap intervals, from strings, and for FastChat's way of getting them."""
    frame = simulate_votes(votes, models)
    seconds = cpu_seconds(lambda: bradley_terry(frame, interval="bootstrap", rounds=ROUNDS), 1)
    what = f"board with {ROUNDS:,} bootstrap rounds, {votes:,} votes x {models} models"
    yield Row(what, seconds, GOALS.get((votes, models)), "every round to a step below 1e-9")
    if importlib.util.find_spec("sklearn") is None:
        yield Row("FastChat's method, resampled votes", None, note="left out: scikit-learn is not installed")
        return
    each = cpu_seconds(lambda: fastchat_method(frame.sample(frac=1.0, replace=True, random_state=0)), 1)
    note = f"from one round of {each:.2f} s; {ROUNDS * each / seconds:.0f} x ours"
    yield Row(f"FastChat's method, {ROUNDS:,} resamples of the votes", ROUNDS * each, None, note)
