"""From strings to a board with sandwich intervals, beside arena-rank, FastChat's method and evalica."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pandas as pd
from ratings_common import Row, cpu_seconds, simulate_votes

from evalkit.stats import bradley_terry

GOALS = {(1_000_000, 200): 0.15, (10_000_000, 200): 1.3}
Y = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5, "both_bad": 0.5}


def arena_rank(votes: pd.DataFrame) -> pd.DataFrame:
    """The public arena's own package: ratings with sandwich intervals."""
    from arena_rank.models.bradley_terry import BradleyTerry
    from arena_rank.utils.data_utils import PairDataset

    data = PairDataset.from_pandas(votes)
    found = BradleyTerry(n_competitors=len(data.competitors)).compute_ratings_and_cis(data)
    columns = {"rating": "ratings", "lower": "rating_lower", "upper": "rating_upper"}
    return pd.DataFrame({name: np.asarray(found[key]) for name, key in columns.items()}, index=found["competitors"])


def fastchat_method(votes: pd.DataFrame) -> pd.Series:
    """FastChat's point fit: pivot tables of wins, then logistic regression over ordered pairs, ties as half wins."""
    from sklearn.linear_model import LogisticRegression

    tables = {
        name: pd.pivot_table(votes[chosen], index="model_a", columns="model_b", aggfunc="size", fill_value=0)
        for name, chosen in (
            ("a", votes["winner"] == "model_a"),
            ("b", votes["winner"] == "model_b"),
            ("tie", votes["winner"].isin(["tie", "both_bad"])),
        )
    }
    models = sorted(set(votes["model_a"]) | set(votes["model_b"]))
    full = {name: table.reindex(index=models, columns=models, fill_value=0) for name, table in tables.items()}
    tie = full["tie"].to_numpy() + full["tie"].to_numpy().T
    wins = (full["a"].to_numpy() + full["b"].to_numpy().T) * 2 + tie
    first, second = np.nonzero(wins + wins.T)
    upper = first < second
    first, second = first[upper], second[upper]
    sides = np.zeros((2 * len(first), len(models)))
    rows = np.arange(len(first))
    for offset in (0, len(first)):
        sides[rows + offset, first] = np.log(10.0)
        sides[rows + offset, second] = -np.log(10.0)
    outcome = np.repeat([1.0, 0.0], len(first))
    weight = np.concatenate([wins[first, second], wins[second, first]]).astype(np.float64)
    found = LogisticRegression(fit_intercept=False, C=np.inf, tol=1e-6).fit(sides, outcome, sample_weight=weight)
    return pd.Series(400.0 * found.coef_[0] + 1000.0, index=models)


def evalica_scores(votes: pd.DataFrame) -> pd.Series:
    """evalica's Bradley-Terry: scores without intervals, ties as half wins."""
    import evalica

    labels = {"model_a": evalica.Winner.X, "model_b": evalica.Winner.Y}
    winners = votes["winner"].map(lambda label: labels.get(label, evalica.Winner.Draw)).to_list()
    return evalica.bradley_terry(votes["model_a"].to_list(), votes["model_b"].to_list(), winners).scores


# Package, label, run, how many times our CPU time it is to take.
PEERS: tuple[tuple[str, str, Callable[[pd.DataFrame], object], float], ...] = (
    ("arena_rank", "arena-rank, with intervals", arena_rank, 40.0),
    ("sklearn", "FastChat's method, ratings only", fastchat_method, 15.0),
    ("evalica", "evalica, ratings only", evalica_scores, 25.0),
)


def measure(votes: int, models: int) -> Iterator[Row]:
    """Our board on both kinds of text columns, then each peer that is installed, on the same votes.

    A peer and our board take turns, so that a core that slows down for a while slows both; each on both kinds of text
    columns, as some peers want one, some the other.
    """
    frame = simulate_votes(votes, models)
    objects = simulate_votes(votes, models, kind="object")
    goal = GOALS.get((votes, models))
    repeats = 7 if votes <= 1_000_000 else 3
    size = f"{votes:,} votes x {models} models"
    for text, table in (("Arrow strings", frame), ("Python objects", objects)):
        taken = cpu_seconds(partial(bradley_terry, table), repeats)
        yield Row(f"board with sandwich intervals, {size}, {text}", taken, goal)
    for ties in ("davidson", "rao-kupper"):
        taken = cpu_seconds(partial(bradley_terry, frame, ties=ties), repeats)
        yield Row(f"board with {ties} ties, the same, Arrow strings", taken)
    for package, label, peer, ratio in PEERS:
        if importlib.util.find_spec(package) is None or (package == "arena_rank" and not _has_jax()):
            yield Row(label, None, note="left out: not installed")
            continue
        peer(frame.head(10_000))  # imports and compilers are not what is measured
        for text, table in (("Arrow strings", frame), ("Python objects", objects)):
            ours, theirs = [], []
            for _ in range(3 if votes <= 1_000_000 else 1):
                theirs.append(cpu_seconds(partial(peer, table), 1))
                ours.append(cpu_seconds(partial(bradley_terry, table), 3))
            times = min(theirs) / min(ours)
            note = f"{times:.0f} x ours, {min(ours):.3f} s in turns with it (goal {ratio:.0f} x)"
            yield Row(f"{label}, {text}", min(theirs), note=note)


def _has_jax() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("jax", "jaxtyping", "optax"))
