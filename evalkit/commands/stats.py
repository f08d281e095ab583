"""The commands about judges: `agreement` (with `--alt-test`) and `audit`, on a ledger or straight on files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from evalkit.commands import board, compare, look, printing
from evalkit.commands.store import opened
from evalkit.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.stats import JudgeAudit

Humans = Annotated[
    str, typer.Option("--annotators", help="Pattern of the human reference's names, expert_*; by default all humans.")
]
MIN_INSTANCES = 30  # of an annotator in the alt-test


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(board.leaderboard)
    for command in (agreement, audit):
        app.command()(command)
    compare.register(app)


def agreement(
    votes: board.Votes = None,
    judge: Annotated[str, typer.Option(help="Pattern of the judges' names, gpt4_*; by default all judges.")] = "*",
    annotators: Humans = "*",
    group_by: board.Group = None,
    min_votes: Annotated[
        int | None,
        typer.Option("--min-votes", min=0, help="Leave out humans with fewer votes; the alt-test's default is 30."),
    ] = None,
    alt_test: Annotated[
        bool, typer.Option("--alt-test", help="Ask instead whether a judge may stand in for a human.")
    ] = False,
    grades: Annotated[Path | None, typer.Option("--grades", help="Grades file for the alt-test.")] = None,
    metric: Annotated[
        Literal["accuracy", "neg_rmse"], typer.Option(help="The alt-test's: equal labels, or near grades.")
    ] = "accuracy",
    epsilon: Annotated[
        float, typer.Option(min=0, max=1, help="The alt-test's: 0.2 for experts, 0.15 skilled, 0.1 crowd workers.")
    ] = 0.2,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Taken as by every command; nothing is drawn here.")] = 0,
    store: look.Store = look.STORE,
    json: look.Json = False,
) -> None:
    """Print how far judges agree with humans, and humans with one another; or the alternative annotator test."""
    if votes is not None and grades is not None:
        raise UserError("--votes and --grades are two sources; give one", code=2)
    if alt_test:
        if group_by:
            raise UserError("the alt-test has no groups; leave --group-by out", code=2)
        data = _grades(grades) if grades else _votes(votes, store, [])
        _need_humans(data, annotators)
        _alt_test(data, judge, annotators, metric, epsilon, MIN_INSTANCES if min_votes is None else min_votes, json)
        return
    if grades is not None:
        raise UserError("agreement is of votes; --grades is for --alt-test", code=2)
    frame = _votes(votes, store, [group_by] if group_by else [])
    notes = []
    if min_votes:
        count = frame["annotator"].map(frame["annotator"].value_counts())
        few = (frame["annotator_kind"] == "human") & (count < min_votes)
        if few.any():
            notes.append(f"{frame.loc[few, 'annotator'].nunique()} humans with fewer than {min_votes} votes left out.")
        frame = frame[~few].reset_index(drop=True)
    _need_humans(frame, annotators)
    from evalkit.stats import judge_agreement

    found = judge_agreement(frame, judges=judge, annotators=annotators, group_by=group_by)
    rows, warnings = printing.records(found.frame()), [*notes, *found.warnings]
    if json:
        facts = {"definition": found.definition, "n": found.n, "n_failed": found.n_failed, "warnings": warnings}
        printing.print_json({"rows": rows, **facts})
        return
    columns = {
        "judge": "judge", "group": "group", "n": "n", "agreement": "agree:.1%", "agreement_no_ties": "no ties:.1%",
        "n_no_ties": "n", "kappa": "kappa:.2f", "kappa_lower": "from:.2f", "kappa_upper": "to:.2f",
    }  # fmt: skip
    if not group_by:
        del columns["group"]
    printing.print_table(rows, columns, title=f"Agreement with {annotators if annotators != '*' else 'the humans'}")
    _print_definition(found.definition, warnings)


def audit(
    judge: Annotated[str, typer.Argument(help="The judge's name, as in its votes.")],
    votes: board.Votes = None,
    annotators: Humans = "*",
    responses: Annotated[
        Path | None, typer.Option(help="Responses file, for lengths; by default the ledger's answers.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model that it is, by its name in the battles.")] = None,
    null_model: Annotated[
        str | None, typer.Option("--null-model", help="A model whose answer is always the same: it must not win.")
    ] = None,
    family: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FAMILY", help="Family of a model or the judge; several times; by default its name's."
        ),
    ] = None,
    store: look.Store = look.STORE,
    json: look.Json = False,
) -> None:
    """Say what a judge decides by, and check it for parse failures, position, length, self-preference, a null model."""
    from evalkit.stats import audit_judge

    wrong = [one for one in family or () if not all(one.partition("="))]
    if wrong:
        raise UserError(f"--family {wrong[0]!r} is not NAME=FAMILY, such as gpt-4=openai", code=2)
    families = {name: kin for name, _, kin in (one.rpartition("=") for one in family or ())} or None
    lengths = None
    if responses is not None:
        from evalkit.store.formats.generic import read_responses

        lengths = read_responses(responses)
        lengths = lengths[lengths["error_kind"] == ""]
    elif votes is None:
        from evalkit.store.formats.generic import ledger_lengths

        with opened(store) as ledger:
            lengths = ledger_lengths(ledger)
    frame = _votes(votes, store, [])
    found = audit_judge(
        *(frame, judge),
        human=annotators,
        responses=lengths,
        model=model,
        null_model=null_model,
        probes=_probes(store, judge) if votes is None else None,
        families=families,
    )
    if json:
        rows = {"rows": printing.records(found.frame())}
        names = ("judge", "verdict", "findings", "humans", "n", "n_failed", "definition", "warnings")
        curve = None if found.calibration is None else printing.records(found.calibration.frame())
        printing.print_json(rows | {name: getattr(found, name) for name in names} | {"calibration": curve})
        return
    _print_audit(found)


def _print_audit(found: JudgeAudit) -> None:
    rows = printing.records(found.frame())
    columns = {
        "check": "check", "value": "value:.3f", "lower": "from:.3f", "upper": "to:.3f", "n": "n", "flag": "flag"
    }  # fmt: skip
    measured = [row for row in rows if row["flag"] != "not measured"]
    for sentence in found.findings:
        printing.say(f"{found.judge}: {sentence[0].lower()}{sentence[1:]}")
    humans = "no humans" if found.humans == "none" else f"humans: {found.humans}"
    printing.print_table(measured, columns, title=f"Audit of {found.judge} ({found.n} verdicts, {humans})")
    order = {"concern": 0, "ok": 1, "no test": 2}
    for row in sorted(measured, key=lambda row: order[str(row["flag"])]):
        mark = "!" if row["flag"] == "concern" else "-"
        printing.say(f"{mark} {row['check']}: {row['verdict']}")
    for row in rows:
        if row["flag"] == "not measured":
            printing.say(f"? {row['check']}: {row['verdict']}")
    _print_definition(found.definition, list(found.warnings))


def _alt_test(
    data: pd.DataFrame, judge: str, annotators: str, metric: Any, epsilon: float, min_votes: int, json: bool
) -> None:
    from evalkit.stats import alt_test

    found = alt_test(data, judge, annotators, metric=metric, epsilon=epsilon, min_instances=max(2, min_votes))
    rows = printing.records(found.frame())
    if json:
        facts = {"method": found.method, "n": found.n, "n_failed": found.n_failed, "warnings": found.warnings}
        printing.print_json({"rows": rows, **facts})
        return
    columns = {
        "judge": "judge", "passes": "may stand in", "winning_rate": "winning rate:.2f",
        "advantage_probability": "advantage:.3f", "annotators": "humans", "n": "n", "n_failed": "unreadable",
    }  # fmt: skip
    printing.print_table(rows, columns, title=f"Alternative annotator test (epsilon {epsilon:g})")
    _print_definition(found.method, list(found.warnings))


def _votes(path: Path | None, store: str, need: list[str]) -> pd.DataFrame:
    from evalkit.store.formats.generic import ledger_votes, read_votes

    if path is not None:
        return read_votes(path, need=need)
    with opened(store) as ledger:
        votes = ledger_votes(ledger)
    if votes.empty:
        raise UserError(f"nobody has voted in {store}; give --votes FILE, or judge battles first")
    return votes


def _probes(store: str, judge: str) -> Any:
    """Returns what the ledger knows of the judge's probes, those of the newest judge of that name."""
    import sqlalchemy as sa

    from evalkit.store.schema import Annotator
    from judges.probes import probe_rates

    with opened(store) as ledger:
        with ledger.engine.connect() as connection:
            named = sa.select(sa.func.max(Annotator.id)).where(Annotator.kind == "judge", Annotator.name == judge)
            newest = connection.scalar(named)
        return None if newest is None else probe_rates(ledger, newest)


def _need_humans(frame: pd.DataFrame, annotators: str) -> None:
    if annotators == "*" and not (frame["annotator_kind"] == "human").any():
        from evalkit.stats.votes import list_names

        names = list_names(sorted(frame["annotator"].unique()))
        raise UserError(
            f"there are no humans to compare with; name the reference with --annotators (there are {names})"
        )


def _grades(path: Path) -> pd.DataFrame:
    from evalkit.store.formats.generic import read_grades

    return read_grades(path)


def _print_definition(definition: str, warnings: list[str]) -> None:
    printing.say(definition.removesuffix(".") + ".")
    printing.note(warnings)
