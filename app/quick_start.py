"""What is added to the page that Streamlit serves, so that it connects and draws sooner.

By itself the page looks for its server beside its own address, waits a tenth of a second, looks at the root, and only
then connects; and it asks for the code of tables and charts once the first of them has arrived.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st
from starlette.datastructures import Headers, MutableHeaders

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Streamlit's own setting for hosts: connect at once, look whether all is well beside it. Pages lie side by side, so the
# server is where this one is, less its name. Where people sign in, Streamlit takes the sign-in only with a cookie that
# the look brings, so that is waited for the first time.
SCRIPT = (
    "if(/(^|; )_streamlit_xsrf=/.test(document.cookie))window.__streamlit={BACKEND_BASE_URL:location.origin+"
    "location.pathname.replace(/[^/]*$/,''),HOST_CONFIG:{allowedOrigins:[location.origin],useExternalAuthToken:false}}"
)
PARTS = {
    "DataFrame": ("leaderboard", "judges", "runs", "sample", "slices", "admin", "jobs", "retrain", "models"),
    "arrowFormatUtils": ("overview", "leaderboard", "correlation", "judges", "runs", "slices", "admin", "models"),
    "ArrowVegaLiteChart": ("overview", "leaderboard", "correlation", "judges", "slices"),
    "embed": ("overview", "leaderboard", "correlation", "judges", "slices"),
}
"""Streamlit's files by the pages that show what they draw; voters' phones load none of them."""


CONDITIONAL = {b"accept-encoding", b"if-none-match", b"if-modified-since", b"range"}


class QuickStart:
    """Adds `SCRIPT` and `PARTS` to the page, and leaves everything else as it is."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if (
            scope["type"] != "http"
            or scope["method"] != "GET"
            or "text/html" not in Headers(scope=scope).get("accept", "")
        ):
            await self.app(scope, receive, send)
            return
        # What the browser has kept is the page without what is added, or an older one with it.
        plain = {**scope, "headers": [one for one in scope["headers"] if one[0] not in CONDITIONAL]}
        start: Message | None = None
        html = b""

        async def added(message: Message) -> None:
            nonlocal start, html
            if message["type"] == "http.response.start":
                kind = Headers(raw=message["headers"]).get("content-type", "")
                if message["status"] == 200 and kind.startswith("text/html"):
                    start = message  # its length is known when the whole page is
                    return
            elif start is not None and message["type"] == "http.response.body":
                html += message.get("body", b"")
                if message.get("more_body"):
                    return
                html = html.replace(b"<head>", _head(scope["path"].rsplit("/", 1)[-1]), 1)
                headers = MutableHeaders(raw=start["headers"])
                headers["Content-Length"] = str(len(html))
                for name in ("ETag", "Last-Modified", "Accept-Ranges"):
                    del headers[name]
                await send(start)
                message = {"type": "http.response.body", "body": html}
            await send(message)

        await self.app(plain, receive, added)


def _head(page: str) -> bytes:
    return _known_head(page if any(page in pages for pages in PARTS.values()) else "")


@cache
def _known_head(page: str) -> bytes:
    folder = Path(st.__file__).parent / "static" / "static" / "js"
    names = [path.name for part, pages in PARTS.items() if page in pages for path in folder.glob(f"{part}.*.js")]
    links = [f'<link rel="modulepreload" crossorigin href="./static/js/{name}">' for name in names]
    return f"<head><script>{SCRIPT}</script>{''.join(links)}".encode()
