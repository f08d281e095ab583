"""What the voting pages share between their visitors: campaigns, pools, and a queue for every voter."""

from __future__ import annotations

import os

import streamlit as st

from app.voting import EVERYTHING, Queue
from app.voting_pool import Pool
from evalkit.models.base import canonical_json
from evalkit.store import Ledger
from evalkit.store import voting as reads
from evalkit.store.ledger_app import Member, People
from evalkit.store.voting import CampaignRow


@st.cache_resource
def people() -> People:
    """Returns the writes for people and votes, on a ledger of their own: the pages' other one only reads."""
    return People(Ledger.open(os.environ["EVALKIT_STORE"], create=False))


@st.cache_data(ttl="5s")
def campaigns() -> list[CampaignRow]:
    """Lists the campaigns open for votes on stored answers, the newest first."""
    return [campaign for campaign in reads.open_campaigns(people().ledger) if campaign.mode == "queue"]


def open_to(member: Member) -> list[CampaignRow]:
    """Lists the campaigns that a person can vote in: voters that of their invitation, if it named one.

    Those who may see results anyway can always vote on everything.
    """
    found = campaigns()
    if member.role != "voter":
        return [*found, EVERYTHING]
    invited = reads.invited_to(people().ledger, member.invitation_id)
    return found if invited is None else [campaign for campaign in found if campaign.id == invited]


def queue(campaign: CampaignRow, annotator_id: int) -> Queue:
    """Returns the voter's queue, the same for all tabs; a changed campaign starts new ones."""
    return _queue(campaign.id, _settings(campaign), annotator_id, campaign)


def _settings(campaign: CampaignRow) -> str:
    return canonical_json([campaign.criterion, campaign.seed, campaign.settings])


@st.cache_resource(max_entries=2000, show_spinner=False)
def _queue(campaign_id: int | None, settings: str, annotator_id: int, _campaign: CampaignRow) -> Queue:
    return Queue(_pool(campaign_id, settings, _campaign), people(), annotator_id)


@st.cache_resource(max_entries=20, show_spinner="Finding answers to compare...")
def _pool(campaign_id: int | None, settings: str, _campaign: CampaignRow) -> Pool:
    return Pool(people().ledger, _campaign)
