"""Judges: the recommendation, the scorecard, reliability curves, and disagreements with people to read one by one."""

import pandas as pd
import streamlit as st

from app import answers, charts, reads, reads_judges, reads_samples, tables
from app.judge_habits import habits, without_people
from app.reads_judges import DIRECTIONS, Calibrated
from app.search import content
from evalkit.errors import UserError
from judges.columns import BY_KEY, COLUMNS, GROUPS, Column, Figure, written
from judges.scorecard import ScorecardRow

ALL = "All"
DECISIONS = {
    "keep": ("Keep", ":material/check:", "green"),
    "drop": ("Drop", ":material/close:", "orange"),
    "unsettled": ("Votes do not tell", ":material/help:", "gray"),
}
FORMATS = {"share": ".3~p", "points": "+.2f", "dollars": "$.2f"}

number = st.column_config.NumberColumn
text = st.column_config.TextColumn


def cell(column: Column, figure: Figure | None) -> str:
    """A figure with its interval and n, as Markdown."""
    if figure is None:
        return ""
    if not figure.measured:
        return ":gray[not measured]"
    limits = ""
    if figure.lower is not None and figure.upper is not None:
        limits = f" ({written(column, figure.lower)} to {written(column, figure.upper)})"
    return f"**{tables.plain(written(column, figure.value))}**{tables.plain(limits)} :gray[n {figure.n:,}]"


def show_recommendation(told: Calibrated) -> None:
    """What to do with the judges, in words."""
    advice, facts = told.advice, told.found.facts
    with st.container(border=True):
        answer, _, rest = advice.headline.partition(". ")
        st.markdown(f"**May a judge stand in for people? {tables.plain(answer)}.** {tables.plain(rest)}")
    for one in advice.advice:
        said, icon, colour = DECISIONS[one.decision]
        with st.container(border=True, gap="small"):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"**{answers.one_line(one.judge)}**", width="content")
                st.badge(said, icon=icon, color=colour)  # type: ignore[arg-type]
            st.markdown(tables.plain(one.reason))
            if one.conditions:
                st.markdown("\n".join(f"- {tables.plain(condition)}" for condition in one.conditions))
    with st.expander("Where each may stand in for a person", icon=":material/person_check:"):
        st.markdown("\n".join(f"- {tables.plain(sentence)}" for sentence in advice.stand_in))
    with st.expander("Juries, and what the human votes change on the leaderboard", icon=":material/groups:"):
        st.markdown(f"{tables.plain(advice.juries)}\n\n{tables.plain(advice.board)}")
    if advice.questions:
        with st.expander(
            f"What more votes would settle: {len(advice.questions)} open question{'s' * (len(advice.questions) != 1)}",
            icon=":material/quiz:",
        ):
            rows = [{"question": one.question, "votes": one.votes, "how": one.sentence} for one in advice.questions]
            st.dataframe(
                pd.DataFrame(rows),
                hide_index=True,
                height="content",
                column_config={
                    "question": text("Question", width="large"),
                    "votes": number("Votes", format="localized", help="Human votes that would settle it"),
                    "how": text("How", width="large"),
                },
                alt="Open questions with the human votes that would settle them",
            )
    st.caption(
        f"Measured on {facts.shared_battles:,} battles that both a judge and a person judged, {facts.votes:,} votes of "
        f"{facts.people:,} people, {facts.items:,} prompts, {facts.models:,} models. Epsilon {facts.epsilon:g}: what a "
        "judge's lower cost is worth, in agreement with people."
    )


def show_chart(rows: list[ScorecardRow], people: ScorecardRow) -> None:
    """One figure of all judges with its intervals."""
    there = [column for column in COLUMNS if any(measured(row, column.key) for row in rows)]
    if not there:
        return
    titles = {column.title: column for column in there}
    chosen = st.selectbox("Figure", list(titles), key="figure", bind="query-params", width=300)
    column = titles[chosen]
    shown = [row for row in (*rows, people) if measured(row, column.key)]
    scale = 100.0 if column.unit == "points" else 1.0
    table = pd.DataFrame(
        [
            {
                "judge": row.judge,
                "value": figure.value * scale if figure.value is not None else None,
                "lower": None if figure.lower is None else figure.lower * scale,
                "upper": None if figure.upper is None else figure.upper * scale,
                "n": figure.n,
            }
            for row in shown
            for figure in (row.figures[column.key],)
        ]
    ).astype({"value": float, "lower": float, "upper": float})
    ceiling = {"agreement": "agreement", "agreement_no_ties": "agreement_no_ties"}.get(column.key)
    mark = people.figures[ceiling].value if ceiling else column.mark
    charts.show(
        charts.interval_chart(
            table, "judge", "value", "lower", "upper", title=f"{column.title}, with 95% intervals",
            value_title="points" if column.unit == "points" else column.title.lower(),
            value_format="+.0f" if column.unit == "points" else FORMATS.get(column.unit, ".2~f"), reference=mark,
            tooltip=["n"],
        )
    )  # fmt: skip
    line = "The dashed line is how often two people agree." if ceiling else ""
    if not ceiling and mark is not None:
        line = f"The dashed line, at {written(column, mark)}, is what to hold it against."
    st.caption(tables.plain(f"{column.meaning} {line}".strip()))


def measured(row: ScorecardRow, key: str) -> bool:
    """Whether a judge has a figure."""
    return key in row.figures and row.figures[key].measured


def show_scorecard(told: Calibrated) -> None:
    """All figures of all judges, by group."""
    card = told.found.scorecard
    rows = list(card.rows)
    show_chart(rows, card.humans)
    for tab, (group, title) in zip(st.tabs(list(GROUPS.values())), GROUPS.items(), strict=True):
        with tab:
            columns = [column for column in COLUMNS if column.group == group]
            everyone = [*rows, *([card.humans] if any(column.key in card.humans.figures for column in columns) else [])]
            table = pd.DataFrame(
                [[cell(column, row.figures.get(column.key)) for column in columns] for row in everyone],
                index=pd.Index([tables.plain(row.judge) for row in everyone], name="Judge"),
                columns=[column.title for column in columns],
            )
            st.table(table, border="horizontal", alt=f"Scorecard: {title}")
            missing = [
                (row.judge, column.title, row.figures[column.key].note)
                for row in rows
                for column in columns
                if column.key in row.figures and not row.figures[column.key].measured
            ]
            if missing:
                with st.expander(f"Not measured: {len(missing)}, and how to measure it", icon=":material/help:"):
                    for reason in dict.fromkeys(note for _, _, note in missing):
                        who = [f"{judge}: {what}" for judge, what, note in missing if note == reason]
                        st.markdown(
                            f"- {tables.plain(', '.join(who))}. {tables.plain(reason[:1].upper() + reason[1:])}"
                        )
            with st.expander("What the figures mean", icon=":material/menu_book:"):
                st.markdown("\n".join(f"- **{column.title}**: {tables.plain(column.meaning)}" for column in columns))
    tables.download(card.frame(), "scorecard", key="get-scorecard")
    st.caption(tables.plain(card.definition))
    findings = [f"{row.judge}: {finding}" for row in rows for finding in row.findings]
    if findings:
        with st.expander(f"What the audit of each judge found: {len(findings)}", icon=":material/policy:"):
            st.markdown("\n".join(f"- {tables.plain(finding)}" for finding in findings))
    tables.warn(told.found.warnings)


def show_reliability(told: Calibrated) -> None:
    """Whether stated probabilities are what happens."""
    rows = [row for row in told.found.scorecard.rows if row.curve is not None and row.curve.bins]
    if not rows:
        column = BY_KEY["calibration_error"]
        notes = {row.figures[column.key].note for row in told.found.scorecard.rows if row.kind == "judge"}
        st.info(
            tables.plain(f"Not measured: {'; '.join(sorted(note for note in notes if note)) or 'no probabilities'}."),
            icon=":material/show_chart:",
        )
        return
    parts = [row.curve.frame().assign(judge=row.judge) for row in rows if row.curve is not None]
    table = pd.concat(parts, ignore_index=True)
    charts.show(
        charts.curve(
            table, "probability", "share", series="judge", limits=("lower", "upper"), diagonal=True, points=True,
            title="How often people agree, by how sure the judge was", x_title="stated probability",
            y_title="share of people who agree", x_format=".0%", y_format=".0%", tooltip=["n"],
        )
    )  # fmt: skip
    told_errors = [
        f"{row.judge}: {row.curve.ece:.1%} ({row.curve.ece_lower:.1%} to {row.curve.ece_upper:.1%}), n "
        f"{row.curve.n:,}, {row.curve.n_failed:,} without a probability"
        for row in rows
        if row.curve is not None
    ]
    st.caption(
        tables.plain(
            f"On the dashed line a judge is as sure as it is right. Calibration error: {'; '.join(told_errors)}. Bands "
            "are Wilson's 95% intervals."
        )
    )
    tables.download(table, "reliability", key="get-reliability")


def first_case() -> None:
    """Goes back to the first disagreement when others are chosen."""
    st.session_state.pop("case", None)


def show_disagreements(criterion: str) -> None:
    """Battles where a judge says another thing than most people do, one at a time."""
    found = reads_judges.disagreements(criterion)
    if found.empty:
        st.info(
            "There is none to read: no battle was judged by both a judge and people with a clear majority, or they "
            "agree on all of them.",
            icon=":material/handshake:",
        )
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        judge = st.selectbox(
            "Judge",
            list(dict.fromkeys(found["judge"])),
            key="judge",
            bind="query-params",
            width=260,
            on_change=first_case,
        )
        found = found[found["judge"] == judge]
        categories = sorted({one for one in found["category"] if one})
        if categories:
            category = st.selectbox(
                "Category", categories, index=None, placeholder="All categories", key="category", bind="query-params",
                width=220, on_change=first_case,
            )  # fmt: skip
            if category is not None:
                found = found[found["category"] == category]
        direction = st.segmented_control(
            "Direction", [ALL, *DIRECTIONS], default=ALL, required=True, key="direction", bind="query-params",
            format_func=lambda key: DIRECTIONS.get(key, key), on_change=first_case,
        )  # fmt: skip
    if direction != ALL:
        found = found[found["direction"] == direction]
    if found.empty:
        st.info("No disagreement passes these filters.", icon=":material/filter_alt_off:")
        return
    if st.session_state.get("case", 1) > len(found):
        st.session_state["case"] = 1
    with st.container(horizontal=True, vertical_alignment="center"):
        case = st.pagination(len(found), key="case", bind="query-params", max_visible_pages=5)
        tables.download(found, f"disagreements {judge}", key="get-disagreements")
    row = found.iloc[case - 1]
    st.caption(
        tables.plain(
            f"{case:,} of {len(found):,}, those people are surest of first. {judge} says {words(row, 'said')}; of "
            f"{row['votes']} people {row['for_a']} prefer {row['model_a']}, {row['for_b']} prefer {row['model_b']}, "
            f"{row['ties']} call it a tie.{' Category: ' + row['category'] + '.' if row['category'] else ''}"
        )
    )
    show_battle(row, criterion)


def words(row: pd.Series, column: str) -> str:
    """Who is preferred, by name."""
    return "tie" if row[column] == "tie" else str(row[row[column]])


def show_battle(row: pd.Series, criterion: str) -> None:
    """Prompt, both answers, and all verdicts on them."""
    fight = reads_samples.battle(int(row["battle_id"]))
    with st.container(border=True, key="answer-scroll-case"):
        asked = [one for one in fight.messages if one.get("role") == "user"][: fight.turn] or list(fight.messages)
        for position, message in enumerate(asked):
            if len(asked) > 1:
                st.caption(f"Turn {position + 1}")
            answers.show(content(message.get("content")), f"case-prompt-{position}")
    sides = zip(("model_a", "model_b"), ("for_a", "for_b"), fight.texts, fight.responses, st.columns(2), strict=True)
    for side, votes, written_text, response, column in sides:
        with column, st.container(border=True):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"**{answers.one_line(row[side])}**", width="content")
                st.badge(f"{row[votes]} of {row['votes']} people", icon=":material/groups:", color="gray")
                if row["said"] == side:
                    st.badge("judge", icon=":material/gavel:", color="blue")
            if written_text is None:
                st.caption("The ledger does not hold this answer's text: import the answers beside the votes.")
            else:
                answers.show(written_text, f"scroll-case-{side}")
            if response is not None and st.button("Open sample", key=f"open-{side}", icon=":material/open_in_new:"):
                st.switch_page("app_pages/sample.py", query_params={"response": str(response)})
    said = [one for one in fight.said if one.criterion == criterion]
    reasons = [one for one in said if one.rationale and one.annotator == row["judge"]]
    for one in reasons:
        with st.container(border=True):
            order = f", shown {one.shown} first" if one.shown else ""
            st.caption(tables.plain(f"{one.annotator} says {one.winner or 'nothing readable'}{order}. Its reason:"))
            answers.show(one.rationale or "", f"case-reason-{one.verdict_id}")
    table = pd.DataFrame(
        [
            {
                "annotator": one.annotator, "kind": one.kind, "verdict": one.winner or "failed", "shown": one.shown,
                "probability": one.probability, "error": one.error,
            }
            for one in said
        ]
    )  # fmt: skip
    optional = [
        name
        for name in ("shown", "probability", "error")
        if table[name].astype(bool).any() and table[name].notna().any()
    ]
    st.dataframe(
        table,
        hide_index=True,
        height="content" if len(table) <= 12 else 420,
        column_order=["annotator", "kind", "verdict", *optional],
        column_config={
            "annotator": text("Judged by", width="medium"),
            "kind": text("Kind", width=80),
            "verdict": text("Says", width="medium"),
            "shown": text("Shown first", width="medium"),
            "probability": number("Probability", format="%.2f", help=f"Stated, that {row['model_a']} is preferred"),
            "error": text("Error", width="large"),
        },
        alt="All verdicts on this battle",
    )


st.title("Judges")
st.caption("What each judge is worth, held against the people who voted on the same battles. Intervals are 95%.")
answers.style()

criteria = reads.criteria()
if not criteria:
    st.info(
        "Nobody has judged anything in this ledger. Type `evalkit judge run --help` to let models judge answers, or "
        "`evalkit import votes FILE` to bring verdicts you have.",
        icon=":material/gavel:",
        title="No judges yet",
    )
    st.stop()
criterion = criteria[0]
if len(criteria) > 1:
    criterion = st.selectbox("Criterion", criteria, key="criterion", bind="query-params", width=220)
if not reads.people(criterion):
    without_people(criterion, f"no person has voted on {criterion}")
    st.stop()


def calibrated() -> Calibrated | None:
    """All judges held against all people; None, and why, where that cannot be."""
    if reads_judges.is_calibrated(criterion):
        return reads_judges.calibration(criterion)
    above, meanwhile = st.container(), st.empty()
    try:
        with (
            above,
            st.spinner("Holding each judge against the people who voted on the same battles: this takes some seconds."),
        ):
            with meanwhile.container():
                habits(criterion)
            return reads_judges.calibration(criterion)
    except UserError as error:
        without_people(criterion, str(error))
        return None
    finally:
        meanwhile.empty()


views = {
    "Recommendation": show_recommendation,
    "Scorecard": show_scorecard,
    "Reliability": show_reliability,
}
*parts, last = st.tabs([*views, "Disagreements"], key="view", on_change="rerun", bind="query-params")
if last.open:
    with last:
        show_disagreements(criterion)
for tab, show in zip(parts, views.values(), strict=True):
    if tab.open:
        with tab:
            told = calibrated()
            if told is not None:
                show(told)
