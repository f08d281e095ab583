"""Admin's campaigns: a table, what can be done about one, and a form for a new one."""

from __future__ import annotations

from typing import Any, Literal, cast

import pandas as pd
import streamlit as st

from app import access, reads, reads_people, tables
from app.admin_tables import change, picked, when
from app.voting_pool import Settings
from evalkit.errors import UserError
from evalkit.store import frames_app
from evalkit.store.voting import CampaignRow

Mode = Literal["queue", "free"]
MODES = {"queue": "Stored answers", "free": "Voters' own prompts"}
POLICIES = {"next-battle": "The pair that tells most", "uniform": "All pairs of models alike"}


def show_campaigns() -> None:
    """The campaigns, what can be done about one, and a form for a new one."""
    campaigns = frames_app.campaigns(reads.ledger())
    if len(campaigns):
        shown = when(campaigns).assign(mode=campaigns["mode"].map(MODES))
        columns = [
            "name",
            "status",
            "mode",
            "criterion",
            "voters",
            "votes",
            "skipped",
            "undone",
            "created_at",
            "closed_at",
        ]
        event = st.dataframe(
            shown[columns],
            alt="Campaigns with their votes",
            hide_index=True,
            placeholder="",
            key="admin-campaigns",
            on_select="rerun",
            selection_mode="single-row",
            column_config={
                "name": st.column_config.TextColumn("Name", pinned=True),
                "status": "Status",
                "mode": "What is voted on",
                "criterion": "Criterion",
                "voters": "Voters",
                "votes": st.column_config.NumberColumn("Votes", format="localized"),
                "skipped": "Skipped",
                "undone": "Undone",
                "created_at": st.column_config.DatetimeColumn("Opened", format="distance"),
                "closed_at": st.column_config.DatetimeColumn("Closed", format="distance"),
            },
        )
        chosen = picked(event, campaigns)
        if chosen is not None:
            show_campaign(chosen)
        tables.download(campaigns, "campaigns", key="admin-campaigns-csv")
    else:
        st.caption("No campaign has been made yet. Without one, analysts and admins vote on everything in the ledger.")
    with st.expander("New campaign", icon=":material/add:", expanded=not len(campaigns)):
        add_campaign()


def show_campaign(campaign: pd.Series[Any]) -> None:
    """Opens and closes one campaign, and changes what its voters read."""
    campaign_id = int(campaign["campaign_id"])
    with st.container(border=True):
        st.subheader(tables.plain(campaign["name"]), anchor=False)
        settings = dict(campaign["settings"])
        told = [
            f"{key.replace('_', ' ')}: {', '.join(map(str, value)) if isinstance(value, list) else value}"
            for key, value in settings.items()
            if value not in ([], None)
        ]
        st.caption(tables.plain(" · ".join([*told, f"seed: {campaign['seed']}"])))
        with st.form(f"instructions-{campaign_id}", border=False):
            words = st.text_area("Instructions shown to voters", campaign["instructions"], max_chars=2000)
            if st.form_submit_button("Save instructions"):
                with change(f"Voters of {campaign['name']} read the new instructions."):
                    access.people().set_campaign(campaign_id, instructions=words)
        if campaign["status"] == "open":
            if st.button("Close", icon=":material/lock:", key=f"close-{campaign_id}", help="It takes no more votes."):
                with change(f"{campaign['name']} is closed and takes no more votes."):
                    access.people().set_campaign(campaign_id, status="closed")
        elif st.button("Open again", icon=":material/lock_open:", key=f"open-{campaign_id}"):
            with change(f"{campaign['name']} is open again."):
                access.people().set_campaign(campaign_id, status="open")


def add_campaign() -> None:
    """The form of a new campaign."""
    datasets, models = reads_people.names()
    with st.form("campaign", border=False):
        mode = st.segmented_control(
            "What is voted on", list(MODES), format_func=MODES.__getitem__, default="queue", required=True,
            key="campaign-mode",
        )  # fmt: skip
        first, second = st.columns(2, vertical_alignment="bottom")
        name = first.text_input("Name", max_chars=80, key="campaign-name")
        chosen_sets = first.multiselect(
            "Datasets", datasets, placeholder="All", key="campaign-datasets", help="Of stored answers only."
        )
        criterion = second.text_input(
            "Criterion", "overall", max_chars=80, key="campaign-criterion", help="What makes an answer better."
        )
        chosen_models = second.multiselect("Models", models, placeholder="All", key="campaign-models")
        per_pair = st.number_input(
            "Votes on each pair of answers", 1, 100, 2, key="campaign-votes",
            help="With one, voters cannot be held against each other.",
        )  # fmt: skip
        words = st.text_area("Instructions shown to voters", max_chars=2000, key="campaign-instructions")
        with st.container(horizontal=True):
            repeats = st.number_input(
                "Repeated pairs, %", 0, 50, 5, key="campaign-repeats", help="Shows whether a voter agrees with itself."
            )
            gold = st.number_input(
                "Pairs with a known winner, %", 0, 50, 0, key="campaign-gold",
                help="Pairs that a metric has decided, such as a right and a wrong answer.",
            )  # fmt: skip
            seed = st.number_input("Seed", 0, 2**31 - 1, 0, key="campaign-seed")
        policy = st.segmented_control(
            "Which pair comes next", list(POLICIES), format_func=POLICIES.__getitem__, default="next-battle",
            required=True, key="campaign-policy",
        )  # fmt: skip
        reveal = st.toggle(
            "Tell voters the models' names after each vote", key="campaign-reveal",
            help="Who types the prompt is always told, after the vote.",
        )  # fmt: skip
        if not st.form_submit_button("Open the campaign", type="primary", icon=":material/campaign:"):
            return
    with change(f"{name.strip()} is open."):
        if len(chosen_models) == 1:
            raise UserError("models: choose two or more, or none for all; one has nobody to be compared with.")
        settings: dict[str, Any] = {"models": chosen_models, "policy": policy}
        if mode == "queue":
            settings |= {"datasets": chosen_sets, "votes_per_pair": int(per_pair), "reveal": reveal}
            settings |= {"gold_share": gold / 100, "repeat_share": repeats / 100}
        Settings.of(CampaignRow(None, name, settings=settings))
        access.people().add_campaign(
            name, mode=cast(Mode, mode), criterion=criterion, instructions=words, settings=settings, seed=int(seed)
        )
