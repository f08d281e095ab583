"""A real `evalkit app` process and a real Chromium, for the tests of the dashboard."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from app_browser import App
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 300


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
            port = port or _free_port()
            log = tmp_path_factory.mktemp("app") / "log"
            kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "EVALKIT_", "STREAMLIT_"))}
            environment = {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **variables}
            line = [sys.executable, "-m", "evalkit.cli", "app", "--store", str(ledger), "--port", str(port)]
            with log.open("w") as written:
                process = subprocess.Popen(
                    [*line, "--no-browser", *options],
                    cwd=log.parent, env=environment, stdout=written, stderr=written, start_new_session=True,
                )  # fmt: skip
            running.callback(_end, process)
            url = f"http://127.0.0.1:{port}"
            _wait(process, f"{url}/healthz", log)
            return App(url, ledger, chromium, process=process)

        yield start


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:  # not there yet, or too busy to answer
            time.sleep(0.1)
    pytest.fail(f"evalkit app did not start: {log.read_text()}")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_port() -> int:
    with socket.socket() as looking:
        looking.bind(("127.0.0.1", 0))
        return int(looking.getsockname()[1])


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
