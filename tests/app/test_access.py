"""Who may enter and see what: a server of its own for each mode, asked over HTTP; roles and limits in process."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from app_process import ROOT
from streamlit.testing.v1 import AppTest
from team_server import Reply, Server, serving

from app import access, cookies
from evalkit.errors import UserError
from evalkit.store import Ledger
from evalkit.store.ledger_app import Member, People, Role

MAIN = ROOT / "app" / "main.py"


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("team"), "--team") as server:
        yield server


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("local")) as server:
        yield server


def cookie_of(reply: Reply) -> str:
    found = re.match(rf"{cookies.NAME}=([^;]+)", reply.headers["set-cookie"])
    assert found
    return found[1]


def test_headers_allow_nothing_from_elsewhere(team: Server) -> None:
    for path in ("/", "/healthz", "/join/unknown", "/_stcore/health", "/nothing"):
        headers = team.ask(path).headers
        policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
        assert policy["img-src"] == "'self' data: blob:"
        assert policy["frame-src"] == policy["object-src"] == policy["frame-ancestors"] == "'none'"
        assert "unsafe-inline" not in policy["script-src"]
        assert not re.search(r"https?:|\*", headers["content-security-policy"])
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == ("strict-origin" if "/join/" in path else "same-origin")
        assert headers["x-frame-options"] == "DENY"


def test_joining_makes_a_member_and_a_cookie_that_scripts_cannot_read(team: Server) -> None:
    link = team.link(max_uses=1)
    for _ in range(2):  # opening, as programs that preview links do, uses nothing up
        assert team.ask(link).status == 200
    blank = team.ask(link, name="  ")
    assert blank.status == 422
    assert "write 1 to 80 characters" in blank.text
    joined = team.ask(link, name="Ada <b>")
    assert joined.status == 303
    assert joined.headers["location"] == "../"
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(joined.headers["set-cookie"].split("; "))
    assert "Secure" not in joined.headers["set-cookie"]
    identity = cookies.read(team.store, cookie_of(joined))
    member = team.people.member_of(str(identity))
    assert member is not None
    assert (member.name, member.role) == ("Ada <b>", "voter")
    again = team.ask(link, cookie=cookie_of(joined))
    assert again.status == 303, "who has joined by a link goes on by it"
    other = team.ask(link, name="Eve")
    assert other.status == 403
    assert "has been used up" in other.text


def test_behind_a_proxy_with_tls_the_cookie_is_secure(team: Server) -> None:
    joined = team.ask(team.link(), name="Ada", X_Forwarded_Proto="https")
    assert "Secure" in joined.headers["set-cookie"]


def test_links_that_are_over_say_so_in_one_sentence(team: Server) -> None:
    number, token = team.people.invite("voter")
    team.people.revoke(number)
    _, soon = team.people.invite("voter", expires_at=datetime.now(UTC) + timedelta(seconds=0.3))
    time.sleep(0.4)
    for path, why in (("unknown", "is not known here"), (token, "was revoked"), (soon, "expired at")):
        for name in (None, "Ada"):
            reply = team.ask(f"/join/{path}", name=name)
            assert reply.status == 403
            assert f"This invitation {why}" in reply.text
            assert "set-cookie" not in reply.headers


def test_forms_of_other_sites_and_endless_forms_are_refused(team: Server) -> None:
    link = team.link()
    for origin in ("https://elsewhere.example", "null"):
        assert team.ask(link, name="Ada", Origin=origin).status == 403
    assert team.ask(link, name="a" * 5000).status == 422
    assert team.ask(link, name="Ada", Origin=f"http://127.0.0.1:{team.port}").status == 303


def test_a_team_without_an_admin_is_told_how_to_be_one(team: Server) -> None:
    found = re.search(r"http://127.0.0.1:\d+(/join/\S+)", team.said)
    assert found
    joined = team.ask(found[1], name="Grace")
    member = team.people.member_of(str(cookies.read(team.store, cookie_of(joined))))
    assert member is not None
    assert member.role == "admin"
    assert team.people.has_admin()


def test_alone_the_app_answers_this_machine_only(local: Server) -> None:
    assert local.ask("/").status == 200
    assert local.ask("/", Host="localhost:8501").status == 200
    refused: list[dict[str, str]] = [
        {"Host": "evil.example"},
        {"Host": ""},
        {"X_Forwarded_For": "10.0.0.1"},
        {"Forwarded": "for=10.0.0.1"},
    ]
    for headers in refused:
        reply = local.ask("/", **headers)
        assert reply.status == 403
        assert "evalkit app --team" in reply.text
    socket_of = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13"}
    key = {"Sec_WebSocket_Key": "x" * 22 + "==", "Host": "evil.example"}
    assert local.ask("/_stcore/stream", **socket_of, **key).status == 403


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--address", "0.0.0.0"], "add --team"), (["--admin", "ada@example.org"], "add --team")],
)
def test_strangers_are_not_let_in_by_mistake(in_process: Any, tmp_path: Path, options: list[str], said: str) -> None:
    Ledger.open(str(tmp_path / "l.db")).close()
    done = in_process("app", "--store", tmp_path / "l.db", "--no-browser", *options)
    assert done.code == 2
    assert said in done.err


def test_cookies_are_signed_for_one_ledger(tmp_path: Path) -> None:
    store, other = str(tmp_path / "a.db"), str(tmp_path / "b.db")
    cookie = cookies.sign(store, "invitation:1:1")
    assert cookies.read(store, cookie) == "invitation:1:1"
    body, rest = cookie.split(".", 1)
    for forged in (None, "", "x", f"{body[:-1]}.{rest}", cookie[:-1], cookies.sign(other, "invitation:1:1")):
        assert cookies.read(store, forged) is None
    file = cookies.key_file(store)
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        cookies.read(store, cookie)
    file.chmod(0o600)
    file.write_text("short")
    with pytest.raises(UserError, match="holds no key"):
        cookies.sign(store, "x")


def test_the_key_of_a_database_server_has_no_password_in_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path))
    one, two = (cookies.key_file(f"postgresql://me:{secret}@db/evalkit") for secret in ("a", "b"))
    assert one == two
    assert one.parent == tmp_path


@pytest.fixture
def ledger(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """An empty ledger that the pages read, for a team."""
    monkeypatch.setenv("EVALKIT_TEAM", "1")
    return ledger


def opened(**claims: Any) -> AppTest:
    test = AppTest.from_file(str(MAIN), default_timeout=60)
    test.user = claims
    return test.run()


def pages(test: AppTest) -> set[str]:
    """The pages that a visitor can go to."""
    found = set()
    for file in (ROOT / "app" / "app_pages").glob("*.py"):
        try:
            test.switch_page(f"app_pages/{file.name}")
            found.add(file.stem)
        except ValueError:
            continue
    return found


def entered(monkeypatch: pytest.MonkeyPatch, ledger: Ledger, role: Role) -> Member:
    """Makes a member and lets the pages see that member's cookie."""
    member = People(ledger).redeem(People(ledger).invite(role)[1], "Ada")
    value = cookies.sign(os.environ["EVALKIT_STORE"], member.identity)
    monkeypatch.setattr("streamlit.runtime.context.ContextProxy.cookies", {cookies.NAME: value})
    return member


@pytest.mark.parametrize(
    ("role", "sees", "sees_not"),
    [
        ("voter", {"vote", "battle"}, {"overview", "leaderboard", "runs", "sample", "jobs", "admin"}),
        ("analyst", {"vote", "overview", "leaderboard", "jobs"}, {"admin"}),
        ("admin", {"vote", "overview", "admin"}, set()),
    ],
)
def test_pages_by_role(
    monkeypatch: pytest.MonkeyPatch, ledger: Ledger, role: Role, sees: set[str], sees_not: set[str]
) -> None:
    """A page that is not for a visitor is not there, by its address either."""
    entered(monkeypatch, ledger, role)
    test = opened()
    assert not test.exception
    there = pages(test)
    assert sees <= there
    assert not sees_not & there
    if role == "voter":
        assert there == {"vote", "battle"}


def test_nobody_enters_without_an_invitation_and_a_revoked_one_ends(
    monkeypatch: pytest.MonkeyPatch, ledger: Ledger
) -> None:
    stranger = opened()
    assert "You need an invitation" in " ".join(text.value for text in stranger.markdown)
    assert not stranger.sidebar.markdown
    assert not stranger.button
    member = entered(monkeypatch, ledger, "voter")
    test = opened()
    assert not any("invitation" in text.value for text in test.markdown)
    assert member.invitation_id is not None
    People(ledger).revoke(member.invitation_id)
    test.run()
    assert "Your invitation was revoked." in " ".join(text.value for text in test.markdown)


def test_a_role_that_is_taken_away_ends_at_the_next_click(monkeypatch: pytest.MonkeyPatch, ledger: Ledger) -> None:
    member = entered(monkeypatch, ledger, "analyst")
    test = opened()
    assert "leaderboard" in pages(test)
    People(ledger).set_role(member.id, "voter")
    assert pages(test.run()) == {"vote", "battle"}


def test_who_signs_in_is_known_by_a_verified_address_alone(ledger: Ledger) -> None:
    People(ledger).ensure_member("signin:ada@example.org", "Ada", "analyst")
    signed_in = {"is_logged_in": True, "sub": "77", "email": "Ada@Example.org"}
    inside = opened(**signed_in, email_verified=True)
    assert not inside.exception
    assert any("Ada, analyst" in text.value for text in inside.sidebar.caption)
    for claimed in ({}, {"email_verified": False}, {"email_verified": "true"}):
        outside = opened(**signed_in, **claimed)
        assert [block.value for block in outside.code] == ["77"]
    asked = opened(is_logged_in=False)
    assert [button.label for button in asked.button] == ["Sign in"]


def test_limits_count_each_member_and_forget() -> None:
    limits = access.Limits()
    for second in range(access.VOTES_PER_MINUTE):
        limits.take(1, "votes", second * 0.1)
    with pytest.raises(UserError, match=r"60 votes a minute are the most; go on in 50 seconds"):
        limits.take(1, "votes", 10.0)
    limits.take(2, "votes", 10.0)
    limits.take(1, "prompts", 10.0)
    limits.take(1, "votes", 60.0)


def test_sign_in_identities() -> None:
    assert access.sign_in_identity(" Ada@Example.org ") == "signin:ada@example.org"
    assert access.sign_in_identity("aB7") == "signin:aB7"
    for wrong in ("", "two names", "x" * 201):
        with pytest.raises(UserError, match="without spaces"):
            access.sign_in_identity(wrong)
