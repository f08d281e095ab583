"""The commands that look: runs, show, samples; and what `run` prints at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evalkit.commands import printing
from evalkit.commands.store import opened, run_id

if TYPE_CHECKING:
    from evalkit.estimate import Estimate
    from evalkit.plan import Plan
    from evalkit.report import Board, Failures, ScoreTable
    from evalkit.report.grades import GradeMean
    from evalkit.stages import Result
    from evalkit.store import Ledger

Store = Annotated[str, typer.Option("--store", envvar="EVALKIT_STORE", help="Ledger: a file or a database URL.")]
STORE = "evalkit.db"
ROWS = 2**63 - 1  # more do not fit a database's integer
Run = Annotated[int | None, typer.Argument(help="Run number; by default the last.", min=0, max=ROWS)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]

BOARD = {
    "rank": "rank", "model": "model", "rating": "rating:.0f", "lower": "from:.0f", "upper": "to:.0f", "votes": "battles"
}  # fmt: skip


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (runs, show, samples):
        app.command()(command)


def runs(
    limit: Annotated[int, typer.Option(min=1, max=ROWS, help="The newest so many.")] = 20,
    store: Store = STORE,
    json: Json = False,
) -> None:
    """List runs, newest first."""
    from evalkit.store import frames

    with opened(store) as ledger:
        rows = printing.records(frames.runs(ledger, limit=limit))
    if json:
        printing.print_json({"rows": rows})
        return
    columns = {
        "run_id": "run", "name": "name", "status": "status", "stage": "stage", "n": "answers", "errors": "errors",
        "cached": "cached", "cost": "dollars:.2f", "started_at": "started (UTC)",
    }  # fmt: skip
    for row in rows:
        row |= {"started_at": row["started_at"][:16].replace("T", " "), "cost": _cost(row)}
    printing.print_table(rows, columns)
    for row in (r for r in rows if r["message"]):
        printing.say(f"Run {row['run_id']}: {row['message']}")


def show(run: Run = None, store: Store = STORE, json: Json = False) -> None:
    """Show a run: scores, where each model fails, requests by model and dataset."""
    from evalkit.report.failures import failures
    from evalkit.report.scores import score_table
    from evalkit.store import frames

    with opened(store) as ledger:
        number = run_id(ledger, run)
        cells = printing.records(frames.run_cells(ledger, number))
        scores = score_table(ledger, number)
        fails = failures(ledger, number, 0, scores=scores)
    if json:
        printing.print_json({"run": number, "rows": cells, "scores": scores.cells, "failures": fails.models})
        return
    print_scores(scores)
    _print_failures(fails)
    columns = {
        "model": "model", "dataset": "dataset", "n": "answers", "errors": "errors", "cached": "cached",
        "prompt_tokens": "tokens in", "completion_tokens": "tokens out", "cost": "dollars:.2f",
        "seconds": "seconds:.1f",
    }  # fmt: skip
    for row in cells:
        row["cost"] = _cost(row)
    nothing = [key for key in ("cached", "cost") if not any(row[key] for row in cells)]
    columns = {key: heading for key, heading in columns.items() if key not in nothing}
    printing.print_table(cells, columns, title="Requests")


def samples(
    run: Run = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only answers that a metric failed, and errors.")] = False,
    model: Annotated[str | None, typer.Option(help="Only this model's.")] = None,
    task: Annotated[str | None, typer.Option(help="Only this task's.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=ROWS, help="So many.")] = 20,
    after: Annotated[int, typer.Option(min=0, max=ROWS, help="Go on behind this sample number.")] = 0,
    sample: Annotated[int | None, typer.Option("--id", min=0, max=ROWS, help="Everything about one sample.")] = None,
    store: Store = STORE,
    json: Json = False,
) -> None:
    """Look at answers, one page at a time."""
    from evalkit.store import frames

    with opened(store) as ledger:
        if sample is not None:
            _print_sample(frames.sample(ledger, sample), json)
            return
        number = run_id(ledger, run)
        ids = _failed(ledger, number, model, task, after, limit) if failed else None
        if ids is None:
            page = frames.responses(ledger, number, model=model, dataset=task, after=after or None, limit=limit)
            ids = [int(i) for i in page.response_id]
        rows = [_preview(frames.sample(ledger, i)) for i in ids]
    columns = {"id": "id", "model": "model", "task": "task", "prompt": "prompt", "answer": "answer", "grades": "grades"}
    printing.show(rows, columns, as_json=json, run=number)
    if not json and len(rows) == limit:
        printing.say(f"More: --after {rows[-1]['id']}. One in full: evalkit samples --id {rows[0]['id']}")


def _cost(row: Mapping[str, Any]) -> float | str:
    return "unknown" if row["unpriced"] and not row["cost"] else row["cost"]


# -- what is printed ----------------------------------------------------------------------------------------------


def print_estimates(estimates: Sequence[Estimate], json: bool) -> None:
    """Prints what a plan or a judge would take."""
    rows = [printing.plain(row) for row in estimates]
    columns = {
        "model": "model", "role": "role", "requests": "requests", "cached": "cached", "prompt_tokens": "tokens in",
        "completion_tokens": "tokens out, at most", "dollars": "dollars, at most:.2f",
    }  # fmt: skip
    total = sum(row["dollars"] or 0.0 for row in rows)
    unpriced = sorted({row["model"] for row in rows if row["dollars"] is None and row["requests"]})
    printing.show(rows, columns, as_json=json, dollars=total, unpriced=unpriced)
    if json:
        return
    note = f" (no price known for {', '.join(unpriced)})" if unpriced else ""
    adaptive = [row["role"] for row in rows if row["at_most"]]
    most = "At most " if adaptive else ""
    printing.say(
        f"{most}{sum(r['requests'] for r in rows)} requests, at most {total:.2f} dollars{note}. Nothing was sent."
    )
    if adaptive:
        printing.say(
            f"An adaptive jury asks {', '.join(adaptive)} only as long as a verdict is open: fewer, in the end."
        )
    if any(row["role"] != "contestant" and row["requests"] for row in rows):
        printing.say("A judge whose answer cannot be read is asked once more: these requests come on top.")


def print_scores(table: ScoreTable) -> None:
    """Prints a run's score table: a task a line, a model a column, the standard error beside the score."""
    wide, long = [], []
    for task in table.tasks:
        cells = {m: table.cell(m, task.name) for m in table.models}
        n = [c.n for c in cells.values() if c is not None and c.n is not None]
        row: dict[str, Any] = {
            "task": task.name,
            "metric": task.metric.removesuffix(",none"),
            "n": max(n, default=None),
        }
        scores = {m: _score(cell) for m, cell in cells.items()}
        wide.append(row | scores)
        long += [row | {"model": m, "score": score} for m, score in scores.items()]
    if wide:
        head, title = {"task": "task", "metric": "metric", "n": "n"}, "Scores (± standard error)"
        models = {m: m.replace(":", " ") for m in table.models}
        if printing.fits(wide, head | models):
            printing.print_table(wide, head | models, title=title)
        else:
            printing.print_table(long, head | {"model": "model", "score": "score"}, title=title)


def _score(cell: Any) -> str | None:
    if cell is None:
        return None
    if cell.value is None:
        return _errors(cell.errors)
    error = "" if cell.stderr is None else f" ± {cell.stderr:.3f}"
    return f"{cell.value:.3f}{error}" + (f" ({_errors(cell.errors)})" if cell.errors else "")


def _errors(n: int) -> str:
    return f"{n} error{'' if n == 1 else 's'}"


def print_board(board: Board) -> None:
    """Prints a leaderboard with what was done to get it."""
    from evalkit.stats.votes import list_names

    rows = [
        printing.plain(row)
        | {"rank": str(row.rank_low) if row.rank_low == row.rank_high else f"{row.rank_low}-{row.rank_high}"}
        for row in board.rows
    ]
    printing.print_table(
        rows, BOARD, title=f"Leaderboard ({board.criterion}, by {list_names(board.judges) or 'nobody'})"
    )
    if rows:
        printing.say(
            f"{board.method}, ties: {board.ties}, reference: {board.reference}, {board.n} outcomes, {board.errors} "
            f"verdicts without a result; intervals: {board.interval}; ranks: {board.ranks}."
        )
    for warning in (*board.left_out, *board.warnings):
        printing.say(f"Note: {warning}")


def print_grades(grades: Sequence[GradeMean]) -> None:
    """Prints the means of judges' grades."""
    columns = {
        "judge": "judge", "criterion": "criterion", "model": "model", "mean": "mean:.3f", "lower": "from:.3f",
        "upper": "to:.3f", "n": "n", "errors": "errors",
    }  # fmt: skip
    if grades:
        printing.print_table([printing.plain(row) for row in grades], columns, title="Grades")


def print_summary(ledger: Ledger, plan: Plan, result: Result, json: bool) -> None:
    """Prints the end of `run`: the report's findings, what the run took, and where everything is."""
    from evalkit.report import build_report
    from evalkit.report.grades import grade_means
    from evalkit.store import frames

    report = build_report(ledger, result.run_id, examples=0)
    cells = frames.run_cells(ledger, result.run_id)
    sums = {k: int(cells[k].sum()) for k in ("n", "errors", "cached", "unpriced", "prompt_tokens", "completion_tokens")}
    names = [judge.name for judge in plan.judges] + [jury.name for jury in plan.juries or ()]
    grades = grade_means(ledger, run_id=result.run_id, judges=names) if names else ()
    if json:
        printing.print_json(
            {"run": result, "store": ledger.url, "rows": report.scores.cells, "summary": report.summary}
            | {
                "grades": grades,
                "leaderboard": report.board,
                "judges": report.judges.rows,
                "correlation": report.correlations.rows,
            }
            | {"failures": report.failures.models, "totals": sums | {"cost": float(cells["cost"].sum())}}
        )
        return
    print_scores(report.scores)
    if report.board is not None:
        print_board(report.board)
    print_grades(grades)
    _print_failures(report.failures)
    said = report.board.left_out if report.board else ()  # below the board
    for sentence in report.summary:
        if sentence not in said:
            printing.say(sentence)
    for task, reason in result.skipped.items():
        printing.say(f"Skipped {task}: {reason}")
    done = "All of this had been done before." if not result.fresh else ""
    printing.say(
        f"Run {result.run_id} ({plan.name}): {result.status}. {sums['n']} answers, {sums['cached']} of them from the "
        f"ledger, {sums['errors']} failed; {sums['prompt_tokens']} tokens in, {sums['completion_tokens']} out, "
        f"{in_dollars(float(cells['cost'].sum()), sums['unpriced'])}. {done}".rstrip()
    )
    if result.errors:
        for kind, n, example in error_kinds(ledger, result.run_id):
            printing.say(f"  {n} x {kind}: {example}")
        printing.say("Run the same command again to retry what failed.")
    if result.not_sent:
        printing.say(f"{result.not_sent} requests were not sent: the dollar budget is used up.")
    printing.say(f"Ledger: {plan.store}")
    if result.report:
        printing.say(f"Report: {result.report.resolve()}")


def in_dollars(cost: float, unpriced: int) -> str:
    """Says what was paid, and that it is not all where answers have no known price."""
    unknown = f"an unknown price for {unpriced} answers (see `prices` in the plan)" if unpriced else ""
    return " and ".join(filter(None, (f"{cost:.2f} dollars" if cost or not unpriced else "", unknown)))


def _print_failures(failures: Failures) -> None:
    rows = []
    for model in failures.models:
        for one in model.slices[:2]:
            rows.append(
                {"model": model.model, "slice": f"{one.tag} = {one.value}", "rate": one.rate.value, "n": one.rate.n,
                 "lower": one.rate.lower, "upper": one.rate.upper, "rest": one.rest}
            )  # fmt: skip
    if rows:
        columns = {
            "model": "model", "slice": "fails most where", "rate": "failure rate:.0%", "lower": "from:.0%",
            "upper": "to:.0%", "n": "n", "rest": "elsewhere:.0%",
        }  # fmt: skip
        printing.print_table(rows, columns, title="Where each model fails")


def error_kinds(ledger: Ledger, run: int) -> list[tuple[str, int, str]]:
    """Returns a run's failed requests by kind, with their number and an example."""
    from evalkit.store import frames

    page = frames.responses(ledger, run, failed=True, limit=None)
    groups = page.groupby("error_kind")
    return [(str(kind), len(group), str(group["error"].iloc[0])) for kind, group in groups]


def _failed(ledger: Ledger, run: int, model: str | None, task: str | None, after: int, limit: int) -> list[int]:
    from evalkit.store import frames

    graded = frames.grades(ledger, run_id=run, kind="metric", below=1, models=[model] if model else None)
    if task:
        graded = graded[graded["annotator"].str.startswith(f"{task} ")]
    errors = frames.responses(ledger, run, model=model, dataset=task, failed=True, limit=None)
    found = {int(i) for i in graded.response_id} | {int(i) for i in errors.response_id}
    return sorted(i for i in found if i > after)[:limit]


def _preview(sample: dict[str, Any]) -> dict[str, Any]:
    grades = [
        f"{g['criterion'].removesuffix(',none')} {'error' if g['value'] is None else format(g['value'], 'g')}"
        for g in sample["grades"]
    ]
    return {
        "id": sample["response_id"] if "response_id" in sample else sample["id"],
        "model": sample["model"],
        "task": ", ".join(dict.fromkeys(d["dataset"] for d in sample["datasets"])),
        "prompt": _clip(" ".join(str(m["content"]) for m in sample["messages"])),
        "answer": _clip(sample["text"] if sample["error"] is None else f"{sample['error_kind']}: {sample['error']}"),
        "grades": ", ".join(grades),
    }


def _clip(text: Any, limit: int = 70) -> str:
    flat = " ".join(str(text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def _print_sample(sample: dict[str, Any], json: bool) -> None:
    if json:
        printing.print_json(sample)
        return
    for key, value in printing.plain(sample).items():
        if value not in (None, [], {}, ""):
            printing.say(f"{key}: {value}")
