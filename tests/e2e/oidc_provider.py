"""A small OpenID Connect provider: authorization code with PKCE, ID tokens signed with RS256, sign-out.

It knows a few people and asks no password: whoever is at its page picks one, or declines.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import threading
import time
from dataclasses import dataclass, field
from html import escape
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

import uvicorn
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

CLIENT_ID, CLIENT_SECRET = "evalkit", "secret of the client"


@dataclass
class Provider:
    """A running provider.

    Attributes:
        people: Claims by the name on the button.
        redirect_uri: The only address that it sends codes to.
        faults: What clients did wrong; a test that passes has none.
        signed_out: ID tokens it was shown at signing out.
    """

    port: int
    people: dict[str, dict[str, Any]]
    redirect_uri: str
    faults: list[str] = field(default_factory=list)
    signed_out: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.issuer = f"http://127.0.0.1:{self.port}"
        self._key = RSAKey.generate_key(2048, {"kid": "of-this-test", "use": "sig", "alg": "RS256"})
        self._asked: dict[str, tuple[dict[str, str], str]] = {}
        routes = [
            Route("/.well-known/openid-configuration", self._discovery),
            Route("/authorize", self._authorize),
            Route("/choose", self._choose),
            Route("/token", self._token, methods=["POST"]),
            Route("/jwks", self._jwks),
            Route("/logout", self._logout),
            Route("/favicon.ico", lambda _request: Response(status_code=204)),
        ]
        config = uvicorn.Config(Starlette(routes=routes), "127.0.0.1", self.port, log_level="error", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> Provider:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(30)

    def _refuse(self, why: str) -> Response:
        self.faults.append(why)
        return JSONResponse({"error": "invalid_request", "error_description": why}, 400)

    async def _discovery(self, _request: Request) -> Response:
        names = {"authorization": "authorize", "token": "token", "end_session": "logout"}
        found: dict[str, Any] = {f"{name}_endpoint": f"{self.issuer}/{path}" for name, path in names.items()}
        found |= {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/jwks", "response_types_supported": ["code"]}
        found |= {"subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"]}
        found |= {"code_challenge_methods_supported": ["S256"]}
        return JSONResponse(found)

    async def _jwks(self, _request: Request) -> Response:
        return JSONResponse({"keys": [self._key.as_dict(private=False)]})

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        right = {"client_id": CLIENT_ID, "redirect_uri": self.redirect_uri, "response_type": "code"}
        for name, value in {**right, "code_challenge_method": "S256"}.items():
            if asked.get(name) != value:
                return self._refuse(f"authorize: {name} is {asked.get(name)!r}, not {value!r}")
        if not {"openid", "email"} <= set(asked.get("scope", "").split()):
            return self._refuse("authorize: scope lacks openid or email")
        number = secrets.token_urlsafe(16)
        self._asked[number] = (asked, "")
        link = '<p><a href="/choose?{}">{}</a></p>'
        choices = [*self.people, "Decline"]
        lines = [link.format(escape(urlencode({"asked": number, "who": who})), escape(who)) for who in choices]
        return HTMLResponse(f"<!doctype html><title>Provider</title><h1>Who are you?</h1>{''.join(lines)}")

    async def _choose(self, request: Request) -> Response:
        asked, _ = self._asked.pop(request.query_params["asked"])
        who = request.query_params["who"]
        answer = {"state": asked["state"]}
        if who == "Decline":
            answer |= {"error": "access_denied", "error_description": "the person declined"}
        else:
            code = secrets.token_urlsafe(16)
            self._asked[code] = (asked, who)
            answer |= {"code": code}
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(answer)}", 302)

    async def _token(self, request: Request) -> Response:
        given = {key: str(value) for key, value in (await request.form()).items()}
        basic = "Basic " + base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if request.headers.get("authorization") != basic:
            return self._refuse("token: the client is not who it says")
        asked, who = self._asked.pop(given.get("code", ""), ({}, ""))
        if not who or given.get("redirect_uri") != self.redirect_uri:
            return self._refuse("token: unknown code, or another redirect_uri")
        digest = hashlib.sha256(given.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != asked["code_challenge"]:
            return self._refuse("token: the code was asked for by somebody else")
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 600, "nonce": asked["nonce"]}
        header = {"alg": "RS256", "kid": "of-this-test"}
        token = jwt.encode(header, {**claims, **self.people[who]}, self._key)
        found = {"access_token": secrets.token_urlsafe(16), "token_type": "Bearer", "expires_in": 600}
        return JSONResponse({**found, "id_token": token})

    async def _logout(self, request: Request) -> Response:
        hint = request.query_params.get("id_token_hint", "")
        self.signed_out.append(dict(jwt.decode(hint, self._key, ["RS256"]).claims))
        return RedirectResponse(request.query_params["post_logout_redirect_uri"], 302)
