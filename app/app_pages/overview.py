"""What is in the ledger, what runs now, what needs a decision, and the three kinds of evidence side by side."""

from datetime import UTC, datetime

import streamlit as st

from app import charts, reads, tables
from app.decisions import decisions
from evalkit.report.benchmarks import benchmark_board

TOP = 8
SILENT_S = 600

st.title("Overview")
st.caption("What this ledger holds, what is running, and what waits for a decision.")

counts = reads.counts()
with st.grid("auto", min_column_width=115):  # six stand beside each other on a laptop
    st.metric("Models", tables.number(counts.models), border=True, height="stretch")
    st.metric(
        "Requests",
        tables.number(counts.asked),
        f"{counts.failed:,} unanswered" if counts.failed else "all answered",
        delta_color="off",
        delta_arrow="off",
        border=True,
        height="stretch",
        help=f"To models under evaluation, on {counts.items:,} prompts of {counts.datasets} datasets.",
    )
    st.metric(
        "Verdicts",
        tables.number(counts.verdicts),
        f"{counts.unreadable:,} unreadable" if counts.unreadable else "all readable",
        delta_color="off",
        delta_arrow="off",
        border=True,
        height="stretch",
        help=f"On {counts.battles:,} battles; each order in which a judge saw a battle is a verdict.",
    )
    st.metric("People", tables.number(counts.people), border=True, height="stretch", help="Humans with votes")
    st.metric(
        "Judges", tables.number(counts.judges), border=True, height="stretch", help="Judges and juries with verdicts"
    )
    st.metric("Runs", tables.number(counts.runs), border=True, height="stretch")

if not counts.models:
    st.info(
        "Type `evalkit init` for a plan and `evalkit run plan.yaml --store LEDGER` to evaluate models, or "
        "`evalkit import votes FILE --store LEDGER` to bring votes you have. This page follows while it runs.",
        icon=":material/database:",
        title="This ledger is empty",
    )

left, right = st.columns([3, 2], gap="medium")


def ago(time: str | None) -> str:
    """How long ago a time of the ledger is, in words."""
    if not time:
        return "never"
    seconds = (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()
    for size, word in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            n = int(seconds // size)
            return f"{n} {word}{'s' * (n != 1)} ago"
    return "just now"


@st.fragment(run_every="5s")
def running() -> None:
    """Runs and jobs that run or wait, looked at again every few seconds."""
    runs, jobs = reads.runs(20), reads.jobs()
    at_work = runs[runs["status"] == "running"]
    waiting = jobs[jobs["status"].isin(["queued", "running"])]
    for row in tables.rows(at_work):
        total = row.total if row.total == row.total and row.total else 0
        told = f"{row.done:,} of {total:,.0f}" if total else f"{row.done:,} done"
        st.progress(min(1.0, row.done / total) if total else 0.0, f"{tables.plain(row.name)}, {row.stage}: {told}")
        silent = (datetime.now(UTC) - datetime.fromisoformat(row.updated_at)).total_seconds()
        if silent > SILENT_S:
            st.caption(
                f":orange[Silent since {ago(row.updated_at)}]: run {row.run_id} may have died; run its plan again."
            )
    for row in tables.rows(waiting):
        colour = "blue" if row.status == "running" else "gray"
        st.markdown(f":{colour}-badge[{row.status}] {tables.plain(row.name)}: {tables.plain(row.message or row.kind)}")
    if at_work.empty and waiting.empty:
        last = runs.iloc[0] if len(runs) else None
        told = (
            f" Last: run {last.run_id}, {last['name']}, {last.status} {ago(last.updated_at)}."
            if last is not None
            else ""
        )
        st.caption(tables.plain(f"Nothing runs.{told}"))


with right:
    st.subheader("Running now")
    with st.container(border=True):
        running()

with left:
    st.subheader("Needs a decision")
    slot = st.container(border=True)

st.subheader("Three kinds of evidence")
st.caption("The same models by people, by judges and by benchmarks, best first. Bars are 95% intervals.")
panels = st.columns(3, gap="medium")


def panel(place: int, title: str, icon: str, empty: str, evidence: str) -> None:
    """One kind of evidence: its first models, n, and the way to all of them."""
    with panels[place].container(border=True, height="stretch"):
        st.markdown(f"##### {icon} {title}")
        criterion = reads.criteria()[0] if reads.criteria() else "overall"
        table, told, value, form = None, "", "rating", ".0f"
        if evidence == "Benchmarks":
            scores = reads.scores()
            if not scores.empty:
                table, value, form = benchmark_board(scores), "value", ".2f"
                counted = scores.loc[~scores["member"], "benchmark"].nunique()
                told = f"Mean of {counted} benchmarks, {int(table['errors'].sum()):,} documents without a score"
        else:
            people = evidence == "People"
            usual = () if people else reads.voters(criterion).usual
            names = reads.people(criterion) if people else tuple(n for n in usual if n not in reads.people(criterion))
            board = reads.tried(lambda: reads.board(names, criterion)) if names else None
            if board is not None and board.rows:
                table = tables.board_frame(board)
                whose = f"{len(names):,} people" if people else ", ".join(names[:3])
                told = f"{board.n:,} votes of {whose} on {criterion}, {board.errors:,} unreadable"
        if table is None or table.empty:
            st.caption(empty)
            return
        shown = table.head(TOP)
        axis = "score" if value == "value" else "rating"
        charts.show(
            charts.interval_chart(
                shown, "model", value, "lower", "upper", value_format=form, value_title=axis,
                title=f"First {len(shown)} of {len(table)}" if len(table) > TOP else "All models",
                description=f"{title}: first is {shown['model'].iloc[0]}",
            )
        )  # fmt: skip
        st.caption(tables.plain(told))
        tables.link("leaderboard", "The whole board", ":material/leaderboard:", evidence=evidence)


panel(0, "People", ":material/group:", "Nobody has voted yet. Start a campaign, or import votes.", "People")
panel(2, "Benchmarks", ":material/checklist:", "No benchmark has been run: `evalkit run PLAN`.", "Benchmarks")
with panels[1], st.skeleton(height=200):
    panel(1, "Judges", ":material/gavel:", "No judge may make a board yet: `evalkit judge --help`.", "Judges")

with slot, st.skeleton(height=120):
    found = decisions(reads.criteria()[0]) if reads.criteria() else decisions()
    for one in found:
        said, way = st.columns([4, 1], vertical_alignment="center", gap="small")
        colour = "orange" if one.grave else "blue"
        said.markdown(f":{colour}-badge[{one.what}] {tables.plain(one.sentence)}")
        with way:
            tables.link(one.page, "Open", ":material/arrow_forward:")
    if not found:
        st.caption("Nothing waits for a decision.")
