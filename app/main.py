"""The frame of the app: which pages there are, in which sections, for whom."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app import access, answers, warm_up
from evalkit.store.ledger_app import Role

FOLDER = Path(__file__).parent / "app_pages"
PAGES: dict[str, list[tuple[str, str, str, str, Role]]] = {
    "Results": [
        (
            "overview", "Overview", ":material/dashboard:",
            "What is in the ledger, what runs, what needs a decision.", "analyst",
        ),
        (
            "leaderboard", "Leaderboard", ":material/leaderboard:",
            "Ratings with intervals and rank ranges, win rates.", "analyst",
        ),
        (
            "correlation", "Correlation", ":material/scatter_plot:",
            "How benchmarks, people and juries agree on models.", "analyst",
        ),
        (
            "judges", "Judges", ":material/gavel:",
            "What each judge is worth, measured against people.", "analyst",
        ),
        (
            "runs", "Runs", ":material/play_circle:",
            "Runs and their responses: filter, sort, search.", "analyst",
        ),
        (
            "sample", "Sample", ":material/article:",
            "One prompt, every model's answer, all grades and verdicts.", "analyst",
        ),
        (
            "slices", "Failure slices", ":material/filter_alt:",
            "Where each model fails more than elsewhere.", "analyst",
        ),
    ],
    "People": [
        (
            "vote", "Vote", ":material/how_to_vote:",
            "Compare two answers without knowing whose they are.", "voter",
        ),
        (
            "battle", "Battle", ":material/swords:",
            "Ask anything; two unnamed models answer; say which is better.", "voter",
        ),
        (
            "admin", "Admin", ":material/group:",
            "Campaigns, invitations, voters and exports.", "admin",
        ),
    ],
    "Work": [
        (
            "jobs", "Jobs", ":material/work_history:",
            "What runs and waits, its log, and what is scheduled.", "analyst",
        ),
        (
            "retrain", "Retrain", ":material/model_training:",
            "From a failing slice to a better model.", "analyst",
        ),
        (
            "models", "Models", ":material/account_tree:",
            "Every model, and which was trained from which.", "analyst",
        ),
    ],
}  # fmt: skip

# Scales; a Material icon would be fetched from elsewhere. A comment, as the app would show a docstring.
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="#2f7fb8" stroke-width="2" '
    'stroke-linecap="round" stroke-linejoin="round">'
    '<path d="M12 3v17M7 20h10M5 6h14M5 6l-3 7a3 3 0 0 0 6 0zM19 6l-3 7a3 3 0 0 0 6 0z"/></svg>'
)

st.set_page_config(page_title="evalkit", page_icon=ICON, layout="wide")
visitor = access.current()
# A page that is not for this visitor is none: its address leads to the page that is.
first = "overview" if visitor.may("analyst") else "vote"
sections = {
    section: [
        st.Page(FOLDER / f"{name}.py", title=title, icon=icon, help=said, default=name == first)
        for name, title, icon, said, role in pages
        if visitor.may(role) and (FOLDER / f"{name}.py").exists()
    ]
    for section, pages in PAGES.items()
}
shown = {section: pages for section, pages in sections.items() if pages}
signed_in = bool(st.user.to_dict().get("is_logged_in"))
if visitor.may("analyst"):
    page = st.navigation(shown)
else:
    leave = [st.Page(access.sign_out, title="Sign out", icon=":material/logout:")] if signed_in else []
    page = st.navigation([*shown["People"], *leave], position="top")
if not visitor.local and visitor.may("analyst"):
    with st.sidebar:
        st.caption(f"{answers.one_line(visitor.member.name)}, {visitor.role}", help="How you are known here.")
        if signed_in:
            st.button("Sign out", icon=":material/logout:", type="tertiary", on_click=st.logout)
with warm_up.drawing():
    page.run()
