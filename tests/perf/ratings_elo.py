"""Online Elo from strings, in plain Python and compiled, beside evalica."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator

import pandas as pd
from ratings_common import Row, cpu_seconds, simulate_votes

from evalkit.stats import online_elo

GOALS = {1_000_000: 0.15}
K = 4.0


def measure(votes: int, models: int) -> Iterator[Row]:
    """Rows for both ways of running the loop, what compiling costs once, and the peer."""
    frame = simulate_votes(votes, models)
    plain = cpu_seconds(lambda: online_elo(frame, k=K))
    yield Row(f"online Elo, {votes:,} votes x {models} models, plain Python", plain, None, "no extra package")
    if importlib.util.find_spec("numba") is None:
        yield Row("online Elo, compiled", None, GOALS.get(votes), "left out: numba is not installed")
    else:
        start = time.process_time()
        online_elo(frame.head(10), k=K, compiled=True)
        once = time.process_time() - start
        compiled = cpu_seconds(lambda: online_elo(frame, k=K, compiled=True), 5)
        note = f"after {once:.1f} s, once in a process, to import numba and compile"
        yield Row("online Elo, the same, compiled by numba", compiled, GOALS.get(votes), note)
    if importlib.util.find_spec("evalica") is None:
        yield Row("evalica, Elo", None, note="left out: not installed")
    else:
        yield Row("evalica, Elo", cpu_seconds(lambda: evalica_elo(frame), 2))


def evalica_elo(votes: pd.DataFrame) -> pd.Series:
    """evalica's Elo, ties as half wins."""
    import evalica

    labels = {"model_a": evalica.Winner.X, "model_b": evalica.Winner.Y}
    winners = votes["winner"].map(lambda label: labels.get(label, evalica.Winner.Draw)).to_list()
    return evalica.elo(votes["model_a"].to_list(), votes["model_b"].to_list(), winners, k=K, initial=1000.0).scores
