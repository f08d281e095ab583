"""Campaigns, invitations, voters and exports."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
import streamlit as st

from app import access, reads, reads_people, tables
from app.admin_campaigns import show_campaigns
from app.admin_tables import change, picked, when
from evalkit.errors import UserError
from evalkit.stats import wilson
from evalkit.store import frames_app
from evalkit.store.ledger_app import sign_in_identity

MAX_DAYS, MAX_PEOPLE = 365, 1000
TIMES = st.column_config.DatetimeColumn(format="distance")


def show_people() -> None:
    """Members, doubts first; set aside, take back, roles."""
    people = reads_people.members()
    counts = people["status"].value_counts()
    with st.container(horizontal=True):
        st.metric("Members", len(people), border=True)
        st.metric("Votes", f"{people['votes'].sum():,}", border=True)
        st.metric("In doubt", int(counts.get("doubtful", 0)), border=True)
        st.metric("Set aside", int(counts.get("set aside", 0)), border=True)
    if counts.get("doubtful", 0):
        st.warning(
            "A doubt is a reason to look, no more. Select a row, read the votes, and set them aside or leave them.",
            icon=":material/person_alert:",
        )
    rounded = people.round({"agreement": 2, "consistency": 2, "gold": 2})  # of so few votes, more digits tell nothing
    shown = when(rounded)[
        [
            *("name", "role", "status", "votes", "median_seconds", "agreement", "agreement_n", "doubts"),
            *("consistency", "repeats", "gold", "gold_n", "skipped", "undone", "created_at", "last_at"),
        ]
    ]
    event = st.dataframe(
        shown,
        alt="Members with their votes and what stands against them",
        hide_index=True,
        placeholder="",
        key="admin-members",
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            "name": st.column_config.TextColumn("Name", pinned=True),
            "role": "Role",
            "status": "Status",
            "doubts": st.column_config.TextColumn("Doubts", width="medium"),
            "votes": st.column_config.NumberColumn("Votes", format="localized"),
            "median_seconds": st.column_config.NumberColumn("Seconds a vote", format="%.1f", help="Median."),
            "agreement": st.column_config.NumberColumn(
                "Agrees with others", format="percent", help="On the same answers, where both named a winner."
            ),
            "agreement_n": st.column_config.NumberColumn("on votes", help="Votes that others voted on too."),
            "consistency": st.column_config.NumberColumn(
                "Agrees with itself", format="percent", help="Pairs that were shown twice."
            ),
            "repeats": st.column_config.NumberColumn("on repeats"),
            "gold": st.column_config.NumberColumn(
                "Right", format="percent", help="On pairs whose winner is known: one answer right, the other wrong."
            ),
            "gold_n": st.column_config.NumberColumn("on known winners"),
            "skipped": "Skipped",
            "undone": "Undone",
            "created_at": st.column_config.DatetimeColumn("Joined", format="distance"),
            "last_at": st.column_config.DatetimeColumn("Last vote", format="distance"),
        },
    )
    chosen = picked(event, people)
    if chosen is not None:
        show_member(chosen)
    with st.container(horizontal=True):
        tables.download(people.drop(columns="identity"), "members", key="admin-members-csv")
        if "is_logged_in" in st.user.to_dict():
            with st.popover("Add someone who signs in", icon=":material/person_add:"):
                add_member()


def show_member(member: pd.Series[Any]) -> None:
    """What can be done about one member, and the newest votes."""
    member_id = int(member["member_id"])
    with st.container(border=True):
        st.subheader(tables.plain(member["name"]), anchor=False)
        facts = [f"{member['votes']:,} votes"]
        if pd.notna(member["agreement"]):
            n = float(member["agreement_n"])
            lower, upper = wilson(member["agreement"] * n, n)
            facts.append(
                f"agrees with others on {member['agreement']:.0%} ({lower:.0%} to {upper:.0%}) of {n:.0f} votes"
            )
        st.caption(" · ".join(facts))
        if member["doubts"]:
            st.write("In doubt: " + tables.plain(member["doubts"]) + ".")
        if pd.notna(member["set_aside_at"]):
            st.write(f"Set aside on {member['set_aside_at'][:10]}: {tables.plain(member['set_aside_reason'])}")
            if st.button("Count the votes again", key=f"back-{member_id}", icon=":material/undo:"):
                with change(f"The votes of {member['name']} count again."):
                    access.people().take_back(member_id)
        else:
            with (
                st.form(f"aside-{member_id}", border=False),
                st.container(horizontal=True, vertical_alignment="bottom"),
            ):
                reason = st.text_input(
                    "Why these votes should not count", max_chars=500, placeholder="A reason is kept"
                )
                if st.form_submit_button("Set aside", icon=":material/person_off:"):
                    with change(f"The votes of {member['name']} are set aside: kept, but not counted."):
                        if not reason.strip():
                            raise UserError("say why the votes are set aside; whoever looks later will want to know.")
                        access.people().set_aside(member_id, reason)
        if member["identity"] != "local":
            with st.container(horizontal=True, vertical_alignment="bottom"):
                role = st.segmented_control(
                    "Role", access.ROLES, default=member["role"], required=True, key=f"role-{member_id}"
                )
                if st.button("Change role", key=f"set-role-{member_id}", disabled=role == member["role"]):
                    with change(f"{member['name']} is {role} now."):
                        if member_id == visitor.member.id:
                            raise UserError("you cannot take away your own role; ask another admin.")
                        access.people().set_role(member_id, role)
        newest = frames_app.ballots(reads.ledger(), int(member["annotator_id"]), limit=50, newest_first=True)
        if len(newest):
            columns = ["created_at", "model_a", "model_b", "winner", "order", "seconds", "kind", "comment", "undone_at"]
            st.dataframe(
                when(newest[columns]),
                alt="The newest votes of this member",
                hide_index=True,
                placeholder="",
                height=260,
                column_config={"created_at": TIMES, "undone_at": TIMES},
            )


def add_member() -> None:
    """Lets in someone whom the sign-in service knows."""
    with st.form("add-member", border=False):
        name = st.text_input("Address, or the name that the page of the sign-in shows", max_chars=200)
        role = st.segmented_control("Role", access.ROLES, default="voter", required=True)
        if st.form_submit_button("Add", type="primary"):
            with change(f"{name.strip()} may sign in now."):
                identity = sign_in_identity(name)
                if access.people().member_of(identity) is not None:
                    raise UserError(f"{name.strip()} is a member already.")
                access.people().ensure_member(identity, name.strip(), role)


def show_invitations() -> None:
    """A form that makes a link, and the links made so far."""
    if not access.team():
        st.info(
            "Links open the door of an app that was started for a team. Start it with: `evalkit app --team`",
            icon=":material/lock_open:",
        )
    campaigns = frames_app.campaigns(reads.ledger())
    open_campaigns = campaigns[campaigns["status"] == "open"]
    open_ones = {int(row["campaign_id"]): str(row["name"]) for _, row in open_campaigns.iterrows()}
    choices: list[int | None] = [None, *open_ones]
    with st.form("invite"):
        role = st.segmented_control("Role", access.ROLES, default="voter", required=True, key="invite-role")
        campaign = st.selectbox(
            "Campaign",
            choices,
            format_func=lambda key: open_ones[key] if key else "All open ones",
            key="invite-for",
        )
        first, second = st.columns(2)
        days = first.number_input("Days until it expires", 1, MAX_DAYS, 14, key="invite-days")
        uses = second.number_input("People who may join by it", 1, MAX_PEOPLE, 1, key="invite-uses")
        note = st.text_input("Note", max_chars=200, placeholder="For whom it is", key="invite-note")
        if st.form_submit_button("Make a link", type="primary", icon=":material/add_link:"):
            with change("The link is made: copy it."):
                if role == "admin" and uses > 1:
                    raise UserError("an invitation for admins is for one person; make one for each.")
                expires = datetime.now(UTC) + timedelta(days=int(days))
                _, token = access.people().invite(role, campaign, expires, note, int(uses))
                place = urlsplit(st.context.url or "http://localhost:8501")
                st.session_state["invite-link"] = f"{place.scheme}://{place.netloc}/join/{token}"
    if "invite-link" in st.session_state:
        st.success("Copy the link now: it is not stored, and cannot be shown again.", icon=":material/key:")
        st.code(st.session_state["invite-link"], language=None, wrap_lines=True)
    invitations = frames_app.invitations(reads.ledger())
    if not len(invitations):
        st.caption("No invitation has been made yet.")
        return
    shown = when(invitations).drop(columns=["campaign_id", "revoked_at"])
    event = st.dataframe(
        shown,
        alt="Invitations and what became of them",
        hide_index=True,
        placeholder="",
        key="admin-invitations",
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            "invitation_id": "No.",
            "role": "Role",
            "campaign": "Campaign",
            "note": "Note",
            "status": "Status",
            "uses": "Joined",
            "max_uses": st.column_config.NumberColumn("of", format="%d"),
            "created_at": st.column_config.DatetimeColumn("Made", format="distance"),
            "expires_at": st.column_config.DatetimeColumn("Expires", format="distance"),
        },
    )
    chosen = picked(event, invitations)
    if chosen is not None and chosen["status"] != "revoked":
        number = int(chosen["invitation_id"])
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.write(f"Revoke invitation {number}? Who joined by it can no longer come in; the votes stay.")
            if st.button("Revoke", icon=":material/link_off:", key=f"revoke-{number}"):
                with change(f"Invitation {number} is revoked."):
                    access.people().revoke(number)
    tables.download(invitations, "invitations", key="admin-invitations-csv")


def show_exports() -> None:
    """Files of votes."""
    aside = st.toggle("With votes that are set aside", key="export-aside")
    with st.container(border=True):
        st.subheader("Votes", anchor=False)
        st.write("Every vote that counts, of people and judges, one a row. `evalkit import votes` reads it.")
        with st.container(horizontal=True):
            for form in ("csv", "jsonl"):
                st.download_button(
                    f"votes.{form}",
                    partial(reads_people.votes_file, form, aside),
                    f"votes.{form}",
                    key=f"export-{form}",
                    on_click="ignore",
                    icon=":material/download:",
                )
    with st.container(border=True):
        st.subheader("History", anchor=False)
        st.write(
            "Every vote cast in this app, undone and skipped ones too, with its voter, order, seconds and comment."
        )
        st.download_button(
            "history.csv", reads_people.ballots_file, "history.csv", "text/csv", key="export-history",
            on_click="ignore", icon=":material/download:",
        )  # fmt: skip


SECTIONS = {
    "People": show_people,
    "Invitations": show_invitations,
    "Campaigns": show_campaigns,
    "Exports": show_exports,
}

visitor = access.require("admin")
st.title("Admin", anchor=False)
st.caption("Who votes, on what, by which link, and what speaks against a voter.")
if "admin-done" in st.session_state:
    st.toast(tables.plain(st.session_state.pop("admin-done")), icon=":material/check:")
section = st.segmented_control(
    "Section",
    list(SECTIONS),
    default="People",
    required=True,
    key="section",
    bind="query-params",
    label_visibility="collapsed",
)
SECTIONS[section]()
