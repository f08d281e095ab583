"""`evalkit worker` as a process: plans against a server that counts what it was asked, cancelled and killed halfway."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from endpoint_server import Answer, MockServer, chat
from postgres_server import fresh

from evalkit.jobs import queue
from evalkit.store import Ledger, frames, frames_app
from evalkit.store.ledger_app import JobRow, Jobs

PROMPTS = 24
DELAY = 1.0  # seconds: a plan takes 12 of them until a test has no more need to interrupt it


class Counting:
    """Answers every prompt, and keeps how often each was asked for."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.delay = DELAY

    def __call__(self, method: str, path: str, body: bytes) -> Answer:
        prompt = str(json.loads(body)["messages"][-1]["content"])
        self.asked[prompt] += 1
        return Answer(chat(f"answer to {prompt}"), delay=self.delay)


@dataclass(frozen=True)
class World:
    """A ledger, a server, and workers that are ended with the test."""

    store: str
    folder: Path
    environment: dict[str, str]
    server: Counting
    jobs: Jobs
    workers: list[subprocess.Popen[str]]

    def worker(self, *options: object) -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "evalkit.cli", "worker", "--store", self.store, *map(str, options)]
        said = (self.folder / f"worker-{len(self.workers)}.txt").open("w")
        process = subprocess.Popen(line, cwd=self.folder, env=self.environment, stdout=said, stderr=said, text=True)
        self.workers.append(process)
        return process

    def submit(self, plan: str = "plan.yaml", name: str = "") -> int:
        return queue.submit(self.store, "plan", {"path": plan, "folder": str(self.folder)}, name)

    def until(self, job: int, true: Callable[[JobRow], object], seconds: float = 300.0) -> JobRow:
        end = time.monotonic() + seconds
        while not true(row := self.jobs.job(job)):
            assert time.monotonic() < end, (row, self.said())
            time.sleep(0.05)
        return row

    def said(self) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.glob("worker-*.txt")))


@contextmanager
def made(store: str, jobs: Jobs, tmp_path: Path, environment: dict[str, str]) -> Iterator[World]:
    counting = Counting()
    with MockServer(counting) as server:
        prompts = [{"id": str(i), "prompt": f"Question {i}?"} for i in range(PROMPTS)]
        (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, prompts)))
        model = {"model": "openai/slow", "base_url": server.url, "max_concurrency": 2}
        plan = {"models": [model], "arena": {"prompts": "prompts.jsonl"}}
        (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
        workers: list[subprocess.Popen[str]] = []
        variables = {**environment, "OPENAI_API_KEY": "sk-of-this-test"}
        try:
            yield World(store, tmp_path, variables, counting, jobs, workers)
        finally:
            for process in workers:
                if process.poll() is None:
                    process.send_signal(signal.SIGINT)
            for process in workers:
                process.wait(timeout=60)


@pytest.fixture
def world(store: str, jobs: Jobs, tmp_path: Path, environment: dict[str, str]) -> Iterator[World]:
    with made(store, jobs, tmp_path, environment) as one:
        yield one


@pytest.fixture(params=["redis", "postgresql"])
def served(
    request: pytest.FixtureRequest, store: str, tmp_path: Path, environment: dict[str, str]
) -> Iterator[tuple[World, list[str]]]:
    """A world whose queue is kept by a server, and the worker's options for it."""
    options: list[str] = []
    if request.param == "redis":
        options = ["--redis", request.getfixturevalue("redis_url")]
    else:
        store = fresh(request.getfixturevalue("postgres"), "jobs")
    with Ledger.open(store) as ledger, made(store, Jobs(ledger), tmp_path, environment) as one:
        yield one, options


def ended(row: JobRow) -> bool:
    return row.status in ("done", "failed", "cancelled", "died")


def test_cancelled_then_tried_again_then_stopped_with_its_worker(world: World) -> None:
    worker = world.worker()
    job = world.submit()
    row = world.until(job, lambda row: row.progress >= 2)
    assert row.status == "running" and row.total == PROMPTS and row.run_id == 1
    queue.cancel(world.store, job)
    world.until(job, lambda _: "): cancelled" in world.said())
    with world.jobs.ledger.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT status FROM run").scalar() == "stopped"
    asked = sum(world.server.asked.values())
    assert 2 <= asked < PROMPTS

    queue.retry(world.store, job)
    world.until(job, lambda row: row.attempts == 2 and row.progress > asked)
    worker.send_signal(signal.SIGINT)  # Ctrl-C
    assert worker.wait(timeout=60) == 0
    row = world.jobs.job(job)
    assert (row.status, row.message) == ("queued", "stopped with its worker; goes on when a worker runs")
    assert queue.has_worker(world.store) is False

    world.server.delay = 0.0
    world.worker()
    row = world.until(job, ended)
    assert (row.status, row.progress, row.attempts) == ("done", PROMPTS, 3)
    assert set(world.server.asked.values()) == {1} and len(world.server.asked) == PROMPTS
    log = queue.logs(world.store, job)
    assert log.count("--- attempt") == 3 and "sk-of-this-test" not in log and "24/24" in log


@pytest.mark.parametrize("the_job", ["is killed too", "goes on", "is done before"])
def test_killed_halfway_then_another_worker_finishes(world: World, the_job: str) -> None:
    worker = world.worker()
    job = world.submit()
    row = world.until(job, lambda row: row.progress >= 2 and row.pid != worker.pid)
    worker.kill()
    worker.wait()
    assert row.pid is not None
    world.server.delay = 5.0 if the_job == "goes on" else 0.1  # it must not be done before the next worker is there
    if the_job == "is killed too":
        os.killpg(row.pid, signal.SIGKILL)
    if the_job == "is done before":
        world.until(job, lambda _: not Path(f"/proc/{row.pid}").exists())
        assert world.jobs.job(job).progress < PROMPTS
    world.worker()
    if the_job == "goes on":
        world.until(job, lambda _: "waiting for that" in world.said())
        world.server.delay = 0.1
    world.until(job, lambda row: row.attempts == 2)
    row = world.until(job, ended)
    assert (row.status, row.progress, row.message) == ("done", PROMPTS, "")
    assert len(world.server.asked) == PROMPTS
    twice = sum(world.server.asked.values()) - PROMPTS
    # A process that lives on pays nothing twice; a killed one what was in flight, or answered and not stored yet.
    assert twice <= 6 if the_job == "is killed too" else twice == 0
    assert "its worker was ended" in world.said()
    assert ("waiting for that" in world.said()) == (the_job == "goes on")
    assert len(frames.responses(world.jobs.ledger, 1)) == PROMPTS


def test_two_workers_share_the_queue_and_a_missed_schedule_fires_once(world: World) -> None:
    world.server.delay = 0.0
    good = [world.submit(name=f"number {i}") for i in range(3)]
    (world.folder / "bad.yaml").write_text((world.folder / "plan.yaml").read_text())
    bad = world.submit("bad.yaml")
    (world.folder / "bad.yaml").write_text("models: [openai/x]\nareena: 1\n")  # edited after it was queued
    spec = {"path": "plan.yaml", "folder": str(world.folder)}
    schedule = queue.add_schedule(world.store, "plan", spec, "nightly", "0 2 * * *")
    world.jobs.set_schedule(schedule, next_at="2020-01-01T02:00:00.000Z")  # no worker ran for years
    for _ in range(2):
        world.worker("--workers", 2)
    for job in good:
        assert world.until(job, ended).status == "done"
    row = world.until(bad, ended)
    assert row.status == "failed"
    assert row.message.startswith(f"{world.folder}/bad.yaml line 2: areena: unknown key. Did you mean 'arena'?")

    def by_schedule(_: JobRow) -> bool:
        frame = frames_app.jobs(world.jobs.ledger)
        return bool((frame.loc[frame["schedule_id"] == schedule, "status"] == "done").any())

    world.until(bad, by_schedule)
    time.sleep(1.5)  # another round of both
    frame = frames_app.jobs(world.jobs.ledger)
    assert list(frame["attempts"]) == [1] * 5
    assert (frame["schedule_id"] == schedule).sum() == 1
    (left,) = frames_app.schedules(world.jobs.ledger).to_dict("records")
    assert left["last_at"] is not None and left["next_at"] > left["last_at"]
    assert set(world.server.asked.values()) <= {1, 2, 3}  # jobs of one plan at once may ask the same
    assert world.said().count(": started") == 5


def test_with_a_queue_on_a_server_a_killed_job_is_resumed(served: tuple[World, list[str]]) -> None:
    world, options = served
    worker = world.worker(*options)
    job = world.submit()
    row = world.until(job, lambda row: row.progress >= 2 and row.pid != worker.pid)
    worker.kill()
    worker.wait()
    assert row.pid is not None
    os.killpg(row.pid, signal.SIGKILL)
    world.server.delay = 0.0
    world.worker(*options)
    row = world.until(job, lambda row: row.attempts == 2)
    row = world.until(job, ended)
    assert (row.status, row.progress) == ("done", PROMPTS)
    assert "its worker was ended" in world.said()
    assert len(world.server.asked) == PROMPTS
    assert sum(world.server.asked.values()) <= PROMPTS + 6, "what was in flight, or answered and not stored yet"
    assert len(frames.responses(world.jobs.ledger, 1)) == PROMPTS
    assert not re.search("Warning|Traceback|of-this-test", world.said())


def test_a_job_cancelled_while_no_worker_ran_is_ended_by_the_next_one(world: World) -> None:
    worker = world.worker()
    job = world.submit()
    row = world.until(job, lambda row: row.progress >= 2 and row.pid != worker.pid)
    worker.kill()
    worker.wait()
    assert row.pid is not None
    world.server.delay = 4.0  # it would take too long to be done before the next worker is there
    queue.cancel(world.store, job)
    world.worker()
    end = time.monotonic() + 300
    while Path(f"/proc/{row.pid}").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert world.jobs.job(job).status == "cancelled"
    assert sum(world.server.asked.values()) < PROMPTS


def test_a_job_of_a_silent_machine_died(world: World) -> None:
    job = world.submit()
    claimed = world.jobs.claim(job)
    assert claimed is not None
    with Ledger.open(world.store) as ledger, ledger.write() as connection:
        changes = "host = 'elsewhere', pid = 7, heartbeat_at = '2020-01-01T00:00:00.000Z'"
        connection.exec_driver_sql(f"UPDATE job SET {changes} WHERE id = {job}")
    world.worker()
    row = world.until(job, ended)
    assert row.status == "died"
    assert row.message.startswith("no sign of life from process 7 on elsewhere since 2020-01-01")


def test_a_redis_that_is_not_there_is_said(world: World) -> None:
    worker = world.worker("--redis", "redis://127.0.0.1:9/0")
    assert worker.wait(timeout=60) == 1
    assert "Error: --redis: cannot be used: " in world.said()
