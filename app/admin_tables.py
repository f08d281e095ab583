"""What Admin's sections share: changes and what stands against them, tables of which a row is selected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
import streamlit as st

from app import reads_people, tables
from evalkit.errors import UserError


@contextmanager
def change(sentence: str) -> Iterator[None]:
    """Draws the page anew after a change, which the sentence tells; what stands against it is said in place."""
    try:
        yield
    except UserError as error:
        st.error(tables.plain(str(error)[:1].upper() + str(error)[1:]), icon=":material/error:")
    else:
        st.session_state["admin-done"] = sentence
        reads_people.members.clear()
        st.rerun()


def when(frame: pd.DataFrame) -> pd.DataFrame:
    """Makes times of a table's texts, which the browser shows as how long ago."""
    return frame.assign(**{c: pd.to_datetime(frame[c], utc=True) for c in map(str, frame) if c.endswith("_at")})


def picked(event: Any, frame: pd.DataFrame) -> pd.Series[Any] | None:
    """Returns the row that is selected in a table."""
    rows = event.selection.rows
    return frame.iloc[rows[0]] if rows and rows[0] < len(frame) else None
