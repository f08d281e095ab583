"""Failure slices: where a model fails more than elsewhere, with the evidence and examples."""

import pandas as pd
import streamlit as st

from app import answers, charts, reads, tables
from app import reads_training as training

ALL = "All models"
MANY = 100_000  # answers of a run from which on counting them by tag waits for the reader's word
EXAMPLES = 5

number = st.column_config.NumberColumn
COLUMNS = {
    "model": st.column_config.TextColumn("Model"),
    "slice": st.column_config.TextColumn("Slice"),
    "where": st.column_config.TextColumn("Where"),
    "rate": number("Failure rate", format="percent"),
    "lower": number("From", format="percent"),
    "upper": number("To", format="percent"),
    "answers": number("Answers", help="Graded answers that the rate is of", format="%d"),
    "rest_rate": number("Elsewhere", format="percent", help="Failure rate outside of the slice"),
    "effect": number("Effect", format="%+.2f", help="Failure rate less that elsewhere"),
    "q_value": number("q-value", format="%.2g", help="Share of false discoveries among slices up to this one"),
    "half": st.column_config.TextColumn("Measured on", help="held-out: prompts that the search never saw"),
    "support": number("Prompts", help="Both halves together"),
    "clear": st.column_config.CheckboxColumn("Clear", help="The interval lies wholly above the rate elsewhere"),
}

st.title("Failure slices")
st.caption("Where a model fails more than elsewhere. Bars are 95% intervals of the failure rate.")
answers.style()


def percent(value: float) -> str:
    """A share in words; a dash where there is none."""
    return "–" if pd.isna(value) else f"{value:.0%}"


def chart(table: pd.DataFrame, title: str, *, several: bool) -> None:
    """Failure rates with their intervals, the first rows only."""
    shown = table.head(tables.SHORT).copy()
    shown["name"] = shown["slice"] + (" · " + shown["model"] if several else "")
    # Two slices of one name would share a row of the chart.
    twice = shown["name"].duplicated(keep=False)
    if twice.any() and "slice_id" in shown:
        shown.loc[twice, "name"] += " #" + shown.loc[twice, "slice_id"].astype(str)
    shown["elsewhere"] = shown["rest_rate"]
    cut = "" if len(shown) == len(table) else f", first {len(shown)} of {len(table)}"
    charts.show(
        charts.interval_chart(
            shown, "name", "rate", "lower", "upper", title=title + cut, value_title="failure rate", value_format=".0%",
            domain=(0.0, 1.0), tooltip=["elsewhere", "answers"],
        )
    )  # fmt: skip


def listing(table: pd.DataFrame, order: list[str], alt: str) -> None:
    """The slices as a table; shares to the percent, as more digits would promise more than there is."""
    rounded = table.round({"rate": 2, "lower": 2, "upper": 2, "rest_rate": 2})
    st.dataframe(rounded, hide_index=True, column_order=order, column_config=COLUMNS, placeholder="", alt=alt)


def found_slices(found: pd.DataFrame) -> None:
    """The slices that were searched for, and one of them in detail."""
    models = list(dict.fromkeys(found["model"]))
    model = ALL
    if len(models) > 1:
        model = st.selectbox("Model", [ALL, *models], key="model", bind="query-params", width=320)
    table = found if model == ALL else found[found["model"] == model]
    chart(table, "How often the model fails in each slice", several=model == ALL and len(models) > 1)
    order = ["slice", "where", "rate", "lower", "upper", "answers", "rest_rate", "effect", "q_value", "half", "support"]
    order = [*(["model"] if model == ALL and len(models) > 1 else []), *order]
    listing(table, order, "Failure slices as a table")
    tables.download(table, "failure slices", key="get-slices")
    st.caption(
        "Prompts are split before the search: slices are found on one half and measured on the other, so the search "
        "does not make the rates look worse than they are. The smallest q-value stands first."
    )
    names = {row["slice_id"]: f"{row['slice']} · {row['model']}" for row in table.to_dict("records")}
    st.subheader("One slice", anchor=False)
    chosen = st.selectbox(
        "Slice", list(names), format_func=lambda key: names.get(key, str(key)), key="slice", bind="query-params"
    )
    if chosen in names:
        detail(table[table["slice_id"] == chosen].iloc[0])


def detail(row: pd.Series) -> None:
    """One slice: its numbers, what it is made of, answers of the half that may be read."""
    with st.container(border=True):
        st.markdown(f"**{answers.one_line(row['slice'])}** of {answers.one_line(row['model'] or 'a model')}")
        if row["where"]:
            st.caption(answers.one_line(f"Prompts of {row['dataset'] or 'the run'} with {row['where']}"))
        with st.container(horizontal=True):
            interval = f"{percent(row['lower'])} to {percent(row['upper'])}"
            st.metric("Failure rate", percent(row["rate"]), help=f"95% interval {interval}, {row['half']} half")
            st.metric("Elsewhere", percent(row["rest_rate"]))
            st.metric("Effect", "–" if pd.isna(row["effect"]) else f"{row['effect']:+.2f}")
            st.metric("q-value", "–" if pd.isna(row["q_value"]) else f"{row['q_value']:.2g}")
            st.metric("Prompts", f"{row['train_items']} + {row['held_out_items']}", help="To train on + held out")
        if st.button("Retrain on this slice", type="primary", icon=":material/model_training:", key="to-retrain"):
            st.switch_page("app_pages/retrain.py", query_params={"slice_id": str(row["slice_id"])})
    examples(int(row["slice_id"]))


def examples(slice_id: int) -> None:
    """Answers of the training half; the held-out half stays unread."""
    table = training.slice_answers(slice_id)
    if table.empty:
        st.info("The ledger holds no answer to the prompts of this slice's training half.", icon=":material/info:")
        return
    st.subheader("Examples", anchor=False)
    st.caption("From the half to train on, failed answers first. The other half is shown to nobody: the gate needs it.")
    for row in table.head(EXAMPLES).to_dict("records"):
        with st.container(border=True, gap="xsmall"):
            st.caption("**Prompt**")
            answers.show(row["prompt"], f"p{row['response_id']}")
            st.caption("**Answer**" if pd.isna(row["grade"]) else f"**Answer**, graded {row['grade']:g}")
            failed = (
                row["answer"] if isinstance(row["answer"], str) else f"No answer: {row['error'] or 'unknown error'}"
            )
            answers.show(failed, f"a{row['response_id']}")
    tables.download(table, f"slice {slice_id}, training half", key="get-examples")


def tagged() -> None:
    """Failures by tag in one run: what can be seen without a search."""
    runs = reads.runs()
    runs = runs[runs["n"] > 0]
    if runs.empty:
        st.info(
            "There are no runs with answers here. Type `evalkit run PLAN` to evaluate models.",
            icon=":material/play_circle:",
        )
        return
    names = {
        row["run_id"]: f"{row['name']} (run {row['run_id']}, {row['n']:,} answers)" for row in runs.to_dict("records")
    }
    run_id = st.selectbox(
        "Run", list(names), format_func=lambda key: names.get(key, str(key)), key="run", bind="query-params", width=420
    )
    if run_id not in names:
        return
    size = int(runs.loc[runs["run_id"] == run_id, "n"].iloc[0])
    if size > MANY and not st.toggle(f"Count all {size:,} answers by tag (takes a while)", key="count"):
        return
    found = reads.tried(lambda: training.by_tag(run_id))
    if found is None:
        return
    if found.table.empty:
        st.info(
            "No tag marks answers that fail more often than the rest, or no answer of this run was graded.",
            icon=":material/info:",
        )
        st.caption(found.definition)
        return
    models = list(dict.fromkeys(found.table["model"]))
    shown = found.table
    if len(models) > 1:
        model = st.selectbox("Model", [ALL, *models], key="tag-model", bind="query-params", width=320)
        shown = shown if model == ALL else shown[shown["model"] == model]
    shown = shown.sort_values(["clear", "effect"], ascending=False)
    several = shown["model"].nunique() > 1
    chart(shown, "Failure rate by tag, where it is above the rest", several=several)
    order = [*(["model"] if several else []), *(c for c in shown.columns if c != "model")]
    listing(shown, order, "Failures by tag as a table")
    tables.download(shown, f"failures by tag, run {run_id}", key="get-tags")
    looked = sum(model.looked_at for model in found.models)
    st.caption(
        f"{found.definition} {looked:,} slices were looked at, so some stand here by chance: this is where to look "
        "first, not a finding."
    )


found = training.slices()
if found.empty:
    st.info(
        "Nobody has searched this ledger for slices. Below is what the prompts' tags show by themselves.",
        icon=":material/filter_alt:",
        title="No failure slices yet",
    )
    tagged()
else:
    views = {"Slices": lambda: found_slices(found), "By tag": tagged}
    for tab, view in zip(
        st.tabs(list(views), key="view", on_change="rerun", bind="query-params"), views.values(), strict=True
    ):
        if tab.open:
            with tab:
                view()
