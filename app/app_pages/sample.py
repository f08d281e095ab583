"""One sample: the prompt, several models' answers side by side and word by word, every grade and verdict."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from app import answers, reads, reads_samples, tables
from app.difference import STYLE, framed
from app.reads_samples import VERDICTS, Answer, Said
from app.search import content
from evalkit.errors import UserError

BESIDE = 3  # further answers on the page
READ, COMPARE = "Side by side", "Difference, word by word"
ROLES = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "Tool"}

number = st.column_config.NumberColumn
text = st.column_config.TextColumn


def place(found: Mapping[str, Any]) -> str:
    """Where the prompt is from."""
    return ", ".join(f"{one['dataset']} / {one['item']}" for one in found["datasets"][:3]) or f"item {found['item_id']}"


def known(value: Any, form: str = "{:,}", unit: str = "") -> str:
    """A number in words; a dash where it is not known."""
    return "–" if value is None else form.format(value) + unit


def show_prompt(found: Mapping[str, Any]) -> None:
    """The messages, and what the right answer is."""
    messages = found["messages"]
    with st.container(border=True, key="answer-scroll-prompt"):
        for position, message in enumerate(messages):
            if len(messages) > 1:
                st.caption(ROLES.get(str(message.get("role")), tables.plain(message.get("role", ""))))
            answers.show(content(message.get("content")), f"prompt-{position}")
    if found["reference"] is not None or found["tags"]:
        with st.expander("Reference answer and tags", icon=":material/fact_check:"):
            if found["reference"] is not None:
                reference = found["reference"]
                target = reference.get("target") if isinstance(reference, Mapping) else reference
                if isinstance(target, str | int | float):
                    st.caption("Reference answer")
                    answers.show(str(target), "reference")
                else:
                    st.code(readable(reference), language="json", wrap_lines=True)
            if found["tags"]:
                tags = {tables.plain(tag): tables.plain(as_text(value)) for tag, value in found["tags"].items()}
                st.table(tags, border="horizontal", width="content", alt="Tags of the prompt")


def as_text(value: Any) -> str:
    """A tag's value in words."""
    return ", ".join(str(one) for one in value) if isinstance(value, list) else str(value)


def readable(value: Any) -> str:
    """JSON for people."""
    return json.dumps(value, ensure_ascii=False, indent=1, default=str)


def numbers_of(found: Mapping[str, Any]) -> str:
    """What an answer took, in one line."""
    counted = found["prompt_tokens"] is not None or found["completion_tokens"] is not None
    told = [
        f"{known(found['prompt_tokens'])} tokens in, {known(found['completion_tokens'])} out"
        if counted
        else "tokens not known",
        "time not known" if found["seconds"] is None else f"{found['seconds']:.2f} s",
        "cost not known" if found["cost"] is None else f"${found['cost']:.6f}".rstrip("0").rstrip("."),
    ]
    if found["attempts"] > 1:
        told.append(f"{found['attempts']} attempts")
    if found["finish_reason"]:
        told.append(f"ended: {found['finish_reason']}")
    return tables.plain(" · ".join(told))


def show_answer(found: Mapping[str, Any], key: str) -> None:
    """One answer with its grades."""
    with st.container(border=True):
        st.markdown(f"**{answers.one_line(found['model'])}**")
        st.caption(numbers_of(found))
        if found["error_kind"]:
            st.error(
                tables.plain(found["error"] or ""), icon=":material/error:", title=f"No answer: {found['error_kind']}"
            )
        if found["reasoning"]:
            with st.expander(f"Reasoning, {len(found['reasoning'].split()):,} words", icon=":material/psychology:"):
                answers.show(found["reasoning"], f"reasoning-{key}")
        if found["text"] is not None:
            answers.show(found["text"], f"scroll-{key}")
        if found["tool_calls"]:
            with st.expander(f"Tool calls: {len(found['tool_calls'])}", icon=":material/build:"):
                st.code(readable(found["tool_calls"]), language="json", wrap_lines=True)
        for warning in found["warnings"] or ():
            st.caption(f":material/warning: {tables.plain(warning)}")
        show_grades(found, key)


def show_grades(found: Mapping[str, Any], key: str) -> None:
    """All grades of an answer, and the reasons that were given."""
    grades = found["grades"]
    if not grades:
        st.caption("Not graded.")
        return
    table = pd.DataFrame(grades)
    table["detail"] = [readable(detail) if detail else "" for detail in table["detail"]]
    columns = [*("annotator", "criterion", "value"), *(["error"] if table["error"].notna().any() else []), "detail"]
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        column_order=columns,
        column_config={
            "annotator": text("Graded by", width=170),
            "criterion": text("Criterion", width=90),
            "value": number("Grade", format="%.3g", width=65),
            "error": text("Error"),
            "detail": text("Detail", width=150),
        },
        alt=f"Grades of the answer by {found['model']}",
    )
    for position, grade in enumerate(grades):
        reason = (grade["detail"] or {}).get("rationale")
        if reason:
            with st.expander(f"Why {answers.one_line(grade['annotator'])} gave {known(grade['value'], '{:.3g}')}"):
                answers.show(str(reason), f"reason-{key}-{position}")


def show_difference(left: Mapping[str, Any], others: list[dict[str, Any]]) -> None:
    """Two answers word by word."""
    names = {one["id"]: named(one) for one in others}
    right = others[0]
    if len(others) > 1:
        chosen = st.selectbox("With", list(names), format_func=lambda key: names[key], key="with", width=320)
        right = next(one for one in others if one["id"] == chosen)
    if left["text"] is None or right["text"] is None:
        st.info("One of the two has no answer, so there is nothing to compare.", icon=":material/info:")
        return
    found = reads_samples.difference(left["text"], right["text"])
    st.caption(
        f"{found.shared:.0%} of the words are in both, in the same order. Marked: what only this answer has."
        f"{' Compared as far as the first 3,000 words.' if found.cut else ''}"
    )
    st.html(STYLE)
    for column, one, html in zip(st.columns(2), (left, right), (found.left, found.right), strict=True):
        with column, st.container(border=True):
            st.markdown(f"**{answers.one_line(one['model'])}**")
            st.html(framed(html))


def named(found: Mapping[str, Any]) -> str:
    """An answer's name among the others to the prompt."""
    return f"{found['model']} #{found['id']}"


def show_verdicts(found: Mapping[str, Any], said: tuple[Said, ...]) -> None:
    """Every verdict on battles of this answer."""
    model = found["model"]
    if not said:
        st.caption("No battle of this answer has been judged.")
        return
    outcome = {model: "won", "tie": "tie", "both bad": "both bad", None: "failed"}
    table = pd.DataFrame(
        [
            {
                "verdict_id": one.verdict_id,
                "annotator": one.annotator,
                "kind": one.kind,
                "against": one.model_b if one.model_a == model else one.model_a,
                "verdict": outcome.get(one.winner, "lost"),
                "shown": "" if not one.shown else "first" if one.shown == model else "second",
                "criterion": one.criterion,
                "turn": one.turn,
                "probability": one.probability
                if one.probability is None or one.model_a == model
                else 1 - one.probability,
                "seconds": one.seconds,
                "error": one.error,
                "rationale": one.rationale,
                "against_response": one.response_b if one.model_a == model else one.response_a,
            }
            for one in said
        ]
    )
    counts = table["verdict"].value_counts()
    st.caption(
        tables.plain(
            f"{len(table):,} verdicts{f' (the first {VERDICTS})' if len(table) == VERDICTS else ''} on {model}: "
            + ", ".join(
                f"{counts[name]} {name}" for name in ("won", "lost", "tie", "both bad", "failed") if name in counts
            )
            + ". Both orders of a battle stand here one by one."
        )
    )
    optional = [name for name in ("probability", "seconds", "error") if table[name].notna().any()]
    st.dataframe(
        table,
        hide_index=True,
        height="content" if len(table) <= 10 else 400,
        column_order=["annotator", "kind", "against", "verdict", "shown", "criterion", "turn", *optional],
        column_config={
            "annotator": text("Judged by", width="medium"),
            "kind": text("Kind", width=70),
            "against": text("Against", width="medium"),
            "verdict": text("This answer", width=90),
            "shown": text("Shown", width=70),
            "criterion": text("Criterion", width=90),
            "turn": number("Turn", width=55),
            "probability": number("Probability", format="%.2f", help="Stated, that this answer is preferred"),
            "seconds": number("Seconds", format="%.1f"),
            "error": text("Error", width="large"),
        },
        alt=f"Verdicts on battles of the answer by {model}",
    )
    tables.download(table, f"verdicts response {found['id']}", key="get-verdicts")
    reasons = {one.verdict_id: one for one in said if one.rationale}
    if reasons:

        def label(key: int) -> str:
            row = table.loc[table["verdict_id"] == key].iloc[0]
            order = f", shown {row['shown']}" if row["shown"] else ""
            return f"{row['annotator']}: {row['verdict']} against {row['against']}{order}"

        chosen = st.selectbox("Read the reason of", list(reasons), format_func=label, key="reason")
        with st.container(border=True):
            answers.show(reasons[chosen].rationale or "", "rationale")


def show_sample(found: dict[str, Any]) -> None:
    """The page of one response."""
    others = [one for one in reads_samples.answers_to(found["item_id"]) if one.id != found["id"]]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{answers.one_line(found['model'])}** on {answers.one_line(place(found))}")
        if found["error_kind"]:
            st.badge("failed", icon=":material/error:", color="orange")
        for run in found["runs"][:3]:
            st.badge(f"run {run}", icon=":material/play_circle:", color="gray")
    st.subheader("Prompt", anchor=False)
    show_prompt(found)

    st.subheader("Answers", anchor=False)
    names = label_answers(found, others)
    beside: list[int] = []
    if others:
        beside = st.multiselect(
            f"Beside it: {len(others)} other answers to this prompt",
            list(names),
            default=first_other(found, others),
            format_func=lambda key: names.get(key, str(key)),
            max_selections=BESIDE,
            key="beside",
            bind="query-params",
            placeholder="Choose up to three",
        )
    else:
        st.caption("No other answer to this prompt is in the ledger.")
    shown = [reads_samples.sample(key) for key in beside if key in names]
    mode = READ
    if shown:
        mode = st.segmented_control(
            "Show", [READ, COMPARE], default=READ, required=True, key="as", bind="query-params",
            label_visibility="collapsed",
        )  # fmt: skip
    if mode == COMPARE:
        show_difference(found, shown)
    else:
        for column, one in zip(st.columns(1 + len(shown)), [found, *shown], strict=True):
            with column:
                show_answer(one, str(one["id"]))
    st.subheader("Verdicts", anchor=False)
    show_verdicts(found, reads_samples.verdicts_on(found["item_id"], found["model_id"], found["id"]))
    st.subheader("Request", anchor=False)
    st.caption(
        f"Response {found['id']}, sample {found['sample']}, turn {found['turn']}, stored {found['created_at']}"
        f"{tables.plain(', served by ' + found['served_by']) if found['served_by'] else ''}."
    )
    with st.expander("Request body", icon=":material/code:"):
        st.code(pretty(found["body"]), language="json", wrap_lines=True)
    st.download_button(
        "Download", lambda: readable(found).encode(), f"response {found['id']}.json", "application/json",
        key="get-sample", icon=":material/download:", on_click="ignore", help="All of this sample as JSON",
    )  # fmt: skip


def label_answers(found: Mapping[str, Any], others: list[Answer]) -> dict[int, str]:
    """Names of the other answers, each once."""
    names: dict[int, str] = {}
    several = {one.model for one in others if sum(other.model == one.model for other in others) > 1} | {found["model"]}
    for one in others:
        more = f", #{one.id}" if one.model in several else ""
        names[one.id] = f"{one.model}{more}{' (failed)' if one.failed else ''}"
    return names


def first_other(found: Mapping[str, Any], others: list[Answer]) -> list[int]:
    """The answer that stands beside it at first: another model's, to the same turn."""
    fitting = [one for one in others if one.model != found["model"] and not one.failed and one.turn == found["turn"]]
    return [fitting[0].id] if fitting else []


def pretty(body: str) -> str:
    """The body as it was sent, on several lines."""
    try:
        return readable(json.loads(body))
    except ValueError:
        return body


st.title("Sample")
st.caption("One prompt, what models answered to it, and how each answer was judged. This page's address can be shared.")
answers.style()

with st.container(horizontal=True, vertical_alignment="bottom"):
    response = st.number_input(
        "Response", min_value=1, step=1, value=None, format="%d", placeholder="Number", key="response",
        bind="query-params", width=180,
    )  # fmt: skip
    if st.button("All responses", icon=":material/list:"):
        st.switch_page("app_pages/runs.py")
if response is None:
    if reads.counts().asked:
        st.info(
            "Open a response from the page Runs (the button at the start of a row), or type its number.",
            icon=":material/article:",
            title="No sample chosen",
        )
    else:
        st.info(
            "This ledger holds no responses. Type `evalkit run PLAN` to ask models, or `evalkit import responses FILE` "
            "to bring answers you have.",
            icon=":material/article:",
            title="No samples yet",
        )
    st.stop()
try:
    found = reads_samples.sample(int(response))
except UserError as error:
    st.info(tables.plain(error), icon=":material/search_off:")
    st.stop()
show_sample(found)
