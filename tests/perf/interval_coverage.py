"""Coverage of the intervals by simulation, the longer form: `python tests/perf/interval_coverage.py [--rounds 2000]`.

Prints how often 95 % intervals contain the truth beside what is asked of them, and ends with 1 where one misses. The
short form is tests/stats/test_coverage.py.
"""

from __future__ import annotations

import argparse
import sys
import time

from simulated_coverage import by_voter, calibrated, corrected, iid
from simulated_style import styled

# Share of intervals that must contain the truth: at least, at most. Others are printed for comparison.
ASKED = {
    "independent votes, sandwich": (0.94, 0.96),
    "clustered by voter": (0.91, 1.0),
    "style coefficients": (0.94, 1.0),
    "ratings at equal style": (0.94, 1.0),
    "PPI++ board": (0.94, 1.0),
    "PPI++ win rate": (0.94, 1.0),
    "Rogan-Gladen": (0.94, 1.0),
    "judge's share": (0.0, 0.005),
    "judge's board": (0.0, 0.005),
    "judge's win rate": (0.0, 0.005),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2000, help="simulations of each kind")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    sections = {
        "2,000 independent votes, 8 models, 20 % ties": lambda: iid(given.rounds, given.seed),
        "250 heavy-tailed voters with personal taste, 8 models": lambda: by_voter(given.rounds, given.seed),
        "2,000 votes decided by style too, 4 features, 8 models": lambda: styled(given.rounds, given.seed),
        "a judge on 2,000 battles, humans on 200, 6 models": lambda: corrected(given.rounds, given.seed),
        "the same, 8 models": lambda: corrected(given.rounds, given.seed, m=8),
        "a judge's share of 2,000 items, humans on 200": lambda: calibrated(given.rounds, given.seed),
        "a judge on 400 items of 5 battles, humans on 40 items, clustered by item": lambda: corrected(
            given.rounds, given.seed, items=400, labelled=40, battles=5
        ),
    }
    missed = 0
    for title, section in sections.items():
        start = time.process_time()
        lines = section()
        print(f"\n{title} ({given.rounds} rounds, {time.process_time() - start:.0f} CPU s)")
        for line in lines:
            low, high = ASKED.get(line.name, (0.0, 1.0))
            wrong = not low <= line.share <= high
            missed += wrong
            asked = f"asked {low:.1%} to {high:.1%}" if line.name in ASKED else ""
            print(f"  {line.name:42} {line.share:7.2%} +- {line.error:.2%}  width {line.width:8.3f}  {asked}"
                  f"{'  MISSED' if wrong else ''}", flush=True)  # fmt: skip
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
