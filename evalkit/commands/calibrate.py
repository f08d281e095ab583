"""The command `judge calibrate`: judges held against people, with a scorecard and a written recommendation."""

from __future__ import annotations

import json as json_module
import textwrap
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalkit.commands import board, look, printing
from evalkit.commands.store import opened
from evalkit.errors import UserError

if TYPE_CHECKING:
    from judges.calibration import Calibration
    from judges.columns import Figure
    from judges.evidence import Evidence
    from judges.recommendation import Recommendation
    from judges.scorecard import ScorecardRow

WIDTH = 100
SIDE_BY_SIDE = 2  # judges in one table


def register(app: typer.Typer) -> None:
    """Adds the command to the group `judge`."""
    app.command()(calibrate)


def calibrate(
    votes: board.Votes = None,
    judges: Annotated[str, typer.Option(help="Pattern of the judges' names, gpt4_*; by default all judges.")] = "*",
    humans: Annotated[
        str, typer.Option(help="Pattern of those held to be right, expert_* or a verifier; by default all people.")
    ] = "*",
    criterion: Annotated[str, typer.Option(help="What was judged.")] = "overall",
    epsilon: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="What a judge's lower cost is worth: 0.2 where people are experts, 0.15 skilled, 0.1 crowd workers.",
        ),
    ] = 0.2,
    itself: Annotated[
        list[str] | None,
        typer.Option("--self", metavar="JUDGE=MODEL", help="The model that a judge is, by its name in the battles."),
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Write the page, a file that ends in .html.")] = None,
    weights_out: Annotated[
        Path | None, typer.Option("--weights-out", help="Write the jury's weights, a JSON file for a plan's jury.")
    ] = None,
    seed: board.Seed = 0,
    store: look.Store = look.STORE,
    json: look.Json = False,
) -> None:
    """Hold judges and juries against people: scorecard, whom to keep, where they may stand in, what is still open."""
    from judges.calibration import calibrate as calibrate_judges
    from judges.calibration_report import as_json, write_calibration
    from judges.recommendation import recommend

    if report is not None and report.suffix != ".html":
        raise UserError(f"--report {str(report)!r}: the page is an HTML file; give a name that ends in .html", code=2)
    wrong = [one for one in itself or () if not all(one.partition("="))]
    if wrong:
        raise UserError(f"--self {wrong[0]!r} is not JUDGE=MODEL, such as gpt4_pair=gpt-4", code=2)
    named = {judge: model for judge, _, model in (one.partition("=") for one in itself or ())}
    with ExitStack() as open_while_read:
        evidence = _evidence(votes, store, criterion, open_while_read)
        evidence = replace(evidence, models={**evidence.models, **named})
        found = calibrate_judges(
            evidence, judges=judges, humans=humans, criterion=criterion, epsilon=epsilon, seed=seed
        )
    recommendation = recommend(found)
    if report is not None:
        write_calibration(found, recommendation, report)
    if weights_out is not None:
        _write_weights(found, weights_out)
    if json:
        printing.print_json(as_json(found, recommendation))
        return
    _print_scorecard(found)
    _print_recommendation(found, recommendation)
    printing.note(found.warnings)
    for what, path in (("Page", report), ("Weights", weights_out)):
        if path is not None:
            printing.say(f"{what}: {path.resolve()}")


def _evidence(votes: Path | None, store: str, criterion: str, open_while_read: ExitStack) -> Evidence:
    from judges import evidence

    if votes is not None:
        from evalkit.store.formats.generic import read_votes

        frame = read_votes(votes)
        names = frame.loc[frame["annotator_kind"] == "judge", "annotator"].unique()
        contestants = {*frame["model_a"], *frame["model_b"]}
        models = {name: model for name in names if (model := evidence.same_model([name], contestants))}
        return evidence.Evidence(frame, models=models)
    return evidence.of_ledger(open_while_read.enter_context(opened(store)), criterion)


def _write_weights(found: Calibration, path: Path) -> None:
    if not found.weights:
        raise UserError(f"--weights-out: there are no weights to write, for {found.no_juries}")
    try:
        path.write_text(json_module.dumps(dict(found.weights), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--weights-out: {path} cannot be written: {error.strerror or error}") from error


def _print_scorecard(found: Calibration) -> None:
    from judges.columns import COLUMNS

    facts, rows = found.facts, found.scorecard.rows
    _say(
        f"{facts.people:,} people gave {facts.votes:,} votes; {facts.shared_battles:,} of the {facts.battles:,} "
        f"battles ({facts.items:,} items, {facts.models:,} models) have verdicts of judges and of people."
    )
    for start in range(0, len(rows), SIDE_BY_SIDE):
        part = rows[start : start + SIDE_BY_SIDE]
        table = [
            {"figure": column.title, **{str(i): _cell(row, column.key) for i, row in enumerate(part)}}
            for column in COLUMNS
            if any(row.figures[column.key].measured for row in part)
        ]
        heads = {str(i): f"{row.judge} ({row.kind})" for i, row in enumerate(part)}
        printing.print_table(table, {"figure": "figure [interval] n", **heads}, title="Scorecard" if not start else "")
    _print_missing(rows)


def _cell(row: ScorecardRow, key: str) -> str:
    from judges.columns import BY_KEY, written

    figure: Figure = row.figures[key]
    if not figure.measured:
        return "not measured"
    value, lower, upper = (written(BY_KEY[key], one) for one in (figure.value, figure.lower, figure.upper))
    limits = f" [{lower}, {upper}]" if lower else ""
    return f"{value}{limits}" + (f" n {figure.n:,}" if key != "requests" else "")


def _print_missing(rows: tuple[ScorecardRow, ...]) -> None:
    from judges.columns import BY_KEY

    missing: dict[str, list[str]] = {}
    for row in rows:
        for key, figure in row.figures.items():
            if not figure.measured:
                titles = missing.setdefault(figure.note, [])
                if BY_KEY[key].title not in titles:
                    titles.append(BY_KEY[key].title)
    for note, titles in missing.items():
        _say(f"Not measured: {', '.join(titles)}: {note}.", indent="  ")


def _print_recommendation(found: Calibration, told: Recommendation) -> None:
    printing.say("")
    _say(told.headline)
    printing.say("")
    for advice in told.advice:
        _say(f"{advice.decision.upper()} {advice.judge}: {advice.reason}", indent="  ")
        for sentence in advice.conditions:
            _say(f"  - {sentence}", indent="    ")
    printing.say("")
    _say("Where they may stand in for people:")
    for sentence in told.stand_in:
        _say(f"- {sentence}", indent="  ")
    _say(f"Juries: {told.juries}", indent="  ")
    _say(f"Leaderboard: {told.board}", indent="  ")
    _print_board(found)
    if told.questions:
        _say("Still open, and the human votes that would settle it:")
        for one in told.questions:
            _say(f"- {one.question} {one.sentence[:1].upper()}{one.sentence[1:]}.", indent="  ")


def _print_board(found: Calibration) -> None:
    from judges.calibration_report import board_rows

    rows = board_rows(found)
    columns = {
        "place": "place", "model": "model", "raw": "raw:.0f", "rating": "corrected:.0f",
        "lower": "from:.0f", "upper": "to:.0f", "change": "change:+.0f", "votes": "human votes",
    }  # fmt: skip
    printing.print_table(rows[:10], columns, title=f"Leaderboard by {found.judge}, raw and corrected by human votes")
    if len(rows) > 10:
        printing.say(f"The first 10 of {len(rows)} models; the page and --json have all.")


def _say(text: str, indent: str = "") -> None:
    printing.say("\n".join(textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)))
