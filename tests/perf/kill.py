"""Kills a run at ten random moments, resumes it each time, and looks whether anything was lost or paid for in vain.

    python tests/perf/kill.py                # kill -9, then the same with Ctrl-C (SIGINT)
    python tests/perf/kill.py --rounds 3 -n 500

Each round starts the same run anew in a fresh process (Engine, Ledger and EndpointModel, as the command line uses
them) and ends it after a random number of answers. At the end there must be exactly N responses,
the ledger must be whole, and the server must not have been paid more than N plus, for each kill -9, the requests in
flight and one batch; after SIGINT nothing at all is paid twice, as what is in flight is waited for. Exit code 1 if not.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from throughput import ROOT, Server, question

CONCURRENCY = 32


def worker(url: str, n: int, ledger_path: str) -> int:
    """The run: what `evalkit run` does for one model; exits 1 on failures and 130 on Ctrl-C."""
    sys.path.insert(0, str(ROOT))
    from evalkit.engine import Budget, Engine, Job
    from evalkit.models import ModelSettings, Request
    from evalkit.models.endpoint import EndpointModel
    from evalkit.store import Ledger
    from evalkit.store.rows import Item

    settings = ModelSettings("openai", "mock", endpoint=f"{url}/v1")
    items = [Item(({"role": "user", "content": question(i)},)) for i in range(n)]
    with Ledger.open(ledger_path) as ledger:
        (model_id,) = ledger.add_models([settings])
        dataset_id, item_ids = ledger.add_dataset("questions", items)
        run_id = ledger.start_run("kill", {}, seed=0, environment={})
        jobs = [
            Job(model_id, item_id, dataset_id, Request(messages=item.messages))
            for item_id, item in zip(item_ids, items, strict=True)
        ]
        try:
            with Engine(ledger, run_id, budget=Budget(max_concurrency=CONCURRENCY)) as engine:
                outcomes = engine.run(EndpointModel(settings), jobs)
        except KeyboardInterrupt:
            ledger.finish_run(run_id, "stopped")
            return 130
        ledger.finish_run(run_id, "done")
        return int(any(o.reply is None for o in outcomes))


def responses(ledger: Path) -> int:
    """Counts the responses so far, from outside."""
    if not ledger.exists():
        return 0
    with sqlite3.connect(f"file:{ledger}?mode=ro", uri=True, timeout=30) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'response'").fetchone():
            return 0
        return int(connection.execute("SELECT count(*) FROM response").fetchone()[0])


def attack(number: signal.Signals, n: int, rounds: int, seed: int) -> list[str]:
    """Runs, kills and resumes; returns what is wrong."""
    from evalkit.engine.writer import BATCH_ROWS

    draw = random.Random(seed)
    problems: list[str] = []
    with Server("--latency", "0.2") as server, tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "ledger.db"
        command = [sys.executable, __file__, "--worker", server.url, "-n", str(n), "--ledger", str(ledger)]
        paid_before = stored_before = 0
        worst = 0
        print(f"{number.name}: {n} requests, {CONCURRENCY} at once", flush=True)
        for kill in range(1, rounds + 1):
            process = subprocess.Popen(command)
            # Anywhere in this kill's share of the rest; the first kill -9 may come before any answer.
            target = stored_before + 1 + (0.8 * n - stored_before) * draw.random() / (rounds + 1 - kill)
            latest = time.monotonic() + (60 if kill > 1 or number == signal.SIGINT else draw.uniform(0, 2))
            while process.poll() is None and responses(ledger) < target and time.monotonic() < latest:
                time.sleep(0.01)
            time.sleep(draw.uniform(0.0, 0.1))
            process.send_signal(number)
            code = process.wait(timeout=60)
            time.sleep(0.3)  # lets the server finish what it had taken
            stats, stored = server.ask("/stats"), responses(ledger)
            gone = (stats["paid"] - paid_before) - (stored - stored_before)
            worst = max(worst, gone)
            print(f"  {kill:>2}: exit {code:>4}, stored {stored:>5}, answers lost with it {gone:>4}", flush=True)
            if number == signal.SIGINT and code != 130:
                problems.append(f"SIGINT {kill}: exit code {code} instead of 130")
            paid_before, stored_before = stats["paid"], stored
        code = subprocess.run(command, check=False).returncode
        stats = server.ask("/stats")
        allowed = CONCURRENCY + max(CONCURRENCY, BATCH_ROWS) if number == signal.SIGKILL else 0
        with sqlite3.connect(ledger) as connection:
            whole = connection.execute("PRAGMA integrity_check").fetchone()[0]
            stored = connection.execute("SELECT count(*) FROM response WHERE error_kind IS NULL").fetchone()[0]
            keys = connection.execute("SELECT count(DISTINCT request_key) FROM response").fetchone()[0]
            (cell,) = connection.execute("SELECT n, errors FROM run_cell").fetchall()
            linked = connection.execute("SELECT count(*) FROM run_response").fetchone()[0]
            broken = connection.execute("PRAGMA foreign_key_check").fetchall()
    figures: dict[str, Any] = {
        "exit code": (code, 0),
        "responses": (stored, n),
        "different requests": (keys, n),
        "run_cell (n, errors)": (cell, (n, 0)),
        "links to the run": (linked, n),
        "integrity_check": (whole, "ok"),
        "foreign_key_check": (broken, []),
    }
    for name, (found, expected) in figures.items():
        if found != expected:
            problems.append(f"{number.name}: {name} {found!r} instead of {expected!r}")
    if worst > allowed:
        problems.append(f"{number.name}: {worst} answers lost by one kill, more than {allowed}")
    print(
        f"  end: {stored} responses, integrity {whole}; paid twice {stats['paid'] - n} over {rounds} kills, "
        f"at worst {worst} at once (allowed {allowed})"
    )
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--ledger", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return worker(arguments.worker, arguments.n, arguments.ledger)
    sys.path.insert(0, str(ROOT))
    problems = [
        problem
        for number in (signal.SIGKILL, signal.SIGINT)
        for problem in attack(number, arguments.n, arguments.rounds, arguments.seed)
    ]
    print(json.dumps({"problems": problems}))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
