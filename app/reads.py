"""Every page's reads: one ledger, opened for reading alone, and cached answers to what pages ask it.

Answers are kept for as long as the ledger stays as it is: each is stored under the ledger's `state`, which is looked at
again every five seconds. What takes seconds to compute is read by `stale_while_revalidate`, once a minute at most and
beside whoever looks at it, so that a running job does not have the same board rated again and again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import streamlit as st

from app.stale_reads import StaleReads, State
from evalkit.errors import UserError
from evalkit.store import Ledger

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.report.board import Board
    from evalkit.report.corrected import CorrectedTable

FRESH = "5s"
"""So old may what a page shows be, while jobs write."""
STATE_TTL = "60s"
Given = TypeVarTuple("Given")
Read = TypeVar("Read")


@st.cache_resource(show_spinner=False)
def ledger() -> Ledger:
    """Returns the ledger of this app (EVALKIT_STORE), which no page writes to.

    Raises:
        UserError: There is none, or it has another version.
    """
    return Ledger.open(os.environ["EVALKIT_STORE"], create=False, readonly=True)


@st.cache_data(ttl=FRESH, show_spinner=False)
def state() -> State:
    """Returns what changes whenever votes, answers, scores, members or decisions do."""
    import sqlalchemy as sa

    from evalkit.store import schema
    from evalkit.store.schema_app import Member
    from evalkit.store.write_training import WAITING

    total, newest, count = sa.func.sum, sa.func.max, sa.func.count
    tables = (schema.Verdict, schema.Grade, schema.Annotator, schema.Model, schema.Dataset, schema.Slice, schema.Gate)
    queries = (
        sa.select(*(total(getattr(schema.Tally, name)) for name in ("wins_a", "wins_b", "ties", "both_bad", "errors"))),
        sa.select(total(schema.RunCell.n), total(schema.RunCell.errors)),
        sa.select(count(), total(schema.Score.value)),
        sa.select(newest(schema.Run.id), newest(schema.Run.finished_at)),
        sa.select(count(), newest(schema.TrainingRun.finished_at)).select_from(schema.TrainingRun),
        sa.select(count()).where(schema.Gate.decision == WAITING),
        sa.select(newest(Member.set_aside_at), count(Member.set_aside_at)),
        *(sa.select(newest(table.id)) for table in tables),
    )
    with ledger().engine.connect() as connection:
        return tuple(value for query in queries for value in connection.execute(query).one())


@st.cache_data(ttl=STATE_TTL, show_spinner=False)
def _last_state() -> State:
    return state()


@st.cache_resource(show_spinner=False)
def _stale_reads() -> StaleReads:
    return StaleReads()


def stale_while_revalidate(read: Callable[[State, *Given], Read], *given: *Given) -> Read:
    """Returns what takes seconds to read as of a minute ago; of ten at most, while a thread reads it anew."""
    return _stale_reads().read(_last_state(), _key(read, *given), lambda at: read(at, *given))


def cached(read: Callable[..., Any], *given: Any) -> bool:
    """Whether `stale_while_revalidate` has this at once."""
    return _stale_reads().cached(_last_state(), _key(read, *given))


def _key(read: Callable[..., Any], *given: Any) -> Any:
    return getattr(read, "__module__", ""), getattr(read, "__qualname__", ""), given


@dataclass(frozen=True, slots=True)
class Counts:
    """What is in the ledger. `asked` requests to contestants, `failed` of them without an answer."""

    models: int
    datasets: int
    items: int
    asked: int
    failed: int
    battles: int
    verdicts: int
    unreadable: int
    people: int
    judges: int
    runs: int


@st.cache_data(max_entries=4, show_spinner=False)
def _counts(at: State) -> Counts:
    import sqlalchemy as sa

    from evalkit.store.schema import Annotator, Battle, Dataset, DatasetItem, Model, Run, RunCell, Tally, Verdict

    def count(table: Any) -> Any:
        return sa.select(sa.func.count()).select_from(table).scalar_subquery()

    contestants = sa.select(sa.func.sum(RunCell.n - RunCell.cached), sa.func.sum(RunCell.errors)).join(
        Dataset, Dataset.id == RunCell.dataset_id
    )
    voters = sa.select(Annotator.kind, sa.func.count()).where(
        Annotator.id.in_(sa.select(Tally.annotator_id).distinct())
    )
    with ledger().engine.connect() as connection:
        tables = [count(table) for table in (Model, Battle, Verdict, Run)]
        models, battles, verdicts, runs = connection.execute(sa.select(*tables)).one()
        unreadable = connection.scalar(sa.select(sa.func.sum(Tally.errors))) or 0
        asked, failed = connection.execute(contestants.where(Dataset.n > 0)).one()
        datasets = connection.scalar(sa.select(sa.func.count()).select_from(Dataset).where(Dataset.n > 0)) or 0
        items = connection.scalar(sa.select(sa.func.count(sa.distinct(DatasetItem.item_id)))) or 0
        kinds: dict[str, int] = {kind: n for kind, n in connection.execute(voters.group_by(Annotator.kind))}
    people, judges = kinds.get("human", 0), kinds.get("judge", 0)
    return Counts(models, datasets, items, asked or 0, failed or 0, battles, verdicts, unreadable, people, judges, runs)


def counts() -> Counts:
    """Counts what the ledger holds."""
    return _counts(state())


@dataclass(frozen=True, slots=True)
class Voters:
    """Who has voted on a criterion.

    Attributes:
        people: Names of the humans.
        judges: Names and kinds (llm, verifier, jury) of the judges.
        usual: Judges whose votes make the board unless others are asked for; the people where there are no judges.
        left_out: Sentences on the judges that may not make a board.
    """

    people: tuple[str, ...]
    judges: tuple[tuple[str, str], ...]
    usual: tuple[str, ...]
    left_out: tuple[str, ...]


@st.cache_data(max_entries=16, show_spinner=False)
def _voters(at: State, criterion: str) -> Voters:
    from evalkit.report.board import jurors
    from evalkit.report.reads import judges

    with ledger().engine.connect() as connection:
        found = judges(connection, criterion)
        chosen, left_out = jurors(connection, None, criterion)
    return Voters(
        people=tuple(dict.fromkeys(one.name for one in found if one.kind == "human")),
        judges=tuple(dict.fromkeys((one.name, one.kind) for one in found if one.kind != "human")),
        usual=tuple(dict.fromkeys(one.name for one in chosen)),
        left_out=tuple(left_out),
    )


def voters(criterion: str = "overall") -> Voters:
    """Returns who has voted on a criterion; see `stale_while_revalidate`. Judges' habits are measured for it."""
    return stale_while_revalidate(_voters, criterion)


@st.cache_data(max_entries=4, show_spinner=False)
def _people(at: State, criterion: str) -> tuple[str, ...]:
    from evalkit.report.reads import judges

    with ledger().engine.connect() as connection:
        return tuple(dict.fromkeys(one.name for one in judges(connection, criterion) if one.kind == "human"))


def people(criterion: str = "overall") -> tuple[str, ...]:
    """Returns the names of the humans who have voted on a criterion."""
    return _people(state(), criterion)


@st.cache_data(max_entries=4, show_spinner=False)
def _criteria(at: State) -> tuple[str, ...]:
    import sqlalchemy as sa

    from evalkit.store.arena import PROBE
    from evalkit.store.schema import Tally

    query = sa.select(Tally.criterion).where(~Tally.criterion.startswith(PROBE)).group_by(Tally.criterion)
    with ledger().engine.connect() as connection:
        return tuple(connection.scalars(query.order_by(Tally.criterion != "overall", Tally.criterion)))


def criteria() -> tuple[str, ...]:
    """Returns what has been judged, `overall` first; probes are left out."""
    return _criteria(state())


@st.cache_data(max_entries=32, show_spinner=False)
def _board(at: State, names: tuple[str, ...], criterion: str) -> Board:
    from evalkit.report.board import leaderboard

    return leaderboard(ledger(), judges=names, criterion=criterion)


def board(names: tuple[str, ...], criterion: str = "overall") -> Board:
    """Rates the models by the votes of these annotators.

    Raises:
        UserError: One of them has not voted on the criterion.
    """
    return _board(state(), names, criterion)


@st.cache_data(max_entries=16, show_spinner="Correcting the judges with the human votes")
def _corrected(at: State, names: tuple[str, ...], criterion: str) -> CorrectedTable:
    from evalkit.report.corrected import corrected_leaderboard

    return corrected_leaderboard(ledger(), names=names, criterion=criterion)


def corrected(names: tuple[str, ...], criterion: str = "overall") -> CorrectedTable:
    """Rates the models by judges, corrected with the human votes; see `stale_while_revalidate`.

    Raises:
        UserError: As `evalkit.report.corrected.corrected_leaderboard`.
    """
    return stale_while_revalidate(_corrected, names, criterion)


@dataclass(frozen=True)
class Styled:
    """A board at equal style.

    Attributes:
        board: Columns of `evalkit.stats.StyleRatings.frame`.
        coefficients: Columns of `evalkit.stats.StyleRatings.coefficients_frame`.
    """

    board: pd.DataFrame
    coefficients: pd.DataFrame
    interval: str
    ranks: str
    n: int
    n_missing: int
    warnings: tuple[str, ...]


@st.cache_data(max_entries=16, show_spinner="Reading the answers' style")
def _styled(at: State, names: tuple[str, ...], criterion: str) -> Styled:
    from evalkit.report.styled import styled_leaderboard

    found = styled_leaderboard(ledger(), judges=names, criterion=criterion)
    told = found.ratings
    return Styled(
        found.frame(),
        found.coefficients_frame(),
        told.interval,
        told.ranks,
        found.n,
        found.n_missing,
        found.warnings,
    )


def styled(names: tuple[str, ...], criterion: str = "overall") -> Styled:
    """Rates the models at equal style; see `stale_while_revalidate`.

    Raises:
        UserError: The answers are not in the ledger.
    """
    return stale_while_revalidate(_styled, names, criterion)


@st.cache_data(max_entries=16, show_spinner="Rating the models by group")
def _grouped(
    at: State, by: str, names: tuple[str, ...], criterion: str
) -> tuple[pd.DataFrame, tuple[str, ...], dict[str, int]]:
    from typing import Literal, cast

    from evalkit.report.on_ledger import grouped_leaderboard

    column = cast(Literal["turn", "criterion", "category"], by)
    found = grouped_leaderboard(ledger(), column, judges=names, criterion=criterion)
    return found.frame(), found.warnings, {str(group): ratings.n for group, ratings in found.boards.items()}


def grouped(
    by: str, names: tuple[str, ...], criterion: str = "overall"
) -> tuple[pd.DataFrame, tuple[str, ...], dict[str, int]]:
    """Rates the models on each category, criterion or turn; see `stale_while_revalidate`.

    Returns:
        group, model, rating, lower, upper, rank_low, rank_high, votes; the warnings; the votes of each group.

    Raises:
        UserError: Nobody has voted.
    """
    return stale_while_revalidate(_grouped, by, names, criterion)


@st.cache_data(max_entries=16, show_spinner=False)
def _wins(at: State, names: tuple[str, ...], criterion: str) -> pd.DataFrame:
    import pandas as pd

    from evalkit.stats import wilson
    from evalkit.store import frames

    table = frames.tally(ledger(), annotators=names, criterion=criterion, pooled=True)
    table["n"] = table[["wins_a", "wins_b", "ties", "both_bad"]].sum(axis=1)
    table = table[table["n"] > 0]
    half = (table["ties"] + table["both_bad"]) / 2
    sides = []
    for row, column, wins in (("model_a", "model_b", "wins_a"), ("model_b", "model_a", "wins_b")):
        side = {"model": table[row], "against": table[column], "score": table[wins] + half, "n": table["n"]}
        sides.append(pd.DataFrame(side))
    both = pd.concat(sides, ignore_index=True)
    limits = [wilson(score, n) for score, n in both[["score", "n"]].itertuples(index=False)]
    both["win_rate"] = both["score"] / both["n"]
    both[["lower", "upper"]] = pd.DataFrame(limits, columns=["lower", "upper"], dtype=float)
    return both.drop(columns="score").astype({"model": str, "against": str})


def wins(names: tuple[str, ...], criterion: str = "overall") -> pd.DataFrame:
    """Reads each model's win rate against each other: model, against, n, win_rate (ties half), lower, upper
    (Wilson's, 95 %, somewhat too wide where there are ties)."""
    return _wins(state(), names, criterion)


@st.cache_data(max_entries=4, show_spinner=False)
def _scores(at: State) -> pd.DataFrame:
    from evalkit.report.benchmarks import benchmark_scores

    return benchmark_scores(ledger())


def scores() -> pd.DataFrame:
    """Reads every benchmark's main score of every model (see `evalkit.report.benchmarks.benchmark_scores`)."""
    return _scores(state())


@st.cache_data(max_entries=4, show_spinner=False)
def _usage(at: State) -> pd.DataFrame:
    from evalkit.report.usage import model_usage

    return model_usage(ledger())


def usage() -> pd.DataFrame:
    """Reads what each model's answers cost (see `evalkit.report.usage.model_usage`)."""
    return _usage(state())


@st.cache_data(ttl=FRESH, show_spinner=False)
def runs(limit: int = 100, before: int | None = None) -> pd.DataFrame:
    """Lists runs, newest first (see `evalkit.store.frames.runs`)."""
    from evalkit.store import frames

    return frames.runs(ledger(), limit=limit, before=before)


@st.cache_data(ttl=FRESH, show_spinner=False)
def jobs() -> pd.DataFrame:
    """Lists jobs, newest first (see `evalkit.store.frames_app.jobs`)."""
    from evalkit.store import frames_app

    return frames_app.jobs(ledger())


def tried(read: Callable[[], Any]) -> Any:
    """Returns what a read gives; where it has a fault of the user's, says so on the page and returns None."""
    try:
        return read()
    except UserError as error:
        st.info(str(error), icon=":material/info:")
        return None


@st.cache_data(max_entries=4, show_spinner=False)
def _has_judges(at: State, criterion: str) -> bool:
    from evalkit.report.reads import judges

    with ledger().engine.connect() as connection:
        return any(one.kind != "human" for one in judges(connection, criterion))


def has_judges(criterion: str = "overall") -> bool:
    """Whether a judge has given verdicts on a criterion."""
    return _has_judges(state(), criterion)
