"""How fast the ledger is: rows written a second, and reads over a large ledger, alone and beside a writer.

    python tests/perf/store.py            # 1,000,000 responses, 200,000 verdicts; needs about 1 GB of disk
    python tests/perf/store.py --n 50000  # a quick look

Prints one table for each. Everything lies in a temporary folder, which is removed. A row carries about 300 characters
of answer and 230 of request. Up to 20,000 votes, thus with a small --n, the rated leaderboard takes longer: it reads
single verdicts, for intervals that allow for votes on one item being alike.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evalkit.models.base import ModelSettings, Reply, RequestFailed, canonical_json
from evalkit.report import leaderboard
from evalkit.store import BattleRow, Item, Ledger, ResponseRow, ScoreRow, VerdictRow, frames

MODELS, DATASETS, RUNS, ITEMS = 50, 20, 20, 2_000
GOAL_ROWS, GOAL_MS = 40_000, 50


class Load:
    """Realistic rows in any number: texts of words drawn with a seed, keys of their own."""

    def __init__(self, ledger: Ledger, models: int = MODELS) -> None:
        self.rng = random.Random(0)
        words = ["".join(self.rng.choices("abcdefghijklmnopqrstuvwxyz", k=self.rng.randint(2, 9))) for _ in range(3000)]
        self.texts = [" ".join(self.rng.choices(words, k=47)) for _ in range(2000)]
        self.bodies = [self._body(" ".join(self.rng.choices(words, k=20))) for _ in range(2000)]
        self.models = ledger.add_models([ModelSettings("openai", f"model-{i}") for i in range(models)])
        self.datasets, self.items = [], []
        for number in range(DATASETS):
            made = [
                Item(
                    ({"role": "user", "content": f"{number}.{i} {self.texts[i]}"},), tags={"topic": i % 7}, name=str(i)
                )
                for i in range(ITEMS // DATASETS)
            ]
            dataset, items = ledger.add_dataset(f"task-{number}", made, "perf")
            self.datasets += [dataset] * len(items)
            self.items += items
        self.runs = [ledger.start_run("perf", {"part": i}, seed=0, environment={}) for i in range(RUNS)]

    @staticmethod
    def _body(prompt: str) -> str:
        messages = [{"content": prompt, "role": "user"}]
        sampling = {"max_tokens": 512, "temperature": 0.0}
        return canonical_json({"messages": messages, "name": "model", "provider": "openai", "sampling": sampling})

    def rows(self, start: int, count: int, salt: str = "") -> list[ResponseRow]:
        """Rows number start and on; one in fifty failed."""
        made = []
        for i in range(start, start + count):
            item = i % ITEMS
            model = self.models[i // ITEMS % len(self.models)]
            key = hashlib.sha256(f"{salt}{i}".encode()).hexdigest()
            reply: Reply | RequestFailed = RequestFailed("server", "500: overloaded")
            if i % 50:
                text = self.texts[i % len(self.texts)]
                reply = Reply(text, None, (), "stop", None, 60, 70, 0, 0.8, "model-2026-10-01")
            body = self.bodies[i % len(self.bodies)]
            made.append(ResponseRow(model, self.items[item], self.datasets[item], key, body, reply, 0, 0.0004))
        return made


def write(ledger: Ledger, load: Load, n: int, batch: int, salt: str = "") -> dict[str, Any]:
    """Writes n responses; the clock runs within the ledger only."""
    wall = cpu = 0.0
    for start in range(0, n, batch):
        rows = load.rows(start, min(batch, n - start), salt)
        run = load.runs[start * RUNS // n]
        before, before_cpu = time.perf_counter(), time.process_time()
        ledger.add_responses(run, rows)
        wall += time.perf_counter() - before
        cpu += time.process_time() - before_cpu
    return {
        "what": "responses",
        "batch": batch,
        "rows": n,
        "rows/s": round(n / wall),
        "CPU us/row": round(cpu / n * 1e6),
    }


def judge(ledger: Ledger, load: Load, n: int) -> list[dict[str, Any]]:
    """Writes n verdicts by two judges in both orders, and a metric for every model and task."""
    judges = [ledger.add_annotator("judge", f"judge-{i}", {}) for i in range(2)]
    rng = load.rng
    fights: dict[tuple[int, int, int, int], None] = {}
    while len(fights) < n // 4:
        a, b = sorted(rng.sample(load.models, 2))
        fights[rng.choice(load.items), a, b, rng.choice([1, 2])] = None
    pairs = list(fights)
    wall = 0.0
    for start in range(0, len(pairs), 2500):
        battles = [BattleRow(item, a, b, turn=turn) for item, a, b, turn in pairs[start : start + 2500]]
        before = time.perf_counter()
        ids = ledger.add_battles(battles)
        winners: list[Any] = [rng.choice(["model_a", "model_b", "tie", "both_bad"]) for _ in ids]
        orders: tuple[Any, ...] = ("ab", "ba")
        ledger.add_verdicts(
            load.runs[0],
            [VerdictRow(b, j, order, w) for b, w in zip(ids, winners, strict=True) for j in judges for order in orders],
        )
        wall += time.perf_counter() - before
    tasks = sorted(set(load.datasets))
    scores = [ScoreRow(m, d, "acc", rng.random(), 0.01, 100) for m in load.models for d in tasks]
    ledger.set_scores(load.runs[0], scores)
    return [{"what": "verdicts", "batch": 10_000, "rows": n, "rows/s": round(n / wall)}]


def reads(ledger: Ledger, load: Load) -> dict[str, Callable[[], Any]]:
    """What the pages of the app and the command line ask for."""
    run = load.runs[RUNS // 2]
    page = frames.responses(ledger, run, limit=None)
    middle = page.response_id.iloc[len(page) // 2]
    model = page.model.iloc[-1]
    return {
        "leaderboard (tally)": lambda: frames.tally(ledger, kind="judge", pooled=True),
        "leaderboard, rated": lambda: leaderboard(ledger, judges=["judge-0", "judge-1"]),
        "run list": lambda: frames.runs(ledger),
        "model x task table": lambda: frames.scores(ledger, wide=True),
        "cells of a run": lambda: frames.run_cells(ledger, run),
        "samples, first page": lambda: frames.responses(ledger, run),
        "samples, a page in the middle": lambda: frames.responses(ledger, run, after=int(middle), texts=True),
        "samples, failed": lambda: frames.responses(ledger, run, failed=True),
        "samples, failed of one model": lambda: frames.responses(ledger, run, model=model, failed=True),
        "one sample": lambda: frames.sample(ledger, int(middle)),
    }


def measure(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, tuple[float, float, float]]:
    """Median, worst, and mean CPU of each call, in milliseconds; the first of each, which imports, is left out."""
    found = {}
    for name, call in calls.items():
        call()
        times = []
        cpu = time.process_time()
        for _ in range(repeats):
            before = time.perf_counter()
            call()
            times.append((time.perf_counter() - before) * 1000)
        found[name] = (statistics.median(times), max(times), (time.process_time() - cpu) / repeats * 1000)
    return found


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Prints rows as a table."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, *([f"{row.get(name, '')}" for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print()


def calibrate() -> float:
    """Seconds of a plain loop, so that figures of a busy or slow machine can be told from slow code."""
    before, total = time.perf_counter(), 0
    for i in range(10_000_000):
        total += i
    return time.perf_counter() - before


def write_for_ever(path: str, ready: Path) -> None:
    """What the second process does: batches of 64, as the engine writes them, without a pause."""
    with Ledger.open(path) as ledger:
        load = Load(ledger)
        start = 0
        while True:
            ledger.add_responses(load.runs[0], load.rows(start, 64, salt="beside"))
            start += 64
            part = ready.with_suffix(".part")  # renamed, so that nobody reads an empty file
            part.write_text(str(start))
            part.replace(ready)


def main() -> int:
    """Runs it all; exit code 1 if a read took longer than the goal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=1_000_000, help="responses in the ledger")
    parser.add_argument("--write-for-ever", nargs=2, metavar=("LEDGER", "READY"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write_for_ever:
        write_for_ever(arguments.write_for_ever[0], Path(arguments.write_for_ever[1]))
    n = arguments.n
    folder = Path(tempfile.mkdtemp(prefix="evalkit-perf-"))
    try:
        versions = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
        print(f"{versions}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} before the start")
        print(f"Speed of this machine now: ten million additions in Python take {calibrate():.2f} s\n")
        written = []
        for batch, share in ((64, 40), (1_000, 10), (10_000, 5)):
            path = folder / f"b{batch}.db"
            with Ledger.open(str(path)) as ledger:
                written.append(write(ledger, Load(ledger), max(n // share, 10_000), batch))
            path.unlink()
        path = folder / "ledger.db"
        with Ledger.open(str(path)) as ledger:
            load = Load(ledger)
            written.append(write(ledger, load, n, 5_000))
            written += judge(ledger, load, n // 5)
            print(f"Writes (goal {GOAL_ROWS:,} responses a second in batches)\n")
            show(written)
            alone = measure(reads(ledger, load), 20)
            ready = folder / "ready"
            command = [sys.executable, __file__, "--write-for-ever", str(path), str(ready)]
            writer = subprocess.Popen(command)
            try:
                while not ready.exists() and writer.poll() is None:
                    time.sleep(0.05)
                before = int(ready.read_text())
                began = time.perf_counter()
                beside = measure(reads(ledger, load), 20)
                took = time.perf_counter() - began
                beside_rows = int(ready.read_text()) - before
            finally:
                writer.kill()
                writer.wait()
            size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
        print(f"Reads over {n:,} responses and {n // 5:,} verdicts, {size:,.0f} MB (goal {GOAL_MS} ms)")
        print(f"Beside: another process writes batches of 64 all the while, {beside_rows / took:,.0f} rows a second\n")
        show(
            [
                {
                    "read": name,
                    "median ms": f"{alone[name][0]:.1f}",
                    "worst": f"{alone[name][1]:.1f}",
                    "CPU": f"{alone[name][2]:.1f}",
                    "beside, median": f"{beside[name][0]:.1f}",
                    "beside, worst": f"{beside[name][1]:.1f}",
                }
                for name in alone
            ]
        )
        slow = [name for name in alone if max(alone[name][0], beside[name][0]) > GOAL_MS]
        if slow:
            print(f"Slower than {GOAL_MS} ms: {', '.join(slow)}")
        return 1 if slow else 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
