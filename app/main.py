"""The frame of the app: which pages there are, in which sections."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

FOLDER = Path(__file__).parent / "app_pages"
PAGES = {
    "Results": [
        ("overview", "Overview", ":material/dashboard:", "What is in the ledger, what runs, what needs a decision."),
        ("leaderboard", "Leaderboard", ":material/leaderboard:", "Ratings with intervals and rank ranges, win rates."),
        ("correlation", "Correlation", ":material/scatter_plot:", "How benchmarks, people and juries agree on models."),
        ("judges", "Judges", ":material/gavel:", "What each judge is worth, measured against people."),
        ("runs", "Runs", ":material/play_circle:", "Runs and their responses: filter, sort, search."),
        ("sample", "Sample", ":material/article:", "One prompt, every model's answer, all grades and verdicts."),
        ("slices", "Failure slices", ":material/filter_alt:", "Where each model fails more than elsewhere."),
    ],
    "People": [
        ("vote", "Vote", ":material/how_to_vote:", "Compare two answers without knowing whose they are."),
        ("battle", "Battle", ":material/swords:", "Ask anything; two unnamed models answer; say which is better."),
        ("admin", "Admin", ":material/group:", "Campaigns, invitations, annotators and exports."),
    ],
    "Work": [
        ("jobs", "Jobs", ":material/work_history:", "What runs and waits, its log, and what is scheduled."),
        ("retrain", "Retrain", ":material/model_training:", "From a failing slice to a better model."),
        ("models", "Models", ":material/account_tree:", "Every model, and which was trained from which."),
    ],
}

st.set_page_config(page_title="evalkit", page_icon=":material/balance:", layout="wide")
sections = {
    section: [
        st.Page(FOLDER / f"{name}.py", title=title, icon=icon, help=said, default=name == "overview")
        for name, title, icon, said in pages
        if (FOLDER / f"{name}.py").exists()
    ]
    for section, pages in PAGES.items()
}
page = st.navigation({section: pages for section, pages in sections.items() if pages})
page.run()
