"""What the web server does besides the pages: security headers, joining by an invitation, a health check.

`evalkit app` starts it as `streamlit run app/server.py`.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from html import escape
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import streamlit as st
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from app import cookies
from app.quick_start import SCRIPT, QuickStart
from app.scripts import SCROLL_TO_ANSWERS, SCROLL_UP
from evalkit.errors import UserError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from evalkit.store.ledger_app import Member, People

FORM_BYTES = 4096
"""More than a name is no form of ours."""
NOT_LOCAL = (
    "This evalkit app is for the machine that it runs on, where everyone is its admin. "
    "To share it, or to put it behind a proxy, start it with: evalkit app --team"
)


@cache
def policy() -> str:
    """Returns the Content-Security-Policy: nothing comes from elsewhere, and nothing may frame the app.

    Scripts are Streamlit's own files, its and our inline ones by hash, and `blob:`, which only those can make.
    Vega compiles charts (`unsafe-eval`), Emotion writes styles (`unsafe-inline`): markup alone can use neither to run
    a script.
    """
    page = (Path(st.__file__).parent / "static" / "index.html").read_text()
    inline = [*re.findall(r"<script>(.*?)</script>", page, re.DOTALL), SCRIPT, *SCROLL_UP, *SCROLL_TO_ANSWERS]
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in inline]
    rules = {
        "default-src": "'self'",
        "script-src": " ".join(["'self'", "blob:", "'unsafe-eval'", *hashes]),
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "media-src": "'self' blob:",
        "connect-src": "'self'",
        "worker-src": "'self' blob:",
        "frame-src": "'none'",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


class Guard:
    """Puts the security headers on every answer; without a team, refuses whoever is not at this machine.

    The Host tells a page elsewhere that has its name point here (DNS rebinding), forwarding headers tell a proxy; both
    would make strangers the admin.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request, a web socket's first one too."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        if not cookies.team() and not _is_local(scope):
            await PlainTextResponse(NOT_LOCAL, 403)(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = policy()
                headers["X-Content-Type-Options"] = "nosniff"
                headers["X-Frame-Options"] = "DENY"
                # A link into the app is a key: the page behind it must not stand in a proxy's log as a referrer.
                headers["Referrer-Policy"] = "strict-origin" if _is_join(scope) else "same-origin"
                headers["Cross-Origin-Opener-Policy"] = "same-origin"
                headers["Permissions-Policy"] = "camera=(), microphone=(), geolocation=(), payment=()"
            await send(message)

        await self.app(scope, receive, with_headers)


def _is_join(scope: Scope) -> bool:
    return str(scope["path"]).startswith("/join/")


def _is_local(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    if any(name in headers for name in ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")):
        return False
    client = scope.get("client")
    return is_loopback(urlsplit(f"//{headers.get('host', '')}").hostname or "") and (
        client is None or is_loopback(client[0])
    )


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _page(title: str, body: str, status: int = 200) -> HTMLResponse:
    style = (
        ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;display:grid;min-height:90vh;"
        "place-items:center;margin:0 1rem;background:light-dark(#fff,#14181f);color:light-dark(#1c2330,#e6e9ee)}"
        "main{max-width:26rem}h1{font-size:1.5rem;line-height:1.25}label{display:block;font-weight:600;margin-top:1.5rem}"
        "small{color:light-dark(#5a6473,#9aa5b4)}input,button{font:inherit;padding:.6rem .75rem;border-radius:6px;"
        "width:100%;box-sizing:border-box;margin-top:.5rem}input{border:1px solid light-dark(#767f8c,#76808f);"
        "background:light-dark(#fff,#1e242d);color:inherit}button{border:0;background:#0067a3;color:#fff;"
        "font-weight:600;cursor:pointer}:focus-visible{outline:3px solid #56b4e9;outline-offset:2px}"
        "[role=alert]{color:light-dark(#b3460a,#f2905a)}"
    )
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    html = f'<!doctype html><html lang="en"><head>{head}<style>{style}</style></head><body><main>{body}</main></body>'
    return HTMLResponse(html + "</html>", status, {"Cache-Control": "no-store"})


def _refused(error: UserError, status: int = 403) -> HTMLResponse:
    said = str(error)[:1].upper() + str(error)[1:]
    return _page("No entry", f'<h1>You cannot come in by this link</h1><p role="alert">{escape(said)}</p>', status)


def _form(role: str, fault: str = "") -> HTMLResponse:
    asked = "You will see two answers at a time, without being told which model wrote them."
    if role != "voter":
        asked = f"You are invited as {'an admin' if role == 'admin' else 'an analyst'}: you see results, and can vote."
    alert = f'<p role="alert">{escape(fault)}</p>' if fault else ""
    body = (
        f"<h1>Compare answers of language models</h1><p>{asked}</p>"
        f'<form method="post">{alert}<label for="name">Your name</label>'
        '<input id="name" name="name" required maxlength="80" autocomplete="name" autofocus>'
        "<small>Shown to those who run this, beside your votes. Any name will do.</small>"
        "<button>Start</button></form>"
    )
    return _page("Come in", body, 422 if fault else 200)


def _people() -> People:
    from app import access  # not before Streamlit runs: its caches are made on import

    return access.people()


async def join(request: Request) -> Response:
    """Asks whoever has an invitation for a name, makes a member of that person, and gives out the cookie.

    Opening the link uses nothing up: programs that preview links open them too.
    """
    token = str(request.path_params["token"])
    people, store = _people(), os.environ["EVALKIT_STORE"]
    try:
        invitation_id = await run_in_threadpool(people.invitation_of, token)
        identity = cookies.read(store, request.cookies.get(cookies.NAME))
        known = await run_in_threadpool(people.member_of, identity) if identity else None
        if known is not None and known.invitation_id == invitation_id and not known.revoked:
            return RedirectResponse("../", 303)
        role = await run_in_threadpool(people.check_invitation, token)
    except UserError as error:
        return _refused(error)
    if request.method != "POST":
        return _form(role)
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(str(origin)).netloc != request.headers.get("host"):
        return _refused(UserError("the form was sent from another site; open the invitation's link itself."))
    if int(request.headers.get("content-length") or FORM_BYTES + 1) > FORM_BYTES:
        return _form(role, "Write a shorter name.")
    async with request.form(max_files=0, max_fields=5) as sent:
        name = sent.get("name")
    try:
        member = await run_in_threadpool(people.redeem, token, name if isinstance(name, str) else "")
    except UserError as error:
        return _form(role, str(error)) if str(error).startswith("name:") else _refused(error)
    return _entered(request, member, store)


def _entered(request: Request, member: Member, store: str) -> Response:
    answer = RedirectResponse("../", 303)
    secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
    seconds = cookies.DAYS * 24 * 3600
    value = cookies.sign(store, member.identity)
    answer.set_cookie(cookies.NAME, value, seconds, path="/", httponly=True, samesite="lax", secure=secure)
    return answer


async def health(_request: Request) -> Response:
    """Says whether the app can read its ledger."""

    def look() -> None:
        import sqlalchemy as sa

        with _people().ledger.engine.connect() as connection:
            connection.execute(sa.text("SELECT 1 FROM alembic_version"))

    try:
        await run_in_threadpool(look)
    except Exception as error:  # noqa: BLE001 - whatever the database raises is said
        return JSONResponse({"status": "failed", "reason": type(error).__name__}, 503)
    return JSONResponse({"status": "ok"})


def said(error: Exception) -> bool:
    """Shows an error that the user can mend as a sentence; returns whether it was one."""
    if isinstance(error, UserError):
        st.error(str(error), icon=":material/error:")
        return True
    return False


@asynccontextmanager
async def started(_app: st.App) -> AsyncIterator[dict[str, Any]]:
    """Imports what all pages need before anybody is let in, and reads ahead beside them."""
    from app import warm_up  # not before Streamlit runs: its caches are made on import

    await run_in_threadpool(warm_up.imports)
    warm_up.read_ahead()
    yield {}


routes: list[Any] = [Route("/join/{token}", join, methods=["GET", "POST"]), Route("/healthz", health)]
app = st.App(
    Path(__file__).parent / "main.py",
    lifespan=started,
    routes=routes,
    middleware=[Middleware(Guard), Middleware(QuickStart)],
    on_script_error=said,
)
