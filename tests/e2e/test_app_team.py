"""A team in a browser: sign-in at a provider, votes through reverse proxies, and votes in PostgreSQL."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("playwright", reason="no Playwright: pip install playwright")
pytest.importorskip("authlib", reason="no Authlib: pip install 'evalkit[app]'")

from app_browser import App, settle
from app_process import ROOT, free_port
from oidc_provider import CLIENT_ID, CLIENT_SECRET, Provider
from postgres_server import fresh
from postgres_server import postgres as postgres
from team_server import Server, serving

from evalkit.models.base import ModelSettings, Reply, request_key
from evalkit.store import Item, Ledger, ResponseRow, frames_app
from evalkit.store.ledger_app import People

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PAUSE_MS = 600
"""Between votes: what comes sooner is taken for a double click."""
ADA = {"sub": "1", "email": "Ada@example.org", "email_verified": True, "name": "Ada"}
BEN = {"sub": "2", "email": "ben@example.org", "email_verified": True, "name": "Ben"}
EVE = {"sub": "77", "email": "ada@example.org", "email_verified": False, "name": "Eve"}


@pytest.fixture
def team(chromium: Browser, tmp_path: Path) -> Iterator[tuple[App, Server, Provider]]:
    """An app for a team with Ada as its admin, and the provider that its people sign in at."""
    port = free_port()
    redirect = f"http://127.0.0.1:{port}/oauth2callback"
    with Provider(free_port(), {"Ada": ADA, "Ben": BEN, "Eve": EVE}, redirect) as provider:
        secrets = {
            "redirect_uri": redirect,
            "cookie_secret": "a long random text, of this test alone",
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "server_metadata_url": f"{provider.issuer}/.well-known/openid-configuration",
        }
        (tmp_path / ".streamlit").mkdir()
        lines = [f'{name} = "{value}"' for name, value in secrets.items()]
        (tmp_path / ".streamlit" / "secrets.toml").write_text("\n".join(["[auth]", *lines]))
        with serving(tmp_path, "--team", "--admin", "ada@example.org", port=port) as server:
            fill(server.people.ledger)
            yield App(f"http://127.0.0.1:{port}", Path(server.store), chromium), server, provider


def fill(ledger: Ledger, items: int = 6) -> None:
    """Two models' answers to a few questions, and a campaign on them."""
    People(ledger).add_campaign("Which is better?")
    models = ledger.add_models([ModelSettings("openai", name, label=f"Secret {name}") for name in ("one", "two")])
    questions = [Item(({"role": "user", "content": f"question {i}"},), name=f"q{i}") for i in range(items)]
    dataset, keys = ledger.add_dataset("d", questions, "test")
    rows = []
    for number, item in enumerate(keys):
        for model in models:
            body = f'{{"item":{number},"model":{model}}}'
            answer = Reply(f"answer {number} of {model}", finish_reason="stop")
            rows.append(ResponseRow(model, item, dataset, request_key(body), body, answer))
    ledger.add_responses(ledger.start_run("r", {}, seed=0, environment={}), rows)


def sign_in(page: Page, who: str) -> None:
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Who are you?").wait_for()
    page.get_by_role("link", name=who).click()


def shown(address: str) -> str:
    """Returns a pattern for an address as pages show it: with a joiner in it, so that it is no link."""
    return address.replace("@", "@\u2060?").replace(".", r"\.")


def outside(page: Page) -> None:
    """Waits for the page of those who have not come in."""
    page.get_by_text("You need an invitation to come in.").wait_for()
    page.get_by_role("button", name="Sign in").wait_for()


def vote(page: Page, votes: int) -> None:
    for number in range(votes):
        page.wait_for_timeout(PAUSE_MS)
        page.keyboard.press("ab"[number % 2])
        page.get_by_text(re.compile(rf"^{number + 1} voted, ")).first.wait_for()
        settle(page)


def cast(ledger: Ledger) -> int:
    """Returns how many votes stand."""
    return int(frames_app.ballots(ledger)["undone_at"].isna().sum())


def test_people_sign_in_to_their_roles_and_out_again(team: tuple[App, Server, Provider]) -> None:
    app, server, provider = team
    admin = app.context().new_page()
    admin.goto(app.url)
    sign_in(admin, "Decline")
    outside(admin)
    sign_in(admin, "Ada")
    settle(admin)
    admin.get_by_text(re.compile(f"^{shown('ada@example.org')}, admin")).wait_for()

    other = app.context().new_page()
    other.goto(app.url)
    outside(other)
    sign_in(other, "Eve")  # says that she is Ada, which the provider has not verified
    other.get_by_text("You are signed in, but nobody has let you in here yet.").wait_for()
    assert other.locator("code").inner_text() == "77"
    other.get_by_role("button", name="Sign out").click()
    outside(other)
    sign_in(other, "Ben")
    other.get_by_text("You are signed in, but nobody has let you in here yet.").wait_for()
    named = other.locator("code").inner_text()

    admin.goto(f"{app.url}/admin")
    settle(admin)
    admin.get_by_role("button", name="Add someone who signs in").click()
    admin.get_by_label("Address, or the name that the page of the sign-in shows").fill(named)
    admin.get_by_role("button", name="Add", exact=True).click()
    admin.get_by_text(re.compile("may sign in now")).first.wait_for()
    other.reload()
    settle(other)
    vote(other, 2)
    assert "Leaderboard" not in other.locator("body").inner_text()
    assert cast(server.people.ledger) == 2
    other.get_by_role("link", name="Sign out").click()
    outside(other)
    other.reload()
    outside(other)

    admin.get_by_role("button", name="Sign out").click()
    outside(admin)
    assert [claims["sub"] for claims in provider.signed_out] == ["77", "2", "1"]
    assert not provider.faults
    assert not app.said


@pytest.fixture(scope="module")
def proxied(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An app for a team, to be reached through proxies."""
    with serving(tmp_path_factory.mktemp("proxied"), "--team") as server:
        fill(server.people.ledger, items=12)  # a voter who has gone keeps two pairs for a while, and each needs three
        yield server


def block(language: str, beginning: str) -> str:
    """Returns a block of the page on teams, as its reader would copy it."""
    page = (ROOT / "docs" / "team.md").read_text()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (found,) = [text for kind, text in blocks if kind == language and text.startswith(beginning)]
    return str(found)


@contextmanager
def running(command: list[str], folder: Path, port: int, **variables: str) -> Iterator[None]:
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(command, cwd=folder, env=variables or None, stdout=said, stderr=said)
    try:
        end = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < end, (folder / "said").read_text()
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(30)


def program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"no {name}: install Debian's package {name}")
    return found


@contextmanager
def nginx(server: Server, folder: Path) -> Iterator[str]:
    """nginx with the page's block and a certificate of its own; gives the address."""
    binary, port = program("nginx"), free_port()
    openssl = [program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=test"]
    subprocess.run([*openssl, "-keyout", "key", "-out", "pem"], cwd=folder, check=True, capture_output=True)
    text = block("nginx", "map ").replace("127.0.0.1:8501", f"127.0.0.1:{server.port}")
    text = text.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
    text = re.sub(r"/etc/ssl/evalkit\.(pem|key)", rf"{folder}/\1", text)
    kept = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    head = f"daemon off; pid {folder}/pid; error_log {folder}/error; events {{}}"
    (folder / "conf").write_text(f"{head} http {{ access_log {folder}/access; {kept}\n{text}}}")
    with running([binary, "-c", str(folder / "conf"), "-p", str(folder), "-e", str(folder / "error")], folder, port):
        yield f"https://127.0.0.1:{port}"


@contextmanager
def caddy(server: Server, folder: Path) -> Iterator[str]:
    """Caddy with the page's block, without HTTPS: a certificate would be asked for elsewhere."""
    binary, port = program("caddy"), free_port()
    text = block("", "evalkit.example.org {").replace("127.0.0.1:8501", f"127.0.0.1:{server.port}")
    text = text.replace("evalkit.example.org", f"http://127.0.0.1:{port}")
    (folder / "Caddyfile").write_text(f"{{\n\tadmin off\n\tauto_https off\n}}\n{text}")
    with running([binary, "run"], folder, port, HOME=str(folder)):
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("proxy", [nginx, caddy])
def test_a_voter_comes_through_the_proxy_of_the_documentation(
    proxied: Server, chromium: Browser, tmp_path: Path, proxy: Callable[..., object]
) -> None:
    link, before = proxied.link(), cast(proxied.people.ledger)
    with proxy(proxied, tmp_path) as url:  # type: ignore[attr-defined]
        app = App(url, Path(proxied.store), chromium)
        page = app.context(ignore_https_errors=True).new_page()
        page.goto(f"{url}{link}")
        page.get_by_label("Your name").fill(proxy.__name__)
        page.get_by_role("button", name="Start").click()
        settle(page)
        assert page.url.startswith(url)
        vote(page, 3)
        page.goto(f"{url}/battle")
        settle(page)
        page.go_back()
        settle(page)
        page.get_by_text(re.compile("^3 voted, ")).first.wait_for()
        (cookie,) = [one for one in page.context.cookies() if one["name"] == "evalkit_member"]
        assert (cookie["httpOnly"], cookie["secure"]) == (True, proxy is nginx)
        page.context.close()
        assert not app.said
    assert cast(proxied.people.ledger) - before == 3
    for file in tmp_path.rglob("access"):
        log = file.read_text()
        assert "/_stcore/" in log
        assert link not in log, "links are keys"


def test_votes_in_postgresql(postgres: str, chromium: Browser, tmp_path: Path) -> None:
    with serving(tmp_path, "--team", store=fresh(postgres, "app")) as server:
        fill(server.people.ledger)
        app = App(f"http://127.0.0.1:{server.port}", tmp_path, chromium)
        page = app.context().new_page()
        page.goto(app.url + server.link())
        page.get_by_label("Your name").fill("Ada")
        page.get_by_role("button", name="Start").click()
        settle(page)
        vote(page, 4)
        page.keyboard.press("u")
        page.get_by_text(re.compile(r"^3 voted, ")).first.wait_for()
        page.wait_for_timeout(PAUSE_MS)
        for _ in range(3):
            page.keyboard.press("t")
        page.get_by_text(re.compile(r"^4 voted, ")).first.wait_for()
        page.wait_for_timeout(PAUSE_MS)
        assert cast(server.people.ledger) == 4
        assert len(frames_app.ballots(server.people.ledger)) == 5
        assert not app.said
        page.context.close()
