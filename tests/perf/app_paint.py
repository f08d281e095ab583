"""First paint of every page of the app: a real `evalkit app`, a real Chromium."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

sys.path.append(str(Path(__file__).resolve().parents[1] / "app"))  # for whoever imports this module too

from app_process import AppProcess, streamlit_run

GIVEN_UP_S = 90

CHART = '[data-testid="stVegaLiteChart"] :is(svg, canvas)'
TABLE = '[data-testid="stDataFrame"] canvas'
PAGES = {
    "overview": '[data-testid="stMetricValue"]',
    "leaderboard": f"{CHART}, {TABLE}",
    "correlation": CHART,
    "judges": f'{CHART}, {TABLE}, [data-testid="stTable"] td, [data-testid="stMain"] strong',
    "runs": TABLE,
    "sample?response=500000": ".st-key-answer-scroll-prompt p",
    "slices": f"{CHART}, {TABLE}",
    "vote": '[class*="st-key-answer-scroll-A"] p',
    "battle": '[data-testid="stChatInput"] textarea',
    "admin": '[data-testid="stMetricValue"]',
    "jobs": f'{TABLE}, [data-testid="stMain"] strong',
    "retrain": f'[data-testid="stSelectbox"], {TABLE}',
    "models": TABLE,
}
"""What counts as a page's own first content, beside its heading: the first of these elements that is drawn."""

BARE = """
import pandas as pd
import streamlit as st

st.title("Bare")
st.dataframe(pd.DataFrame({"a": range(50)}))
"""

# Runs in the page from its first moment on. Looks at every frame, and takes the time of the frame after the one in
# which heading and content were there first: by then they are painted. Zero is the start of the navigation.
LOOK = """
(() => {
  const content = %r;
  const paint = window.__paint = {};
  const drawn = e => {
    const box = e.getBoundingClientRect();
    return box.width > 8 && box.height > 8 && (e.textContent.trim() || e.matches('canvas, svg, textarea, select'))
      && e.checkVisibility({opacityProperty: true, visibilityProperty: true})
      && !e.closest('[data-testid="stSkeleton"], [data-testid="stSpinner"], [data-testid="stSidebar"]');
  };
  const some = selector => [...document.querySelectorAll(selector)].some(drawn);
  const look = () => {
    if (!paint.heading && some('h1')) paint.heading = performance.now();
    if (!paint.first && paint.heading && some(content))
      requestAnimationFrame(() => { paint.first = performance.now(); });
    const app = document.querySelector('[data-testid="stApp"]');
    if (!paint.whole && paint.first && app && app.dataset.testScriptState === 'notRunning'
        && !document.querySelector('[data-testid="stSkeleton"], [data-testid="stSpinner"]'))
      paint.whole = performance.now();
    if (!paint.whole) requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})();
"""


@contextmanager
def bare(folder: Path) -> Iterator[AppProcess]:
    """Starts Streamlit over a page with a heading and a small table: what no page can be faster than here."""
    page = folder / "bare.py"
    page.write_text(BARE)
    with streamlit_run(page) as server:
        yield server


@contextmanager
def chromium() -> Iterator[Browser]:
    """Starts Chromium: that of CHROMIUM, else the one on PATH."""
    binary = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if binary is None:
        raise SystemExit("no Chromium: install Debian's package chromium, or name one in CHROMIUM")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=binary, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def paint(tab: Page, url: str, page: str) -> dict[str, float]:
    """Opens a page of the app in a tab that has `LOOK`; returns heading, first and whole, in seconds."""
    tab.goto("about:blank")
    tab.goto(f"{url}/{page}", wait_until="commit")
    try:
        tab.wait_for_function("window.__paint && window.__paint.whole", timeout=GIVEN_UP_S * 1000)
        found: dict[str, Any] = tab.evaluate("window.__paint")
    except Exception:
        found = tab.evaluate("window.__paint")
        print(f"  {page}: not drawn after {GIVEN_UP_S} s: {found}; {tab.inner_text('body')[:300]!r}", file=sys.stderr)
    nothing = float("inf")
    return {name: found.get(name, nothing * 1000) / 1000 for name in ("heading", "first", "whole")}
