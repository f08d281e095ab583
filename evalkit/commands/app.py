"""The command that serves the pages: app."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from evalkit.commands import look
from evalkit.commands.store import opened
from evalkit.errors import UserError

if TYPE_CHECKING:
    from evalkit.store import Ledger


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(name="app")(serve)


def serve(
    store: look.Store = look.STORE,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8501,
    address: Annotated[str, typer.Option(help="Address to listen on; by default this machine alone.")] = "127.0.0.1",
    team: Annotated[
        bool, typer.Option("--team", help="People enter by invitation or sign-in; without it everyone is admin.")
    ] = False,
    admin: Annotated[
        str | None, typer.Option(metavar="EMAIL", help="With --team: who is admin, as the sign-in service knows them.")
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
) -> None:
    """Open the dashboard and the voting page over a ledger."""
    import os
    import subprocess
    import sys
    from importlib.util import find_spec
    from pathlib import Path

    from evalkit.commands import printing

    if find_spec("streamlit") is None:
        raise UserError("the dashboard needs Streamlit; type: pip install 'evalkit[app]'")
    if not team and address not in ("127.0.0.1", "localhost", "::1"):
        raise UserError(
            f"--address {address} lets other machines in, and without --team everyone who comes in is admin; "
            "add --team, and people enter by invitation or sign-in (see docs/team.md)",
            code=2,
        )
    if admin is not None and not team:
        raise UserError("--admin names who is admin of a team; add --team", code=2)
    where = store if "://" in store else str(Path(store).absolute())
    with opened(store) as ledger:
        link = _first_admin(ledger, where, admin) if team else None
    import app

    folder = Path(app.__file__).parent
    options = {
        "server.port": port,
        "server.address": address,
        "server.headless": str(not browser or team).lower(),
        "browser.gatherUsageStats": "false",
        "runner.magicEnabled": "false",  # it would print docstrings of constants
        "server.fileWatcherType": "none",  # after each click it walks through all modules, seconds once torch is loaded
        "runner.postScriptGC": "false",  # 0.1 s after every click, with what statistics load; Python collects by itself
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none" if team else "full",
        "client.showErrorLinks": "false",  # they carry what went wrong, paths and all, to other sites
        "theme.base": folder / "theme.toml",
    }
    command = [sys.executable, "-m", "streamlit", "run", str(folder / "server.py")]
    command += [f"--{name}={value}" for name, value in options.items()]
    host = f"[{address}]" if ":" in address else address
    printing.say(f"evalkit app: http://{host}:{port} (Ctrl-C ends it)")
    if link:
        printing.say(
            f"You are the admin once you open this link (it works once, for a day): http://{host}:{port}{link}"
        )
    environment = {**os.environ, "EVALKIT_STORE": where, "EVALKIT_TEAM": "1" if team else "0"}
    sys.stdout.flush()
    if os.name == "posix":
        os.execve(command[0], command, environment)  # in our place, so that what stops us stops the server
    raise typer.Exit(subprocess.call(command, env=environment))


def _first_admin(ledger: Ledger, where: str, admin: str | None) -> str | None:
    """Makes the key of the cookies, and sees to it that someone can be admin.

    Returns:
        The path of an invitation, where nobody is admin yet.
    """
    from datetime import UTC, datetime, timedelta

    from app import cookies
    from evalkit.store.ledger_app import People, sign_in_identity

    cookies.key(where)
    people = People(ledger)
    if admin is not None:
        member = people.ensure_member(sign_in_identity(admin), admin.strip(), "admin")
        if member.role != "admin":
            people.set_role(member.id, "admin")
        return None
    if people.has_admin():
        return None
    _, token = people.invite("admin", expires_at=datetime.now(UTC) + timedelta(days=1), note="printed at the start")
    return f"/join/{token}"
