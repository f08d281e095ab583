"""A real `evalkit app` process and a real Chromium, for the tests of the dashboard."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from app_process import evalkit_app

if TYPE_CHECKING:
    from app_browser import App
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")  # while Playwright runs, no other test of this process can run an event loop
def chromium() -> Iterator[Browser]:
    """Starts Chromium: that of CHROMIUM, else the one on PATH."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
    pytest.importorskip("streamlit", reason="no Streamlit: pip install 'evalkit[app]'")
    binary = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if binary is None:
        pytest.skip("no Chromium: install Debian's package chromium, or name one in CHROMIUM")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=binary, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def serve(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., App]]:
    """Returns a function that starts `evalkit app` over a ledger; it ends with the module."""
    from app_browser import App

    with ExitStack() as running:

        def start(ledger: Path, *options: str, port: int = 0, **variables: str) -> App:
            folder = tmp_path_factory.mktemp("app")
            started = running.enter_context(evalkit_app(ledger, folder, *options, port=port, **variables))
            return App(started.url, ledger, chromium, process=started.process)

        yield start


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder that keeps screenshots: EVALKIT_SCREENSHOTS, else one of the tests' own."""
    named = os.environ.get("EVALKIT_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns a function that copies a ledger with something for every page: runs, judges, people, slices, jobs."""
    from app_pages_ledger import make_ledger

    source = tmp_path_factory.mktemp("ledger") / "sample.db"
    make_ledger(source)

    def copy(name: str) -> Path:
        path = source.parent / f"{name}.db"
        shutil.copyfile(source, path)
        return path

    return copy
