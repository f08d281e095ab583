"""What is added to Streamlit's page, and what is left as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

pytest.importorskip("streamlit", reason="no Streamlit: pip install 'evalkit[app]'")

from app.quick_start import PARTS, SCRIPT, QuickStart
from app.server import policy

PAGE = "<!DOCTYPE html><html><head><title>é</title></head><body></body></html>"
BROWSER = {"accept": "text/html,*/*", "accept-encoding": "gzip", "if-none-match": "old"}


async def page(request: Request) -> Response:
    assert not {"accept-encoding", "if-none-match", "range"} & set(request.headers), "the whole page, as it is"
    return HTMLResponse(PAGE, headers={"ETag": "old", "Accept-Ranges": "bytes"})


async def told(request: Request) -> Response:
    return JSONResponse({"head": "<head>", "encoding": request.headers.get("accept-encoding")})


@pytest.fixture(scope="module")
def client() -> TestClient:
    routes = [Route("/told", told), Route("/{path:path}", page)]
    app = Starlette(routes=routes)
    app.add_middleware(QuickStart)
    return TestClient(app)


def test_the_page_knows_its_server_and_what_it_will_draw(client: TestClient) -> None:
    answer = client.get("/runs", headers=BROWSER)
    assert f"<head><script>{SCRIPT}</script><link" in answer.text and "é" in answer.text
    assert "/DataFrame." in answer.text and "/embed." not in answer.text
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert not {"etag", "accept-ranges"} & set(answer.headers)


def test_a_voter_loads_no_code_for_charts(client: TestClient) -> None:
    assert "modulepreload" not in client.get("/vote", headers=BROWSER).text
    assert "modulepreload" not in client.get("/no/such/page", headers=BROWSER).text


def test_all_else_is_left_as_it_is(client: TestClient) -> None:
    answer = client.get("/told", headers={"accept": "application/json", "accept-encoding": "gzip"})
    assert answer.json() == {"head": "<head>", "encoding": "gzip"}
    assert client.get("/told", headers=BROWSER).json()["head"] == "<head>"


def test_the_files_are_those_of_this_streamlit_and_the_script_may_run() -> None:
    import base64
    import hashlib

    import streamlit as st

    folder = Path(st.__file__).parent / "static" / "static" / "js"
    assert all(len(list(folder.glob(f"{part}.*.js"))) == 1 for part in PARTS)
    assert base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode() in policy()
