"""What pages share beside charts: boards as tables, facts under a number, downloads, warnings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.report.board import Board

SHORT = 25
"""Rows of a chart before the reader asks for all."""


def board_frame(board: Board) -> pd.DataFrame:
    """Returns a board's rows: model, rating, lower, upper, rank_low, rank_high, votes."""
    import pandas as pd

    names = ["model", "rating", "lower", "upper", "rank_low", "rank_high", "votes"]
    table = pd.DataFrame([[getattr(row, name) for name in names] for row in board.rows], columns=names)
    return table.astype({"rating": float, "lower": float, "upper": float})


def with_ranks(table: pd.DataFrame) -> pd.DataFrame:
    """Puts the range of ranks a model may hold, as text, before the other columns."""
    import pandas as pd

    told = []
    for low, high in table[["rank_low", "rank_high"]].itertuples(index=False):
        told.append("" if pd.isna(low) else f"{low:.0f}" if low == high else f"{low:.0f}–{high:.0f}")
    rest = table.drop(columns=["rank_low", "rank_high"])
    rest.insert(0, "rank", told)
    return rest


def with_intervals(table: pd.DataFrame, form: str = ".0f") -> pd.DataFrame:
    """Puts the limits of each row, as text, in one column after the value; empty where there are none."""
    import pandas as pd

    told = []
    for lower, upper in table[["lower", "upper"]].itertuples(index=False):
        told.append("" if pd.isna(lower) or pd.isna(upper) else f"{lower:{form}}–{upper:{form}}")
    place = int(table.columns.get_indexer(pd.Index(["lower"]))[0])
    rest = table.drop(columns=["lower", "upper"])
    rest.insert(place, "interval", told)
    return rest


def download(table: pd.DataFrame, name: str, *, key: str) -> None:
    """Offers a table as a CSV file."""
    st.download_button(
        "Download",
        lambda: table.to_csv(index=False).encode(),
        f"{name}.csv",
        "text/csv",
        key=key,
        icon=":material/download:",
        on_click="ignore",
        help=f"{len(table):,} rows as CSV",
    )


def warn(sentences: Sequence[str], *, title: str = "Before you trust these numbers") -> None:
    """Shows what the reader must know: one sentence as it is, several under a title that opens."""
    told = list(dict.fromkeys(sentences))
    if not told:
        return
    shown = told if len(told) == 1 else [f"{len(told)} things to know. {told[0]}"]
    st.warning(plain(shown[0]), icon=":material/warning:", title=title)
    if len(told) > 1:
        with st.expander(f"All {len(told)}"):
            for sentence in told:
                st.markdown(f"- {plain(sentence)}")


def plain(text: Any) -> str:
    """Returns a text such that Markdown shows it as it is."""
    escaped = str(text)
    for sign in r"\`*_{}[]<>#|~$:":
        escaped = escaped.replace(sign, f"\\{sign}")
    return escaped


def link(page: str, label: str, icon: str, **query: str) -> None:
    """Links to a page of the app; where this visitor has no such page, says nothing."""
    from streamlit.errors import StreamlitAPIException

    try:
        st.page_link(f"app_pages/{page}.py", label=label, icon=icon, query_params=query or None)
    except StreamlitAPIException:
        st.caption(label)


def rows(table: pd.DataFrame) -> Iterator[Any]:
    """Goes through a table's rows, each with its columns as attributes."""
    yield from table.itertuples(index=False)


def number(n: int) -> str:
    """Returns a count in a few letters: 940, 12.3K, 1.0M."""
    for size, letter in ((1_000_000, "M"), (10_000, "K")):
        if n >= size:
            return f"{n / (1_000_000 if letter == 'M' else 1_000):.1f}{letter}"
    return f"{n:,}"


def follow(key: str, ids: list[int]) -> None:
    """Has a select box choose what came since the page was drawn last: who started it wants to see it.

    Args:
        key: Of the box, which is drawn after this.
        ids: Its options, in any order.
    """
    newest = max(ids)
    if st.session_state.get(f"newest-{key}", newest) < newest:
        st.session_state[key] = newest
    st.session_state[f"newest-{key}"] = newest
