"""What Admin reads, on request: members with what is known against them, invitations, campaigns, votes as files."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import streamlit as st

from app.reads import STATE_TTL, ledger

if TYPE_CHECKING:
    import pandas as pd


@st.cache_data(ttl=STATE_TTL, show_spinner="Checking voters...")
def members() -> pd.DataFrame:
    """Lists members (see `evalkit.store.frames_app.members`) with their status, and those in doubt first.

    Returns:
        Besides: gold, the share of pairs with a known winner on which the member voted for it (NaN without), and
        gold_n, how many those were.
    """
    from evalkit.store import frames_app
    from evalkit.store.voting import gold_votes

    people = frames_app.members(ledger())
    gold = gold_votes(ledger())
    right, n = (people["annotator_id"].map(lambda who, i=i: gold.get(who, (0, 0))[i]) for i in range(2))
    people["gold"], people["gold_n"] = right / n.where(n > 0), n
    doubtful = people["doubts"].ne("").map({True: "doubtful", False: "fine"})
    people["status"] = doubtful.where(people["votes"] > 0, "no votes").mask(people["set_aside_at"].notna(), "set aside")
    rank = people["status"].map({"doubtful": 0, "fine": 1, "no votes": 2, "set aside": 3})
    order = people.assign(rank=rank).sort_values(["rank", "votes"], ascending=[True, False])
    return order.drop(columns="rank").reset_index(drop=True)


@st.cache_data(ttl=STATE_TTL, show_spinner=False)
def names() -> tuple[list[str], list[str]]:
    """Returns the names of datasets with items, and of models."""
    from evalkit.store import frames

    datasets, models = frames.datasets(ledger()), frames.models(ledger())
    return sorted(set(datasets.loc[datasets["n"] > 0, "dataset"])), sorted(set(models["model"]))


def votes_file(form: Literal["csv", "jsonl"], include_set_aside: bool) -> bytes:
    """Returns every verdict of people and judges as a file that `evalkit import votes` reads.

    Raises:
        UserError: It cannot be written.
    """
    from evalkit.store.formats.votes import export_votes

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"votes.{form}"
        export_votes(ledger(), path, include_set_aside=include_set_aside)
        return path.read_bytes()


def ballots_file() -> bytes:
    """Returns the history of the votes cast in the app as CSV, undone and skipped ones included."""
    from evalkit.store import frames_app

    people = frames_app.members(ledger())[["annotator_id", "name", "set_aside_at"]]
    history = frames_app.ballots(ledger(), limit=None).merge(people, on="annotator_id", how="left")
    return history.drop(columns="key").to_csv(index=False).encode()
