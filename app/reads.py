"""Every page's reads: one ledger, opened for reading alone, and cached answers to what pages ask it."""

from __future__ import annotations

import os

import streamlit as st

from evalkit.store import Ledger

FRESH = "5s"
"""So old may what a page shows be, while jobs write."""


@st.cache_resource
def ledger() -> Ledger:
    """Returns the ledger of this app (EVALKIT_STORE), which no page writes to.

    Raises:
        UserError: There is none, or it has another version.
    """
    return Ledger.open(os.environ["EVALKIT_STORE"], create=False, readonly=True)
