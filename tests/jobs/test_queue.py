"""Submitting, cancelling and retrying: what is refused, and with which sentence."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from evalkit.errors import UserError
from evalkit.jobs import queue, tasks
from evalkit.jobs.place import Place, Traces, held
from evalkit.store.ledger_app import Jobs

GOOD = "models: [embedded/smollm2-135m-instruct]\nbenchmarks: [starter_arithmetic]\n"


def test_a_plan_is_queued_with_absolute_paths(
    store: str, jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nightly.yaml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    job = jobs.job(queue.submit(store, "plan", {"path": "nightly.yaml"}))
    assert (job.kind, job.name, job.status) == ("plan", "nightly", "queued")
    assert job.spec == {"folder": str(tmp_path), "path": str(tmp_path / "nightly.yaml")}


def test_a_plan_as_text_is_written_to_a_file_of_the_jobs_own(store: str, jobs: Jobs, tmp_path: Path) -> None:
    job = jobs.job(queue.submit(store, "plan", {"text": GOOD, "folder": str(tmp_path)}, " my\nplan "))
    assert job.name == "my plan"
    place = Place.of(store)
    place.make()
    line = tasks.command_line(Traces(place, job.id), job.kind, job.spec)
    assert line[4:] == ["run", f"{store}.jobs/job-{job.id}.yaml", "--store", store]
    assert Path(line[5]).read_text() == GOOD


def test_a_judge_is_the_command_as_it_would_be_typed(store: str, jobs: Jobs) -> None:
    asked = ["--model", "openai/judge", "--orders", "both", "--battles", "10"]
    job = jobs.job(queue.submit(store, "judge", {"arguments": asked}))
    line = tasks.command_line(Traces(Place.of(store), job.id), job.kind, job.spec)
    assert line[3:] == ["evalkit.cli", "judge", "run", *asked, "--store", store]


@pytest.mark.parametrize(
    ("kind", "spec", "said"),
    [
        ("tune", {}, "no kind 'tune' of job; kinds are: plan, retrain, loop, judge, probe, calibrate"),
        ("plan", {}, "needs a plan"),
        ("plan", {"path": "a", "text": "b"}, "needs a plan"),
        ("plan", {"path": "missing.yaml"}, "missing.yaml: the plan cannot be read"),
        ("plan", {"text": "modells: [a]"}, "plan line 1: modells: unknown key. Did you mean 'models'?"),
        ("plan", {"text": "models: [x"}, "plan line 1: not valid YAML"),
        ("plan", {"text": GOOD, "folder": "/nowhere/at/all"}, "no folder '/nowhere/at/all'"),
        ("judge", {"arguments": ["--modle", "x"]}, "evalkit judge run: No such option: --modle"),
        ("judge", {"arguments": ["--battles", "0"]}, "evalkit judge run: Invalid value for '--battles'"),
        ("judge", {"arguments": ["--model", "x", "--store=other.db"]}, "--store=other.db: not for a job"),
        ("probe", {"arguments": []}, "evalkit judge probe: Missing option '--model'"),
        ("calibrate", {"arguments": ["--help"]}, "--help: not for a job"),
    ],
)
def test_a_wrong_job_is_refused_at_once(store: str, kind: str, spec: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said.replace("[", r"\[").replace("?", r"\?")) as error:
        queue.submit(store, kind, spec)
    assert error.value.code == 2


def test_what_cannot_be_done_with_a_job_is_said(store: str, jobs: Jobs) -> None:
    number = queue.submit(store, "calibrate", {})
    with pytest.raises(UserError, match=f"job {number} is queued; cancel it first"):
        queue.retry(store, number)
    assert queue.logs(store, number) == ""
    assert queue.cancel(store, number).status == "cancelled"
    assert queue.retry(store, number).status == "queued"
    with pytest.raises(UserError, match="there is no job 99"):
        queue.cancel(store, 99)
    with pytest.raises(UserError, match="at most 200"):
        queue.submit(store, "calibrate", {}, "x" * 201)
    jobs.set_job(number, log="/nowhere/job.log")
    with pytest.raises(UserError, match="its log is not here any more: /nowhere"):
        queue.logs(store, number)


def test_a_schedule_that_was_off_makes_up_for_nothing(store: str, jobs: Jobs) -> None:
    with pytest.raises(UserError, match="'daily' is not minute"):
        queue.add_schedule(store, "calibrate", {}, "c", "daily")
    number = queue.add_schedule(store, "calibrate", {}, "c", "0 2 * * *")
    with pytest.raises(UserError, match="there is a schedule 'c' already"):
        queue.add_schedule(store, "calibrate", {}, "c", "0 2 * * *")
    jobs.set_schedule(number, next_at="2020-01-01T02:00:00.000Z")
    queue.enable_schedule(store, number, "0 2 * * *", False)
    queue.enable_schedule(store, number, "0 2 * * *", True)
    assert jobs.due(datetime.now(UTC).isoformat()) == []


def test_a_worker_is_seen_while_it_is_there(store: str) -> None:
    place = Place.of(store)
    place.make()
    assert queue.has_worker(store) is False
    with place.at_work(), place.at_work():
        assert queue.has_worker(store) is True
    assert queue.has_worker(store) is False
    assert queue.has_worker("postgresql://me@127.0.0.1/x") is None


def test_a_password_is_on_no_command_line() -> None:
    place = Place.of("postgresql://me:hunter22@host/evals")
    assert "hunter22" not in place.store and place.store.startswith("postgresql+psycopg://me@host/evals")
    assert tasks.environment(place)["PGPASSWORD"] == "hunter22"


def test_a_lock_is_one_holders(tmp_path: Path) -> None:
    with held(tmp_path / "lock") as first, held(tmp_path / "lock") as second:
        assert first is not None and second is None
    with held(tmp_path / "lock") as third:
        assert third is not None


def test_seconds_left() -> None:
    now = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    assert queue.seconds_left(25, 100, "2026-01-01T00:00:00.000Z", now) == 180
    assert queue.seconds_left(0, 100, "2026-01-01T00:00:00.000Z", now) is None
    assert queue.seconds_left(3, None, "2026-01-01T00:00:00.000Z", now) is None


def test_the_commands(store: str, tmp_path: Path, in_process: Callable[..., Any]) -> None:
    (tmp_path / "plan.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text("model: x")
    done = in_process("jobs", "submit", "--store", store, "--name", "mine", "plan", tmp_path / "plan.yaml")
    assert done.code == 0 and "Job 1 is queued." in done.out and f"evalkit worker --store {store}" in done.out
    done = in_process("jobs", "submit", "--store", store, "plan", tmp_path / "bad.yaml")
    assert done.code == 2 and "bad.yaml line 1: model: unknown key" in done.err
    done = in_process("jobs", "submit", "--store", store, "judge", "--model", "openai/x", "--replicates", "2")
    assert done.code == 0 and "Job 2 is queued." in done.out
    done = in_process(
        "jobs", "submit", "--store", store, "--cron", "0 2 * * *", "--name", "nightly", "plan", tmp_path / "plan.yaml"
    )
    assert done.code == 0 and done.out.count("02:00 UTC, in") == 3
    rows = in_process("jobs", "list", "--store", store, "--json").json["rows"]
    assert [(row["job_id"], row["name"], row["status"]) for row in rows] == [
        (2, "judge", "queued"),
        (1, "mine", "queued"),
    ]
    assert "No worker runs." in in_process("jobs", "list", "--store", store).out
    assert "Job 1 is cancelled" in in_process("jobs", "cancel", 1, "--store", store).out
    assert in_process("jobs", "retry", 1, "--store", store).code == 0
    assert "printed nothing" in in_process("jobs", "logs", 1, "--store", store).out
    assert "nightly is off" in in_process("jobs", "schedule", "nightly", "--off", "--store", store).out
    assert in_process("jobs", "schedule", "daily", "--off", "--store", store).code == 2
    (row,) = in_process("jobs", "schedule", "--store", store, "--json").json["rows"]
    assert (row["name"], row["enabled"]) == ("nightly", False)
