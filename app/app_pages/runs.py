"""Runs: how each is getting on and what it cost; its cells; its responses, filtered, sorted and searched."""

import time

import pandas as pd
import streamlit as st

from app import reads, reads_samples, search, tables
from app.search import PAGE, SORTS, Filter

EVERY = 0  # the run id of all runs
ALL_RUNS = "All runs"
SHOWN = {"All": None, "Answered": False, "Failed": True}
WHERE: dict[search.Place, str] = {"both": "Prompts and answers", "prompts": "Prompts", "answers": "Answers"}
PATIENCE = 20  # seconds of looking through texts before the reader is asked

number = st.column_config.NumberColumn
text = st.column_config.TextColumn
COUNTERS = {
    "n": number("Requests", format="localized", help="Answers and failures"),
    "errors": number("Errors", format="localized", help="Requests without an answer"),
    "cached": number("Cached", format="localized", help="Answered before, so paid by another run"),
    "unpriced": number("Unpriced", format="localized", help="Answers whose cost is not known"),
    "prompt_tokens": number("Tokens in", format="compact", help="Of the requests this run paid"),
    "completion_tokens": number("Tokens out", format="compact"),
    "cost": number("Cost", format="$%.4f", help="US dollars; answers of unknown cost are not in it"),
    "seconds": number("Model time", format="%.0f s", help="Seconds of all requests, one after another"),
}


def first_page() -> None:
    """Goes back to the first page when something else is looked at."""
    for key in ("page", "stretches"):
        st.session_state.pop(key, None)


def opened(run_ids: list[int]) -> None:
    """Shows the run whose row was clicked."""
    chosen = st.session_state["run-table"].selection.rows
    if chosen:
        st.session_state["run"] = str(run_ids[chosen[0]])
        first_page()


def show_runs(table: pd.DataFrame) -> None:
    """All runs, newest first; a click opens one."""
    shown = table.assign(
        started_at=pd.to_datetime(table["started_at"], errors="coerce", utc=True),
        progress=table["done"] / table["total"].where(table["total"] > 0),
    )
    st.dataframe(
        shown,
        hide_index=True,
        height="content" if len(shown) <= 8 else 320,
        key="run-table",
        on_select=lambda: opened(table["run_id"].tolist()),
        selection_mode="single-row",
        column_order=[
            *("run_id", "name", "status", "progress", "models", "datasets", "n", "errors", "cost", "prompt_tokens"),
            *("completion_tokens", "seconds", "started_at", "message"),
        ],
        column_config={
            **COUNTERS,
            "run_id": number("Run", format="%d", width=60),
            "name": text("Name", width=140),
            "status": text("Status", width=80),
            "progress": st.column_config.ProgressColumn(
                "Progress", format="percent", min_value=0, max_value=1, width=110
            ),
            "models": number("Models", width=70),
            "datasets": number("Datasets", width=80),
            "started_at": st.column_config.DatetimeColumn("Started", format="YYYY-MM-DD HH:mm"),
            "message": text("Message", width="large"),
        },
        alt="Runs, newest first, with status, counts, errors and cost",
    )
    tables.download(table, "runs", key="get-runs")


def show_cells(run: int) -> None:
    """A run by model and dataset."""
    cells = reads_samples.run_cells(run)
    if cells.empty:
        nothing_asked()
        return
    cells = cells.assign(error_rate=cells["errors"] / cells["n"])
    st.dataframe(
        cells,
        hide_index=True,
        height="content" if len(cells) <= 15 else 560,
        column_order=["model", "dataset", "n", "errors", "error_rate", *list(COUNTERS)[2:]],
        column_config={
            **COUNTERS,
            "model": text("Model", width="medium"),
            "dataset": text("Dataset", width="medium"),
            "error_rate": number("Error rate", format="percent"),
        },
        alt="The run by model and dataset, with counts, errors, tokens, cost and time",
    )
    tables.download(cells, f"run {run} cells", key="get-cells")
    st.caption(
        f"{len(cells):,} cells. Tokens, cost and time are those of requests that this run paid: not of cached answers."
    )


def nothing_asked() -> None:
    """What to say of a run without responses."""
    st.info(
        "No model was asked anything in this run: it imported votes, or judged the answers of another run. Its "
        "verdicts are on the pages Leaderboard and Judges.",
        icon=":material/info:",
    )


def filters(run: int) -> tuple[Filter, str | None, bool]:
    """Asks which responses to list, and in what order."""
    cells = reads_samples.run_cells(run) if run != EVERY else None
    models: dict[str, int] = {}
    datasets: dict[str, int] = {}
    if cells is not None:
        models = dict(zip(cells["model"], cells["model_id"].tolist(), strict=True))
        datasets = dict(zip(cells["dataset"], cells["dataset_id"].tolist(), strict=True))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        model = dataset = None
        if len(models) > 1:
            model = st.selectbox(
                "Model", list(models), index=None, placeholder="All models", key="model", bind="query-params",
                width=165, on_change=first_page,
            )  # fmt: skip
        if len(datasets) > 1:
            dataset = st.selectbox(
                "Dataset", list(datasets), index=None, placeholder="All datasets", key="dataset", bind="query-params",
                width=155, on_change=first_page,
            )  # fmt: skip
        shown = st.segmented_control(
            "Requests", list(SHOWN), default="All", required=True, key="show", bind="query-params", on_change=first_page
        )
        sort, below, falling = None, None, True
        if run != EVERY:
            below = st.number_input(
                "Score below", value=None, step=0.1, format="%g", placeholder="any", key="below", bind="query-params",
                width=100, on_change=first_page,
                help="Score: the grade by the dataset's main metric. Of right-or-wrong metrics, 1 lists the wrong.",
            )  # fmt: skip
            sort = st.selectbox(
                "Sort by", list(SORTS), index=None, format_func=SORTS.__getitem__, placeholder="Model and dataset",
                key="sort", bind="query-params", width=165, on_change=first_page,
            )  # fmt: skip
            if sort is not None:
                order = st.segmented_control(
                    "Order", ["Highest", "Lowest"], default="Highest", required=True, key="order", bind="query-params",
                    on_change=first_page,
                )  # fmt: skip
                falling = order == "Highest"
    wanted = Filter(
        run if run != EVERY else None,
        models.get(model or ""),
        datasets.get(dataset or ""),
        SHOWN[shown],
        below,
    )
    return wanted, sort, falling


def search_text(wanted: Filter, sort: str | None, falling: bool, sought: str, where: search.Place, total: int) -> None:
    """Looks for a text until a page is full, saying how far it has come."""
    key = (wanted, sort, falling, sought, where)
    kept = st.session_state.get("stretches")
    if kept is None or kept[0] != key:
        kept = st.session_state["stretches"] = (key, [0])
    starts = kept[1]  # where each page begins, the last one that is shown
    looked, done = starts[-1], False
    links: list[search.Link] = []
    bar = st.empty()
    began = time.monotonic()
    while not done and len(links) < PAGE and time.monotonic() - began < PATIENCE:
        found = reads_samples.find(wanted, sort, falling, sought, where, looked, PAGE - len(links))
        links, looked, done = [*links, *found.links], found.looked, found.done
        if not done and len(links) < PAGE:
            bar.progress(
                min(looked / max(total, 1), 1.0),
                f"Looked through {looked:,} of {total:,} responses; {len(links)} found",
            )
    bar.empty()
    first = len(starts) == 1
    if not links and done:
        st.info(
            f"None of {'the' if first else 'the other'} {total:,} responses has this text. Characters are taken as "
            "they are; upper and lower case are one.",
            icon=":material/search_off:",
            title="Nothing found",
        )
    else:
        end = "all" if done else f"the first {looked:,} of {total:,}"
        st.caption(f"{len(links)} found{'' if first else f', page {len(starts)}'}; {end} responses looked through.")
        if links:
            show_rows(wanted.run, tuple(links), f"found page {len(starts)}")
    with st.container(horizontal=True):
        if not first and st.button("Previous", icon=":material/chevron_left:"):
            starts.pop()
            st.rerun()
        if not done and st.button("Search on", icon=":material/chevron_right:", icon_position="right"):
            starts.append(looked)
            st.rerun()


def list_pages(wanted: Filter, sort: str | None, falling: bool, total: int) -> None:
    """One page of the list, and the way to the others."""
    links = None
    if sort is not None or wanted.below is not None:
        links = reads_samples.chosen(wanted, sort, falling)
        total = len(links)
    if not total:
        st.info("No response passes these filters.", icon=":material/filter_alt_off:")
        return
    pages = -(-total // PAGE)
    slot = st.container()
    page = 1
    if pages > 1:
        if st.session_state.get("page", 1) > pages:
            st.session_state["page"] = pages
        page = st.pagination(pages, key="page", bind="query-params")
    at = (page - 1) * PAGE
    part = tuple(links[at : at + PAGE]) if links is not None else reads_samples.page(wanted, page)
    with slot:
        st.caption(f"{at + 1:,} to {at + len(part):,} of {total:,} responses.")
        show_rows(wanted.run, part, f"run {wanted.run} page {page}")


def show_rows(run: int | None, links: tuple[search.Link, ...], name: str) -> None:
    """One page of responses; the button of a row opens the sample."""
    table = reads_samples.rows(run, links)
    shown = table.assign(open=":material/open_in_new:", error=[short(kind, said) for kind, said in
                         zip(table["error_kind"], table["error"], strict=True)])  # fmt: skip
    optional = [
        name for name in ("score", "cost", "error") if shown[name].astype(bool).any() and shown[name].notna().any()
    ]
    st.dataframe(
        shown,
        hide_index=True,
        height="content" if len(shown) <= 15 else 640,
        column_order=[
            *("open", "model", "dataset", "item", *[one for one in optional if one != "cost"], "prompt", "answer"),
            *(
                "prompt_tokens",
                "completion_tokens",
                "seconds",
                *(["cost"] if "cost" in optional else []),
                "response_id",
            ),
        ],
        column_config={
            "open": st.column_config.ButtonColumn(
                "",
                key="open-sample",
                type="tertiary",
                width=45,
                on_click=open_sample,
                args=(table["response_id"].tolist(),),
            ),
            "model": text("Model", width=150),
            "dataset": text("Dataset", width=120),
            "item": text("Item", width=65),
            "prompt": text("Prompt", width=280),
            "answer": text("Answer", width=360),
            "error": text("Error", width=120),
            "score": number("Score", format="%.3g", width=65),
            "prompt_tokens": number("Tokens in", width=80),
            "completion_tokens": number("Tokens out", width=85),
            "seconds": number("Seconds", format="%.2f", width=75),
            "cost": number("Cost", format="$%.5f", width=80),
            "response_id": number("Response", format="%d", width=85),
        },
        alt="One page of responses; the first column opens a sample",
    )
    tables.download(table, f"responses {name}", key="get-responses")


def short(kind: str | None, said: str | None) -> str:
    """An error in a cell."""
    return f"{kind}: {said}" if isinstance(kind, str) else ""


def open_sample(ids: list[int]) -> None:
    """Goes to the page of the sample whose button was pressed."""
    click = st.session_state["open-sample"]
    if click is not None:
        st.switch_page("app_pages/sample.py", query_params={"response": str(ids[click.row])})


st.title("Runs")
st.caption("What was asked of which models, how it went and what it cost, down to the single response.")

runs = reads.runs(1000)
if runs.empty:
    st.info(
        "Nothing has been run in this ledger. Type `evalkit run PLAN` to evaluate models, or `evalkit import responses "
        "FILE` to bring answers you have.",
        icon=":material/play_circle:",
        title="No runs yet",
    )
    st.stop()
show_runs(runs)

ids = runs["run_id"].tolist()
asked = runs.loc[runs["n"] > 0, "run_id"].tolist()
with st.container(horizontal=True, vertical_alignment="bottom"):
    # Numbers as text, without their names: so they stand in the address.
    chosen = st.selectbox(
        "Run", [*map(str, ids), *([ALL_RUNS] if len(asked) > 1 else [])], index=ids.index(asked[0]) if asked else 0,
        key="run", bind="query-params", width=160, on_change=first_page,
    )  # fmt: skip
    run = EVERY if chosen == ALL_RUNS else int(chosen)
    view = "Responses"
    if run != EVERY:
        view = st.segmented_control(
            "Show", ["Responses", "Cells"], default="Responses", required=True, key="view", bind="query-params"
        )
if run != EVERY:
    message = runs.loc[runs["run_id"] == run, "message"].iloc[0]
    if message:
        st.warning(tables.plain(message[:1].upper() + message[1:]), icon=":material/info:")
if view == "Cells":
    show_cells(run)
elif run != EVERY and reads_samples.run_cells(run).empty:
    nothing_asked()
else:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        sought = st.text_input(
            "Search", type="search", key="find", bind="query-params", placeholder="Any text in prompts or answers",
            on_change=first_page, width=420,
        ).strip()  # fmt: skip
        where: search.Place = "both"
        if sought:
            where = st.segmented_control(
                "In", list(WHERE), default="both", required=True, format_func=WHERE.__getitem__, key="in",
                bind="query-params", on_change=first_page,
            )  # fmt: skip
    wanted, sort, falling = filters(run)
    if sought:
        among = sort is not None or wanted.below is not None
        total = len(reads_samples.chosen(wanted, sort, falling)) if among else reads_samples.size(wanted)
        search_text(wanted, sort, falling, sought, where, total)
    else:
        list_pages(wanted, sort, falling, reads_samples.size(wanted))
