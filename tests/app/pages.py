"""A page of the app as Streamlit's own tests run it, without a server, and what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason="no Streamlit: pip install 'evalkit[app]'")

from streamlit.testing.v1 import AppTest

import judges  # noqa: F401  # first: the folder of a page that runs is searched before ours, and has a `judges` too

PAGES = Path(__file__).parents[2] / "app" / "app_pages"
SECONDS = 300
"""How long a page may take: a limit for a busy machine."""


def opened(name: str, /, **query: str) -> AppTest:
    """Opens a page with this in its address."""
    page = AppTest.from_file(PAGES / f"{name}.py", default_timeout=SECONDS)
    for key, value in query.items():
        page.query_params[key] = value
    page.run()
    assert not page.exception, [one.value for one in page.exception]
    return page


def said(page: AppTest) -> str:
    """Returns all that a page says in words."""
    kinds = (page.title, page.header, page.subheader, page.markdown, page.caption)
    boxes = (page.info, page.success, page.warning, page.error)
    return "\n".join(str(one.value) for kind in (*kinds, *boxes) for one in kind)
