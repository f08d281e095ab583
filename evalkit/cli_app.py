"""The command that serves the pages: app."""

from __future__ import annotations

from typing import Annotated

import typer

from evalkit import cli_look
from evalkit.cli_store import opened
from evalkit.errors import UserError


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(name="app")(serve)


def serve(
    store: cli_look.Store = cli_look.STORE,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8501,
    address: Annotated[str, typer.Option(help="Address to listen on; by default this machine alone.")] = "127.0.0.1",
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
) -> None:
    """Open the dashboard and the voting page over a ledger."""
    import os
    import subprocess
    import sys
    from importlib.util import find_spec
    from pathlib import Path

    if find_spec("streamlit") is None:
        raise UserError("the dashboard needs Streamlit; type: pip install 'evalkit[app]'")
    opened(store).close()
    import app

    folder = Path(app.__file__).parent
    options = {
        "server.port": port,
        "server.address": address,
        "server.headless": str(not browser).lower(),
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "theme.base": folder / "theme.toml",
    }
    command = [sys.executable, "-m", "streamlit", "run", str(folder / "main.py")]
    command += [f"--{name}={value}" for name, value in options.items()]
    where = store if "://" in store else str(Path(store).absolute())
    raise typer.Exit(subprocess.call(command, env={**os.environ, "EVALKIT_STORE": where}))
