"""A running app in a browser, as its tests see it."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, expect

SECONDS = 180
"""How long to wait for anything: CI's machines are slow, and what comes sooner is not waited for."""
START = "overview"
TALL = 3000
"""Pixels; of a longer page the rest is left out of its screenshot."""
FRESH = "!document.querySelector('[data-stale=true]')"
"""Nothing on the page is pale, as what is being drawn anew is."""


@dataclass
class App:
    """A running app.

    Attributes:
        said: Errors that the browser's console and the pages' scripts have said.
        process: The app, where the test may end it.
    """

    url: str
    ledger: Path
    browser: Browser
    said: list[str] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    def context(self, **options: Any) -> BrowserContext:
        """Opens a browser of its own: no cookie is shared."""
        given = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light", "reduced_motion": "reduce"}
        context = self.browser.new_context(**{**given, **options})
        context.set_default_timeout(SECONDS * 1000)
        context.on("console", lambda message: self._hear(message.type, message.text, message.location.get("url", "")))
        context.on("weberror", lambda error: self.said.append(f"script: {error.error}"))
        return context

    def open(self, path: str = "", context: BrowserContext | None = None) -> Page:
        """Opens a page and waits until it is drawn."""
        page = (context or self.context()).new_page()
        page.goto(f"{self.url}/{path}")
        settle(page)
        return page

    def _hear(self, kind: str, text: str, where: str) -> None:
        # Streamlit looks for its server beside the page's own address first; that this is not there is no fault.
        probed = re.search(r"/[a-z]+/_stcore/(health|host-config)$", where)
        if kind == "error" and not probed:
            self.said.append(f"console: {text} ({where})")


def settle(page: Page) -> None:
    """Waits until the app has drawn the page."""
    app = page.locator('[data-testid="stApp"]')
    expect(app).to_have_attribute("data-test-script-state", "notRunning", timeout=SECONDS * 1000)
    expect(page.locator("h1").first).to_be_visible(timeout=SECONDS * 1000)
    expect(page.locator('[data-testid="stSkeleton"]')).to_have_count(0, timeout=SECONDS * 1000)
    expect(app).to_have_attribute("data-test-script-state", "notRunning", timeout=SECONDS * 1000)


def go(page: Page, name: str) -> None:
    """Opens a page as people do, by the menu."""
    path = "/" if name == START else f"/{name}"
    link = page.locator(f'[data-testid="stSidebarNavLink"][href$="{path}"]').first
    link.click()
    page.wait_for_url(lambda url: url.split("?")[0].endswith(path))
    settle(page)


def picture(page: Page, folder: Path, name: str, mode: str) -> None:
    """Keeps the page as it looks, as long as it is."""
    size: Any = page.viewport_size
    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": size["width"], "height": min(max(height, size["height"]), TALL)})
    page.wait_for_timeout(400)  # charts are drawn anew
    page.wait_for_function(FRESH)
    page.screenshot(path=folder / f"{name}-{mode}.png")
    page.set_viewport_size(size)


def check(page: Page, app: App) -> None:
    """Asserts that the page said nothing of a failure, neither to its reader nor to the console."""
    shown = page.locator('[data-testid="stException"]')
    assert shown.count() == 0, shown.first.inner_text()
    said, app.said[:] = list(app.said), []
    assert not said
    assert page.locator("h1").count() == 1
