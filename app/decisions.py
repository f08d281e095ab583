"""What in a ledger waits for a person's decision: judges, slices, gates, verdicts and requests that failed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa
import streamlit as st

from app import reads, tables
from app.stale_reads import State
from evalkit.errors import UserError

MEASURED = 20_000
"""Up to so many verdicts (and answers of a run) judges and slices are measured for this page; above, on their own."""
NAMED = 3


@dataclass(frozen=True, slots=True)
class Decision:
    """One thing to decide.

    Attributes:
        what: In two or three words.
        sentence: The same with its numbers.
        page: Where it is decided, a file of `app_pages`.
        grave: Whether numbers on other pages may mislead until it is decided.
    """

    what: str
    sentence: str
    page: str
    grave: bool = False


def decisions(criterion: str = "overall") -> tuple[Decision, ...]:
    """Returns what waits for a decision, the gravest first; see `stale_while_revalidate`."""
    return reads.stale_while_revalidate(_decisions, criterion)


@st.cache_data(max_entries=4, show_spinner=False)
def _decisions(at: State, criterion: str) -> tuple[Decision, ...]:
    found = [*_judges(criterion), *_unreadable(), *_requests(), *_slices(), *_gates(), *_runs()]
    return tuple(sorted(found, key=lambda one: not one.grave))


def _judges(criterion: str) -> Iterator[Decision]:
    found = reads.voters(criterion)
    for sentence in found.left_out:
        yield Decision("Unfit judge", sentence, "judges", grave=True)
    kinds = dict(found.judges)
    asked = [name for name in found.usual if kinds.get(name) in ("llm", "jury")]
    if not asked:
        return
    if not found.people:
        told = _listed(asked)
        yield Decision(
            "Uncertified judge", f"{told}: no person has voted on the battles, so none is certified.", "judges"
        )
        return
    if reads.counts().verdicts <= MEASURED:
        for name, sentence in _alternatives(criterion, asked):
            yield Decision("Uncertified judge", f"{name} {sentence}", "judges")


def _alternatives(criterion: str, names: list[str]) -> Iterator[tuple[str, str]]:
    """Judges that the alternative annotator test does not let stand in for a person."""
    from evalkit.stats import alt_test
    from evalkit.store.formats.generic import ledger_votes
    from judges.evidence import select
    from judges.scorecard import EPSILON, MIN_INSTANCES

    try:
        votes = select(ledger_votes(reads.ledger()), "*", "*", criterion)
        tests = alt_test(votes, "*", "*", epsilon=EPSILON, min_instances=MIN_INSTANCES).tests
    except UserError as error:
        yield _listed(names), f"could not be held against people: {error}"
        return
    for test in tests:
        if test.judge not in names or test.passes:
            continue
        enough = f"it wins against {test.winning_rate:.0%} of {test.annotators} people, half are needed"
        few = f"too few of its battles have votes of several people ({MIN_INSTANCES} of one person are needed)"
        yield test.judge, f"may not stand in for a person: {enough if test.annotators else few}."


def _unreadable() -> Iterator[Decision]:
    from evalkit.store import frames

    table = frames.annotators(reads.ledger())
    table = table[table["errors"] > 0].sort_values("errors", ascending=False)
    if len(table):
        told = [f"{row.annotator} {row.errors:,} (read: {row.battles:,} battles)" for row in tables.rows(table)]
        yield Decision("Unreadable verdicts", f"{_listed(told)}. They are in no rating.", "judges")


def _requests() -> Iterator[Decision]:
    table = reads.usage()
    table = table[table["errors"] > 0].sort_values("errors", ascending=False)
    if len(table):
        told = [f"{row.model} {row.errors:,} of {row.errors + row.answers:,}" for row in tables.rows(table)]
        total = int(table["errors"].sum())
        yield Decision("Failed requests", f"{total:,} requests have no answer: {_listed(told)}.", "runs")


def _slices() -> Iterator[Decision]:
    from evalkit.report import failures
    from evalkit.store.schema import Slice

    with reads.ledger().engine.connect() as connection:
        clear = sa.select(Slice.name, Slice.support).where(Slice.q_value < 0.05).order_by(Slice.q_value)
        stored = connection.execute(clear).all()
    if stored:
        told = _listed([f"{row.name} ({row.support} answers)" for row in stored])
        many = "1 slice fails" if len(stored) == 1 else f"{len(stored)} slices fail"
        yield Decision("Failing slice", f"{many} more often than the rest: {told}.", "slices")
        return
    runs = reads.runs(20)
    finished = runs[(runs["status"] == "done") & (runs["n"] > 0) & (runs["n"] <= MEASURED)]
    if finished.empty:
        return
    run = int(finished["run_id"].iloc[0])
    for one in failures(reads.ledger(), run, 0).models:
        worst = next((part for part in one.slices if part.clear), None)
        if worst is not None and worst.rate.value is not None:
            yield Decision(
                "Failing slice",
                f"{one.model} fails {worst.rate.value:.0%} of {worst.rate.n} answers with {worst.tag} = {worst.value}, "
                f"against {worst.rest:.0%} elsewhere (run {run}).",
                "slices",
            )


def _gates() -> Iterator[Decision]:
    from evalkit.store.reading import model_names
    from evalkit.store.schema import Gate, ModelParent, TrainingRun
    from evalkit.store.write_training import WAITING

    tested = sa.select(Gate.candidate_id)
    # Where a model was merged, the merge is tested; a reward model is no contestant.
    merged = sa.select(ModelParent.parent_id).where(
        ModelParent.relation == "merged_from", ModelParent.model_id.in_(tested)
    )
    untested = sa.select(TrainingRun.model_id).where(
        TrainingRun.model_id.is_not(None),
        TrainingRun.status == "done",
        TrainingRun.method != "reward",
        TrainingRun.model_id.not_in(tested),
        TrainingRun.model_id.not_in(merged),
    )
    with reads.ledger().engine.connect() as connection:
        names = model_names(connection)
        waiting = [names[key] for key in connection.scalars(tested.where(Gate.decision == WAITING).distinct())]
        trained = [names[key] for key in connection.scalars(untested.distinct()) if key is not None]
    if waiting:
        yield Decision("Gate waiting", f"{_listed(waiting)}: tested, neither approved nor rejected.", "retrain")
    if trained:
        yield Decision("Gate missing", f"{_listed(trained)}: trained, and no gate has tested it.", "retrain")


def _runs() -> Iterator[Decision]:
    latest = reads.runs(20)
    for row in tables.rows(latest[latest["status"] == "failed"]):
        yield Decision("Failed run", f"Run {row.run_id}, {row.name}: {row.message or 'no reason was given'}", "runs")
    jobs = reads.jobs().head(20)
    for row in tables.rows(jobs[jobs["status"].isin(["failed", "died"])]):
        yield Decision("Failed job", f"Job {row.job_id}, {row.name}, {row.status}: {row.message}", "jobs")


def _listed(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
