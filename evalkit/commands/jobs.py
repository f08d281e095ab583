"""The commands for jobs: worker, jobs list, submit, cancel, retry, logs, schedule."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from evalkit.commands import look, printing
from evalkit.commands.store import opened
from evalkit.errors import UserError

jobs_app = typer.Typer(
    help="Work that `evalkit worker` does: queue, log, cancel, retry, schedule.", no_args_is_help=True
)
Job = Annotated[int, typer.Argument(help="Its number in `evalkit jobs list`.", min=0, max=look.ROWS)]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(worker)
    jobs_app.command("list")(list_jobs)
    # What follows the kind is the job's own command line.
    jobs_app.command("submit", context_settings={"ignore_unknown_options": True})(submit)
    for command in (cancel, retry, logs, schedule):
        jobs_app.command()(command)
    app.add_typer(jobs_app, name="jobs")


def worker(
    store: look.Store = look.STORE,
    workers: Annotated[int, typer.Option(min=1, max=64, help="How many jobs run at once.")] = 1,
    redis: Annotated[
        str | None, typer.Option(help="Queue at this URL, redis://HOST; default beside the ledger.")
    ] = None,
) -> None:
    """Do the jobs of a ledger, each in a process of its own, until Ctrl-C; then they go on when a worker runs again."""
    from evalkit.jobs.worker import Worker

    Worker(store, workers, redis, say=printing.say).run()


def list_jobs(
    limit: Annotated[int, typer.Option(min=1, max=look.ROWS, help="The newest so many.")] = 20,
    store: look.Store = look.STORE,
    json: look.Json = False,
) -> None:
    """List jobs, newest first."""
    from evalkit.jobs.queue import has_worker
    from evalkit.store import frames_app

    with opened(store) as ledger:
        rows = printing.records(frames_app.jobs(ledger, limit=limit))
    if json:
        printing.print_json({"rows": rows})
        return
    columns = {
        "job_id": "job", "kind": "kind", "name": "name", "status": "status", "done": "requests", "run": "run",
        "attempts": "attempts", "created_at": "queued (UTC)", "message": "message",
    }  # fmt: skip
    for row in rows:
        row["done"] = "" if row["total"] is None else f"{row['progress']:.0f} of {row['total']:.0f}"
        row["run"] = None if row["run_id"] is None else int(row["run_id"])
        row["created_at"] = row["created_at"][:16].replace("T", " ")
    printing.print_table(rows, columns)
    if any(row["status"] in ("queued", "running") for row in rows) and has_worker(store) is False:
        printing.say(f"No worker runs. Type: evalkit worker --store {store}")


def submit(
    kind: Annotated[str, typer.Argument(help="plan, retrain, loop, judge, probe or calibrate.")],
    arguments: Annotated[list[str], typer.Argument(help="The plan's file; else as after `evalkit judge run`, ...")],
    name: Annotated[str, typer.Option(help="What lists call it.")] = "",
    cron: Annotated[
        str | None, typer.Option(help="Again and again: minute hour day month weekday, UTC, as '0 2 * * *'.")
    ] = None,
    store: look.Store = look.STORE,
) -> None:
    """Queue a job for `evalkit worker`; --name, --cron and --store stand before the kind."""
    from evalkit.jobs import queue
    from evalkit.jobs.tasks import OF_A_PLAN

    spec: dict[str, Any] = {"arguments": arguments}
    if kind in OF_A_PLAN:
        if len(arguments) != 1:
            raise UserError(f"a job of kind {kind} takes one argument, the plan's file, not {len(arguments)}", code=2)
        spec = {"path": arguments[0]}
    if cron is None:
        printing.say(f"Job {queue.submit(store, kind, spec, name)} is queued.")
    else:
        queue.add_schedule(store, kind, spec, name, cron)
        printing.say(f"Scheduled. {_next(cron)}")
    if queue.has_worker(store) is False:
        printing.say(f"No worker runs yet. Type: evalkit worker --store {store}")


def cancel(job: Job, store: look.Store = look.STORE) -> None:
    """Cancel a job; one that runs is interrupted as by Ctrl-C, and what was answered is stored."""
    from evalkit.jobs import queue

    row = queue.cancel(store, job)
    if row.status != "cancelled":
        raise UserError(f"job {job} is {row.status} already", code=1)
    printing.say(f"Job {job} is cancelled.")


def retry(job: Job, store: look.Store = look.STORE) -> None:
    """Queue a job again that has ended; it goes on where it was."""
    from evalkit.jobs import queue

    queue.retry(store, job)
    printing.say(f"Job {job} is queued.")


def logs(
    job: Job,
    tail: Annotated[int, typer.Option(min=1, max=100_000, help="The last so many lines.")] = 200,
    store: look.Store = look.STORE,
) -> None:
    """Print the end of what a job printed."""
    from evalkit.jobs import queue

    printing.say(queue.logs(store, job, tail) or f"Job {job} has printed nothing yet.")


def schedule(
    name: Annotated[str | None, typer.Argument(help="Turn this one on or off; without it all are listed.")] = None,
    on: Annotated[
        bool | None, typer.Option("--on/--off", help="Whether its jobs are queued when they are due.")
    ] = None,
    store: look.Store = look.STORE,
    json: look.Json = False,
) -> None:
    """List schedules, or turn one on or off; `evalkit jobs submit --cron` makes them."""
    from evalkit.jobs import queue
    from evalkit.store import frames_app

    if (name is None) != (on is None):
        raise UserError("give the schedule's name together with --on or --off", code=2)
    with opened(store) as ledger:
        rows = printing.records(frames_app.schedules(ledger))
    if name is not None:
        found = next((row for row in rows if row["name"] == name), None)
        if found is None:
            raise UserError(f"there is no schedule {name!r}; there are: {', '.join(r['name'] for r in rows)}", code=2)
        queue.enable_schedule(store, int(found["schedule_id"]), found["cron"], bool(on))
        printing.say(f"Schedule {name} is {'on' if on else 'off'}. {_next(found['cron']) if on else ''}".rstrip())
        return
    if json:
        printing.print_json({"rows": rows})
        return
    for row in rows:
        row |= {"state": "on" if row["enabled"] else "off", "last": (row["last_at"] or "")[:16].replace("T", " ")}
    columns = {"name": "name", "kind": "kind", "cron": "cron (UTC)", "state": "state", "last": "last (UTC)"}
    printing.print_table(rows, columns)
    for row in (row for row in rows if row["enabled"]):
        printing.say(f"{row['name']}: {_next(row['cron'])}")


def _next(cron: str) -> str:
    from evalkit.jobs.schedule import in_words, next_times

    now = datetime.now(UTC)
    return f"Next: {'; '.join(in_words(at, now) for at in next_times(cron, now))}."
