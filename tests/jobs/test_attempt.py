"""One attempt at a job, with small scripts in the place of evalkit's commands."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evalkit.jobs import attempt, tasks
from evalkit.jobs.attempt import Attempt, Stop
from evalkit.jobs.place import Place, Traces, held
from evalkit.store.ledger_app import JobRow, Jobs

Work = Callable[..., JobRow]


@pytest.fixture
def stop() -> Stop:
    return Stop(threading.Event(), threading.Event())


@pytest.fixture
def traces(store: str) -> Traces:
    place = Place.of(store)
    place.make()
    return Traces(place, 1)


@pytest.fixture
def work(jobs: Jobs, traces: Traces, stop: Stop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    """Returns a function that does job 1 by a script, and returns its row."""
    monkeypatch.setattr(attempt, "BEAT_S", 0.05)
    monkeypatch.setattr(attempt, "POLL_S", 0.01)
    monkeypatch.setattr(attempt, "GRACE_S", 0.5)
    jobs.enqueue("plan", {"folder": str(tmp_path), "path": "plan.yaml"}, "test")

    def do(script: str, meanwhile: Callable[[], object] = lambda: None) -> JobRow:
        monkeypatch.setattr(tasks, "command_line", lambda *_: [sys.executable, "-P", "-I", "-c", script])
        with held(traces.owner) as owner:
            assert owner is not None
            claimed = jobs.claim(1)
            assert claimed is not None
            thread = threading.Thread(target=meanwhile)
            thread.start()
            Attempt(jobs, claimed, traces, owner, stop, print).work()
            thread.join()
        return jobs.job(1)

    yield do
    assert not traces.is_alive()


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_a_job_that_ends_well(work: Work, traces: Traces) -> None:
    row = work("print('all done')")
    assert (row.status, row.message, row.log) == ("done", "", str(traces.log))
    head, said = traces.log.read_text().splitlines()
    assert head.startswith("--- attempt 1, 20") and said == "all done"
    assert traces.log.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "import sys; sys.exit('\\nError: plan.yaml line 2: areena: unknown key')",
            "plan.yaml line 2: areena: unknown key",
        ),
        ("import sys; sys.exit(3)", "it ended with exit code 3; its log may say why."),
        ("import sys; sys.exit(130)", "its process was interrupted from outside; try again to go on from there."),
        (
            "import os; os.kill(os.getpid(), 9)",
            "its process was ended by SIGKILL, perhaps as memory ran out; try again to go on from there.",
        ),
    ],
)
def test_why_a_job_failed_is_a_sentence(work: Work, script: str, said: str) -> None:
    row = work(script)
    assert (row.status, row.message) == ("failed", said)


def test_an_error_of_an_earlier_attempt_is_not_told_again(work: Work, jobs: Jobs) -> None:
    work("import sys; sys.exit('\\nError: too early')")
    jobs.retry(1)
    row = work("import sys; sys.exit(1)")
    assert row.message == "it ended with exit code 1; its log may say why."
    assert row.attempts == 2


def test_a_folder_that_has_gone_fails_the_job(work: Work, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt.subprocess, "Popen", refuse)
    row = work("pass")
    assert (row.status, row.message) == ("failed", "the job's process cannot be started: [Errno 12] no memory")


def refuse(*_: object, **__: object) -> None:
    raise OSError(12, "no memory")


STUBBORN = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(60)"
POLITE = "import time\ntry:\n    print('up', flush=True); time.sleep(60)\nexcept KeyboardInterrupt:\n    print('bye')"


def is_up(traces: Traces) -> bool:
    return traces.log.exists() and "\nup\n" in traces.log.read_text()


def test_cancel_interrupts(work: Work, jobs: Jobs, traces: Traces) -> None:
    def cancel() -> None:
        until(lambda: is_up(traces))
        jobs.cancel(1)

    row = work(POLITE, cancel)
    assert row.status == "cancelled"
    assert traces.log.read_text().endswith("bye\n")


def test_cancel_kills_what_does_not_stop(work: Work, jobs: Jobs, traces: Traces) -> None:
    def cancel() -> None:
        until(lambda: is_up(traces))
        jobs.cancel(1)

    start = time.monotonic()
    assert work(STUBBORN, cancel).status == "cancelled"
    assert time.monotonic() - start < 30


def test_a_stopped_worker_gives_its_job_back(work: Work, stop: Stop, traces: Traces) -> None:
    def end() -> None:
        until(lambda: is_up(traces))
        stop.now.set()
        stop.at_once.set()

    row = work(STUBBORN, end)
    assert (row.status, row.pid) == ("queued", None)
    assert row.message == "stopped with its worker; goes on when a worker runs"


def test_processes_that_a_job_leaves_behind_end_with_it(work: Work, traces: Traces) -> None:
    child = "import time; time.sleep(60)"
    work(f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', '{child}']).pid)")
    left = int(traces.log.read_text().split()[-1])
    until(lambda: not Path(f"/proc/{left}").exists() or "Z" in Path(f"/proc/{left}/stat").read_text().split()[2])


def test_a_living_process_of_an_earlier_worker_is_waited_for(work: Work, traces: Traces) -> None:
    with traces.log.open("ab") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        line = [sys.executable, "-c", "import time; time.sleep(1); print('orphan ended', flush=True)"]
        orphan = subprocess.Popen(line, stdout=log, start_new_session=True)
    traces.owner.write_text(str(orphan.pid))
    row = work("print('mine')")
    assert row.status == "done"
    said = [line for line in traces.log.read_text().splitlines() if not line.startswith("---")]
    assert said == ["orphan ended", "mine"]
    assert orphan.wait() == 0


def test_cancel_reaches_a_process_of_an_earlier_worker(work: Work, jobs: Jobs, traces: Traces) -> None:
    with traces.log.open("ab") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        orphan = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=log, start_new_session=True)
    traces.owner.write_text(str(orphan.pid))
    until(lambda: "up" in traces.log.read_text())
    assert work("print('mine')", lambda: jobs.cancel(1)).status == "cancelled"
    assert orphan.wait() == -signal.SIGKILL
    assert "mine" not in traces.log.read_text()


def test_no_secret_stays_in_a_log(work: Work, traces: Traces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-0123456789")
    monkeypatch.setenv("A_TOKEN", "short")
    first = "import os, time\nprint('key', os.environ['SOME_API_KEY'], 'short', flush=True)"
    work(first + "\ntime.sleep(0.2)\nprint('again sk-0123456789 end')")
    text = traces.log.read_text()
    assert "key ************* short\nagain ************* end\n" in text


def test_a_log_stays_short_and_keeps_its_end(work: Work, traces: Traces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "LOG_BYTES", 20_000)
    work("import time\nfor i in range(3000):\n    print('line', i, flush=True)\n    if i % 500 == 0: time.sleep(0.1)")
    lines = traces.log.read_text().splitlines()
    assert traces.log.stat().st_size < 30_000
    assert lines[0] == "(the log's beginning was dropped)" and lines[-1] == "line 2999"


def test_secrets_are_told_by_their_names() -> None:
    found = tasks.secrets({"OPENAI_API_KEY": "k" * 9, "HF_TOKEN": "t" * 10, "HOME": "/home/someone", "KEY": "short"})
    assert found == [b"t" * 10, b"k" * 9]


def test_the_processes_environment_finds_the_source(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.curdir)
    assert tasks.environment(Place.of(store))["PYTHONPATH"].split(os.pathsep)[0] == os.getcwd()
