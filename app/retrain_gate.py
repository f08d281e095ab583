"""The gate's evidence on a new model and its parent, and the decision where a person must make it."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app import access, answers, ballots, charts, tables
from app import reads_training as training
from evalkit.errors import UserError
from evalkit.store.write_training import WAITING, decide_gate

DECISIONS = {"accepted": ":green-badge[accepted]", "refused": ":red-badge[refused]", WAITING: ":orange-badge[waiting]"}
TEXTS = ("name", "kind", "metric")
NUMBERS = ("n", "parent", "candidate", "difference", "lower", "upper", "margin", "p_value", "minimum_effect")
KINDS = {
    "improvement": "must improve",
    "non_inferiority": "must not fall",
    "safety": "must not fall",
    "leak": "must not leak",
    "battles": "must not fall",
}
COSTS = {"length": "Length of an answer", "speed": "Time of an answer"}
"""Reported as a share of the parent's."""
MARKS = {"passed": "✓", "failed": "✗", "not decided": "–"}
number = st.column_config.NumberColumn


def decisions() -> None:
    """The gate: parent and candidate side by side, and the decision where a person must make it."""
    found = training.gates()
    if found.empty:
        st.info("A retrained model and its parent are compared here.", icon=":material/rule:",
                title="No model has come to the gate yet")  # fmt: skip
        return
    waiting_first = found.sort_values("decision", key=lambda column: column != WAITING, kind="stable")
    rows = {row["gate_id"]: row for row in waiting_first.to_dict("records")}
    # Without the decision: a browser goes on showing the words that were chosen.
    names = {key: f"{key} · {row['candidate']} against {row['parent']}" for key, row in rows.items()}
    if rows.get(st.session_state.get("gate"), {}).get("decision") == WAITING:
        st.session_state.pop("newest-gate", None)  # a reason may be half written
    else:
        tables.follow("gate", list(names))
    chosen = st.selectbox(
        "Comparison", list(names), format_func=lambda key: names.get(key, str(key)), key="gate", bind="query-params"
    )
    if chosen not in names:
        return
    row = rows[chosen]
    evidence = row["evidence"]
    parent, child = answers.one_line(row["parent"]), answers.one_line(row["candidate"])
    st.markdown(f"**{child}** against its parent **{parent}** {DECISIONS.get(row['decision'], '')}")
    done = evidence.get("decided")
    if done:
        when = done.get("at", "")[:16].replace("T", " ")
        st.markdown(answers.one_line(f"Decided by {done.get('by', 'somebody')}, {when} UTC: {done.get('why', '')}"))
    if evidence.get("reason"):
        said = evidence["reason"]
        if row["decision"] == WAITING or done:
            refused = said.removeprefix("Refused: ")
            said = f"The gate by itself would {'accept' if refused == said else 'refuse'} it. {upper(refused)}"
        st.markdown(answers.one_line(said))
    if evidence.get("advice"):
        st.caption(f"What to do next: {answers.one_line(evidence['advice'])}")
    tests = pd.DataFrame(evidence.get("tests") or [])
    if tests.empty:
        st.info("This gate has stored no test.", icon=":material/info:")
    else:
        show_tests(tests)
    if not pd.isna(row["run_id"]):
        tables.link("runs", "The run it was measured in", ":material/play_circle:", run=str(int(row["run_id"])))
    if row["decision"] == WAITING:
        decide(int(row["gate_id"]), row["candidate"])


def upper(text: str) -> str:
    """A sentence's first letter as a capital."""
    return text[:1].upper() + text[1:]


def show_tests(tests: pd.DataFrame) -> None:
    """Before and after on each test, and what answers cost."""
    for name in (*TEXTS, *NUMBERS, "passed"):
        if name not in tests:
            tests[name] = None
    tests = tests.astype(dict.fromkeys(NUMBERS, float))
    tests["outcome"] = tests["passed"].map({True: "passed", False: "failed"}).fillna("not decided")
    cost = tests["kind"].isin(COSTS)
    if (~cost).any():
        show_shares(tests[~cost].copy())
    with st.container(horizontal=True):
        for row in tests[cost].dropna(subset=["candidate"]).to_dict("records"):
            judged = row["outcome"] if pd.notna(row["margin"]) else "reported only"
            st.metric(
                COSTS[row["kind"]],
                f"{row['candidate'] / row['parent']:.2f} × the parent's",
                help=f"Mean of {row['n']:.0f} answers to prompts that ask for no form; {judged}",
            )


def show_shares(tests: pd.DataFrame) -> None:
    """Tests of shares, as a chart and as a table."""
    tests["kind"] = tests["kind"].map(KINDS).fillna(tests["kind"].astype(str))
    tests["test"] = tests["outcome"].map(MARKS) + " " + tests["name"].astype(str)
    failed = int((tests["outcome"] == "failed").sum())
    charts.show(
        charts.interval_chart(
            tests, "test", "difference", "lower", "upper", title="What changed: new model less parent",
            value_title="difference of the shares", value_format="+.2f", reference=0.0,
            tooltip=["kind", "outcome", "margin", "n"],
            description=f"Differences of {len(tests)} tests, {failed} of them failed",
        )
    )  # fmt: skip
    known = tests["lower"].notna() & tests["upper"].notna()
    tests["interval"] = [
        f"{low:+.3f} to {high:+.3f}" if there else ""
        for low, high, there in zip(tests["lower"], tests["upper"], known, strict=True)
    ]
    order = ["name", "outcome", "parent", "candidate", "difference", "interval", "margin", "n", "minimum_effect"]
    st.dataframe(
        tests,
        hide_index=True,
        column_order=order,
        column_config={
            "name": st.column_config.TextColumn("Test", width=230),
            "outcome": st.column_config.TextColumn("Outcome", width=80),
            "parent": number("Before", format="%.3f", width=65),
            "candidate": number("After", format="%.3f", width=65),
            "difference": number("Change", format="%+.3f", width=70),
            "interval": st.column_config.TextColumn("95% interval", width=130),
            "margin": number("Margin", format="%.2f", width=65, help="A fall of more than this fails"),
            "n": number("n", format="%d", width=50, help="Prompts that both answered"),
            "minimum_effect": number("Could see", format="%.3f", help="The smallest change that so many prompts show"),
        },
        placeholder="",
        alt="The gate's tests, before and after",
    )
    tables.download(tests[order], "gate", key="get-gate")
    st.caption(
        "Shares of answers that pass, with 95% intervals. What was trained for must lie above zero; everything else "
        "may not fall by more than its margin, and a test of few prompts cannot rule that out."
    )


def decide(gate_id: int, candidate: str) -> None:
    """Approve or reject, with a reason that is stored."""
    visitor = access.current()
    with st.form(f"decide-{gate_id}", border=True):
        st.markdown(f"**Your decision on {answers.one_line(candidate)}**")
        why = st.text_input("Why", key=f"why-{gate_id}", placeholder="Stored with the decision, with your name")
        with st.container(horizontal=True):
            yes = st.form_submit_button("Approve", type="primary", icon=":material/check:", key=f"yes-{gate_id}")
            no = st.form_submit_button("Reject", icon=":material/close:", key=f"no-{gate_id}")
    if not (yes or no):
        return
    try:
        decide_gate(ballots.people().ledger, gate_id, "accepted" if yes else "refused", by=visitor.member.name, why=why)
    except UserError as error:
        st.error(tables.plain(error), icon=":material/error:")
        return
    training.gates.clear()
    st.rerun()
