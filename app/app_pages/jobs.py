"""Jobs: what runs and waits, its log, a form for a new one, and what is scheduled."""

import os
import shlex
from datetime import UTC, datetime
from typing import Any, Literal

import pandas as pd
import streamlit as st

from app import access, reads, tables
from evalkit.errors import UserError
from evalkit.jobs import queue
from evalkit.jobs.schedule import in_words, next_times
from evalkit.store import frames_app

Color = Literal["gray", "blue", "green", "red", "orange"]
STORE = os.environ["EVALKIT_STORE"]
LIVE = "2s"
OPEN = ("queued", "running")
COLORS: dict[str, Color] = {
    "queued": "gray",
    "running": "blue",
    "done": "green",
    "failed": "red",
    "died": "red",
    "cancelled": "orange",
}
ICONS = {
    "queued": ":material/hourglass_empty:",
    "running": ":material/play_circle:",
    "done": ":material/check_circle:",
    "failed": ":material/error:",
    "died": ":material/error:",
    "cancelled": ":material/cancel:",
}
WORK = {
    "file": ":material/description: Plan file",
    "text": ":material/edit_note: Plan text",
    "judge": ":material/gavel: Judge",
    "probe": ":material/policy: Probe",
    "calibrate": ":material/balance: Calibrate",
}
ABOUT = {
    "file": "Runs a plan, as `evalkit run` would. The file is read again when the job starts.",
    "text": "Runs a plan that you paste here, as `evalkit run` would.",
    "judge": "Has a judge judge what is in this ledger, as `evalkit judge run` would.",
    "probe": "Tries injections and constant answers on a judge, as `evalkit judge probe` would.",
    "calibrate": "Holds the judges against people, as `evalkit judge calibrate` would.",
}
EXAMPLES = {
    "judge": "--model openai/gpt-5-mini --prompt pairwise-v1 --voted --dollars 5",
    "probe": "--model openai/gpt-5-mini --dollars 1",
    "calibrate": "--report calibration.html",
}
PLAN = "models:\n  - openai/gpt-5-mini\nbenchmarks:\n  - gsm8k"
TIMES = {
    "0 2 * * *": "Every night at 02:00 UTC",
    "0 6 * * 1": "Every Monday at 06:00 UTC",
    "0 * * * *": "Every hour",
    "": "Another time",
}
EMPTY = "Queue one under New job, or type: `evalkit jobs submit plan plan.yaml`"

visitor = access.require("analyst")
st.title("Jobs")
st.caption("Work that a worker does while nobody needs to watch: what runs and waits, how it went, what is scheduled.")


def clock(text: str | None) -> str:
    """A time of the ledger, to the minute."""
    return "" if not text else text[:16].replace("T", " ")


def span(seconds: float) -> str:
    """A length of time in a few words."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def told(error: UserError) -> None:
    """Shows what is wrong."""
    st.error(tables.plain(error), icon=":material/error:")


def act(what: str, job_id: int) -> None:
    """Cancels a job or queues it again."""
    try:
        (queue.cancel if what == "cancel" else queue.retry)(STORE, job_id)
    except UserError as error:
        st.session_state["fault"] = str(error)
    reads.jobs.clear()


def choose(job_id: int) -> None:
    """Opens a job's log."""
    st.session_state["job"] = job_id
    keep_link()


def keep_link() -> None:
    """Puts the chosen job into the page's address, by its number alone: its name and status may change."""
    chosen = st.session_state["job"]
    if chosen is None:
        st.query_params.pop("job", None)
    else:
        st.query_params["job"] = str(chosen)


def how_far(row: dict[str, Any]) -> tuple[float, str]:
    """How much of a running job is done, as a share and in words."""
    total = None if pd.isna(row["total"]) else int(row["total"])
    done = int(row["progress"])
    parts = [tables.plain(row["message"])] if row["message"] else []
    now = datetime.now(UTC)
    if total:
        parts.append(f"{done:,} of {total:,} requests")
        left = queue.seconds_left(done, total, row["started_at"], now)
        if left is not None and done < total:
            parts.append(f"about {span(left)} left in this step")
    elif row["started_at"]:
        parts.append(f"since {span((now - datetime.fromisoformat(row['started_at'])).total_seconds())}")
    return (min(1.0, done / total) if total else 0.0), ", ".join(parts)


def card(row: dict[str, Any], place: int) -> None:
    """A job that waits or runs."""
    job_id, status = int(row["job_id"]), row["status"]
    with st.container(border=True, gap="small"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.badge(status, icon=ICONS[status], color=COLORS[status])
            st.markdown(f"**{tables.plain(row['name'])}** :gray[job {job_id}, {row['kind']}]", width="stretch")
            with st.container(horizontal=True, width="content"):
                st.button(
                    "Log", icon=":material/terminal:", key=f"log-{job_id}", on_click=choose, args=(job_id,),
                    type="tertiary",
                )  # fmt: skip
                st.button(
                    "Cancel", icon=":material/stop_circle:", key=f"cancel-{job_id}", on_click=act,
                    args=("cancel", job_id), help="Stops it as Ctrl-C would; what was answered is stored.",
                )  # fmt: skip
        if status == "running":
            share, said = how_far(row)
            st.progress(share, said)
        else:
            before = "next" if place == 0 else f"behind {place} other{'s' * (place > 1)}"
            st.caption(tables.plain(f"Waits for a worker, {before}. {row['message']}".strip()))


def listed(rows: pd.DataFrame) -> None:
    """Jobs that have ended; a click opens a log."""

    def opened() -> None:
        chosen = st.session_state["ended"].selection.rows
        if chosen:
            choose(int(rows["job_id"].iloc[chosen[0]]))

    shown = rows.assign(
        finished=pd.to_datetime(rows["finished_at"], errors="coerce", utc=True),
        took=(
            pd.to_datetime(rows["finished_at"], errors="coerce", utc=True)
            - pd.to_datetime(rows["started_at"], errors="coerce", utc=True)
        ).dt.total_seconds(),
    )
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    st.dataframe(
        shown,
        hide_index=True,
        height=min(35 * (len(shown) + 1) + 3, 353),
        key="ended",
        on_select=opened,
        selection_mode="single-row",
        column_order=["job_id", "name", "kind", "status", "message", "progress", "run_id", "took", "finished"],
        column_config={
            "job_id": number("Job", format="%d", width=60),
            "name": text("Name", width="medium"),
            "kind": text("Kind", width=80),
            "status": st.column_config.MultiselectColumn(
                "Status", options=list(COLORS), color=[COLORS[one] for one in COLORS], width=100
            ),
            "message": text("What came of it", width="large"),
            "progress": number("Requests", format="localized", width=80),
            "run_id": number("Run", format="%d", width=60),
            "took": number("Took", format="duration", width=80),
            "finished": st.column_config.DatetimeColumn("Ended (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC"),
        },
        placeholder="",
        alt="Jobs that have ended, newest first, with what came of each",
    )
    tables.download(rows.astype({"spec": str}), "jobs", key="get-jobs")


@st.fragment(run_every=LIVE)
def live() -> None:
    """The queue, looked at again every two seconds."""
    rows = frames_app.jobs(reads.ledger(), limit=500)
    waiting = rows[rows["status"].isin(OPEN)].sort_values("job_id")
    if len(waiting) and queue.has_worker(STORE) is False:
        st.warning(
            f"Type: `evalkit worker --store {tables.plain(STORE)}`. It may run on without this page.",
            title="No worker runs, so nothing is done",
            icon=":material/warning:",
        )
    fault = st.session_state.pop("fault", None)
    if fault:
        st.error(tables.plain(fault), icon=":material/error:")
    if rows.empty:
        st.info(EMPTY, title="There are no jobs yet", icon=":material/inbox:")
        return
    if waiting.empty:
        st.caption("Nothing runs or waits.")
    for status in ("running", "queued"):
        for place, row in enumerate(waiting[waiting["status"] == status].to_dict("records")):
            card({str(key): value for key, value in row.items()}, place)
    ended = rows[~rows["status"].isin(OPEN)].reset_index(drop=True)
    if len(ended):
        st.subheader("Ended")
        st.caption("A click on a row opens the job's log.")
        listed(ended)
    show_log(rows)


def show_log(rows: pd.DataFrame) -> None:
    """The end of what the chosen job printed."""
    known = {int(row["job_id"]): row for row in rows.to_dict("records")}
    names = {job_id: f"{job_id} · {row['name']}, {row['status']}" for job_id, row in known.items()}
    asked = st.query_params.get("job", "")
    if "job" not in st.session_state and asked.isdigit() and int(asked) in known:
        st.session_state["job"] = int(asked)
    st.subheader("Log")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            "Job", list(names), index=None, format_func=lambda one: names.get(one, str(one)), key="job",
            on_change=keep_link, placeholder="Whose log", label_visibility="collapsed", width=420,
        )  # fmt: skip
        if chosen in known and known[chosen]["status"] not in OPEN:
            st.button(
                "Retry", icon=":material/replay:", key="retry", on_click=act, args=("retry", chosen),
                help="It goes on where it was; nothing is paid for twice.",
            )  # fmt: skip
        if chosen in known and not pd.isna(known[chosen]["run_id"]):
            tables.link("runs", "Its run", ":material/play_circle:", run=str(int(known[chosen]["run_id"])))
    if chosen not in known:
        return
    if known[chosen]["message"] and known[chosen]["status"] not in OPEN:
        st.markdown(tables.plain(known[chosen]["message"]))
    try:
        text = queue.logs(STORE, chosen)
    except UserError as error:
        told(error)
        return
    if text:
        st.code(text, language=None, height=360, wrap_lines=True)
    else:
        st.caption("It has printed nothing yet.")


def when() -> str | None:
    """Asks when a job is to run; returns a cron expression, "" for at once, None if it is wrong."""
    again = st.segmented_control("When", ["Now", "On a schedule"], default="Now", required=True, key="when")
    if again == "Now":
        return ""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        cron = st.selectbox("How often", list(TIMES), format_func=TIMES.__getitem__, key="often", width=280)
        if not cron:
            cron = st.text_input(
                "Cron expression", "30 3 * * 1-5", key="cron", width=280,
                help="Minute, hour, day, month, weekday (0 is Sunday), all of which must match; in UTC.",
            )  # fmt: skip
    try:
        now = datetime.now(UTC)
        st.caption("Next: " + "; ".join(in_words(at, now) for at in next_times(cron, now)) + ".")
    except UserError as error:
        told(error)
        return None
    return cron


def new_job() -> None:
    """The form for a job."""
    if not visitor.may("admin"):
        st.info(
            "A job runs commands on this machine with its keys, so that only admins queue one.", icon=":material/lock:"
        )
        return
    said = st.session_state.pop("said", None)
    if said:
        st.success(said, icon=":material/check:")
    work = st.segmented_control(
        "What to do", list(WORK), format_func=WORK.__getitem__, default="file", required=True, key="work"
    )
    st.caption(ABOUT[work])
    spec: dict[str, Any] = {}
    if work == "file":
        spec["path"] = st.text_input(
            "Plan file", key="path", placeholder="plan.yaml",
            help=f"Its path on this machine, from {os.getcwd()}; paths in the plan are taken from there as well.",
        )  # fmt: skip
    elif work == "text":
        spec["text"] = st.text_area("Plan (YAML)", key="text", height=260, placeholder=PLAN)
    else:
        typed = st.text_input("Options", key=f"options-{work}", placeholder=EXAMPLES[work])
        try:
            spec["arguments"] = shlex.split(typed)
        except ValueError as error:
            told(UserError(f"options: {error}"))
            return
    name = st.text_input("Name", key="name", placeholder="What lists call it; may be left out")
    cron = when()
    pressed = st.button(
        "Schedule" if cron else "Queue", type="primary", icon=":material/add:", key="add", disabled=cron is None
    )
    if not pressed or cron is None:
        return
    kind = "plan" if work in ("file", "text") else work
    try:
        if cron:
            queue.add_schedule(STORE, kind, spec, name, cron)
            st.session_state["said"] = "Scheduled: see Schedules."
        else:
            st.session_state["said"] = f"Job {queue.submit(STORE, kind, spec, name)} is queued: see Queue."
    except UserError as error:
        for sentence in str(error).splitlines():
            told(UserError(sentence))
        return
    st.rerun()


def turn(schedule_id: int, cron: str) -> None:
    """Turns a schedule on or off."""
    queue.enable_schedule(STORE, schedule_id, cron, st.session_state[f"on-{schedule_id}"])


def schedules() -> None:
    """What is queued again and again."""
    rows = frames_app.schedules(reads.ledger())
    if rows.empty:
        st.info(
            "Make one under New job, or type: `evalkit jobs submit --cron '0 2 * * *' plan plan.yaml`",
            title="Nothing is scheduled",
            icon=":material/event_repeat:",
        )
        return
    now = datetime.now(UTC)
    for row in rows.to_dict("records"):
        number, cron = int(row["schedule_id"]), str(row["cron"])
        with st.container(border=True, gap="small"):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"**{tables.plain(row['name'])}** :gray[{row['kind']}]", width="stretch")
                st.toggle(
                    "On", bool(row["enabled"]), key=f"on-{number}", on_change=turn, args=(number, cron),
                    disabled=not visitor.may("admin"),
                )  # fmt: skip
            st.markdown(f"`{cron}` :gray[minute hour day month weekday, UTC]")
            if row["enabled"]:
                st.markdown("\n".join(f"- {in_words(at, now)}" for at in next_times(cron, now)))
            last = f"Last queued {clock(row['last_at'])} UTC." if row["last_at"] else "Not queued yet."
            st.caption(f"{last} Times that no worker was there for are made up for once.")
    tables.download(rows.astype({"spec": str}), "schedules", key="get-schedules")


views = {"Queue": live, "New job": new_job, "Schedules": schedules}
for tab, view in zip(
    st.tabs(list(views), key="view", on_change="rerun", bind="query-params"), views.values(), strict=True
):
    if tab.open:
        with tab:
            view()
