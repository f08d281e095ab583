"""How fast the ratings are, beside their peers, on one core.

    python tests/perf/ratings.py                                # every part, 1,000,000 votes of 200 models
    python tests/perf/ratings.py --parts board --votes 10000000
    python tests/perf/ratings.py --votes 100000 --models 50     # a quick look

Votes are simulated with a seed. Figures are CPU seconds of the quickest repeat in this one process, bound to one core;
a peer that is not installed is left out, and the table says so. Each part is a module `ratings_<part>.py` with a
function `measure(votes, models)`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
from pathlib import Path

PARTS = ("board", "live", "bootstrap", "style", "elo", "audit")

if __name__ == "__main__":
    # Before NumPy and jax start their threads.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--votes", type=int, default=1_000_000)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    chosen = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))
    print(f"Python {platform.python_version()}, one core, {chosen.votes:,} votes, {chosen.models} models\n")
    print(f"{'what':<78}{'CPU s':>9}{'goal':>8}  note")
    for part in chosen.parts:
        for row in importlib.import_module(f"ratings_{part}").measure(chosen.votes, chosen.models):
            seconds = "-" if row.seconds is None else f"{row.seconds:.4f}"
            goal = "" if row.goal is None else f"{row.goal:g}"
            missed = "" if row.goal is None or row.seconds is None or row.seconds <= row.goal else "over the goal"
            print(f"{row.what:<78}{seconds:>9}{goal:>8}  {' '.join(filter(None, [row.note, missed]))}", flush=True)


if __name__ == "__main__":
    main()
