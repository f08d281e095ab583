"""A refresh of a live board: new votes counted, the board fitted again, after few votes and after many."""

from __future__ import annotations

import time
from collections.abc import Iterator

from ratings_common import Row, simulate_votes

from evalkit.stats import LiveBoard, VoteCounts

GOALS = {200: 0.020, 1000: 0.5}
BATCH = 10
REFRESHES = 8


def measure(votes: int, models: int) -> Iterator[Row]:
    """Rows for two sizes of board, each after `votes` votes and after a thousand times as many."""
    for size in dict.fromkeys((models, 1000)):
        frame = simulate_votes(votes, size)
        for times in (1, 1000):
            live = LiveBoard()
            live.add(frame)
            many_times(live, times)
            live.ratings()
            counting, refreshing = [], []
            for seed in range(REFRESHES):
                batch = frame.sample(BATCH, random_state=seed)
                start = time.process_time()
                live.add(batch)
                counted = time.process_time()
                live.ratings()
                counting.append(counted - start)
                refreshing.append(time.process_time() - counted)
            what = f"refresh of a live board, {size} models, {live.n:,} votes"
            yield Row(what, min(refreshing), GOALS.get(size), f"and {min(counting):.4f} s to count {BATCH} new votes")


def many_times(live: LiveBoard, times: int) -> None:
    """Add the live board's own votes again and again: as counts, since no frame would hold them."""
    counts = live.counts()
    plane = counts.votes * (times - 1)
    live.add(VoteCounts(counts.models, plane, plane, plane, 0, ()))
