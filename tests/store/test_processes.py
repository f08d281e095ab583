"""Several processes on one ledger, several threads on one Ledger, and processes that are killed while they write."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sqlalchemy as sa
from store_worker import BATCH, SHARED, N
from store_world import World, check_cells, check_tally

from evalkit.store import Ledger, schema

HERE = Path(__file__).parent
ENV = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(schema.__file__).parents[2]), str(HERE)])}


def start(url: str, number: int, batches: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE / "store_worker.py"), url, str(number), str(batches)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV)


def check(ledger: Ledger) -> None:
    check_cells(ledger)
    check_tally(ledger)
    if ledger.engine.dialect.name == "sqlite":
        with ledger.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []


def test_processes_write_and_read_at_once(url: str) -> None:
    # The ledger does not exist yet: they make it at once, too.
    workers, batches = 3, 12
    running = [start(url, number, batches) for number in range(workers)]
    outputs = [process.communicate(timeout=240) for process in running]
    for process, (out, err) in zip(running, outputs, strict=True):
        assert process.returncode == 0, err
        assert out.split() == [str(batch) for batch in range(batches)]
    with Ledger.open(url) as ledger:
        check(ledger)
        count = "SELECT count(*) FROM {}"
        with ledger.engine.connect() as connection:
            own = sa.text(
                "SELECT count(*) FROM response r JOIN dataset_item d ON d.item_id = r.item_id WHERE position >= :s"
            )
            assert connection.scalar(own, {"s": SHARED}) == workers * batches * BATCH // 2
            assert connection.scalar(sa.text(count.format("run"))) == 1
            assert connection.scalar(sa.text(count.format("item"))) == N
            assert connection.scalar(sa.text("SELECT sum(n) FROM run_cell")) == connection.scalar(
                sa.text(count.format("response"))
            )


def test_threads_share_one_ledger(world: World) -> None:
    def work(number: int) -> list[int]:
        rows = [[world.row(i, number % 2, body=f"{number // 2} {batch} {i}") for i in range(10)] for batch in range(10)]
        return [i for batch in rows for i in world.ledger.add_responses(world.run, batch)]

    with ThreadPoolExecutor(8) as pool:
        ids = [i for found in pool.map(work, range(8)) for i in found]
    assert len(set(ids)) == len(ids) == 800
    check(world.ledger)


def test_kill_in_the_middle_of_a_write_loses_nothing_committed(url: str) -> None:
    rng = random.Random(0)
    committed = []
    for number in range(3):
        process = start(url, number, 100_000)
        assert process.stdout is not None
        committed.append([int(process.stdout.readline()) for _ in range(rng.randrange(1, 12))][-1])
        time.sleep(rng.random() / 10)
        process.kill()
        rest = process.communicate()[0].split("\n")
        # What was printed after we stopped reading is committed as well; the last line may be torn.
        committed[-1] = max([committed[-1], *(int(line) for line in rest[:-1] if line)])
    with Ledger.open(url) as ledger:
        check(ledger)
        with ledger.engine.connect() as connection:
            for number, last in enumerate(committed):
                name = sa.text(
                    "SELECT count(DISTINCT replicate) FROM verdict v JOIN annotator a ON a.id = v.annotator_id"
                    " WHERE a.name = :name AND replicate <= :last"
                )
                assert connection.scalar(name, {"name": f"judge {number}", "last": last}) == last + 1
        world = World(ledger, N)
        assert ledger.add_responses(world.run, [world.row(0)])
        check(ledger)
