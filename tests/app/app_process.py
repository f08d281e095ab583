"""Processes that serve pages: `evalkit app` over a ledger, or Streamlit alone over a script."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 300
END_SECONDS = 30


@dataclass(frozen=True)
class AppProcess:
    """A process that serves pages.

    Attributes:
        log: All that it has said.
        ready: Seconds from its start until it answered.
    """

    port: int
    process: subprocess.Popen[bytes]
    log: Path
    ready: float

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cpu(self) -> float:
        """Returns the seconds of CPU that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as looking:
        looking.bind(("127.0.0.1", 0))
        return int(looking.getsockname()[1])


@contextmanager
def evalkit_app(
    store: str | Path, folder: Path, *options: str, port: int = 0, **variables: str
) -> Iterator[AppProcess]:
    """Starts `evalkit app` over a ledger, in a folder and with these variables besides; ends it."""
    port = port or free_port()
    line = ["evalkit.cli", "app", "--store", str(store), "--port", str(port), "--no-browser", *options]
    with _serving(line, port, "healthz", folder, variables) as started:
        yield started


@contextmanager
def streamlit_run(script: Path, *options: str, **variables: str) -> Iterator[AppProcess]:
    """Starts Streamlit over a script, in the script's folder; ends it."""
    port = free_port()
    line = ["streamlit", "run", str(script), f"--server.port={port}", "--server.address=127.0.0.1"]
    line += ["--server.headless=true", "--browser.gatherUsageStats=false", *options]
    with _serving(line, port, "_stcore/health", script.parent, variables) as started:
        yield started


@contextmanager
def _serving(line: list[str], port: int, health: str, folder: Path, variables: dict[str, str]) -> Iterator[AppProcess]:
    log = folder / f"app-{port}.log"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "EVALKIT_", "STREAMLIT_"))}
    environment = {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **variables}
    began = time.monotonic()
    with log.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", *line],
            cwd=folder, env=environment, stdout=said, stderr=said, start_new_session=True,
        )  # fmt: skip
    try:
        _wait(f"http://127.0.0.1:{port}/{health}", process, began, log)
        yield AppProcess(port, process, log, time.monotonic() - began)
    finally:
        if process.poll() is None:  # a test may have killed it
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], began: float, log: Path) -> None:
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError as error:  # not there yet, or too busy to answer
            if process.poll() is not None or time.monotonic() - began > START_SECONDS:
                raise RuntimeError(f"{url} did not answer: {log.read_text()}") from error
            time.sleep(0.05)
