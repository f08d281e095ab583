"""The page of free-prompt battles: asking, reading, voting, and what is said where nobody can be asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pages
import pytest
import streamlit as st
from pages import said
from stream_server import Said, StreamServer
from streamlit.testing.v1 import AppTest

from evalkit.models.base import ModelSettings
from evalkit.store import Ledger, frames
from evalkit.store.frames_app import ballots
from evalkit.store.ledger_app import People

opened = partial(pages.opened, "battle")
Script = dict[str, Callable[[dict[str, Any]], Said]]


@pytest.fixture
def script(ledger: Ledger) -> Iterator[Script]:
    """Two models behind a server; what it says can be changed."""
    said: Script = {"answer": lambda payload: Said((f"**I am** :red[{payload['messages'][-1]['content']}]",))}
    with StreamServer(lambda payload: said["answer"](payload)) as server:
        ledger.add_models([ModelSettings("openai", f"m{i}", endpoint=server.url, label=f"Secret {i}") for i in "12"])
        yield said


def send(page: AppTest, text: str) -> AppTest:
    page.chat_input[0].set_value(text).run()
    return answered(page)


def answered(page: AppTest) -> AppTest:
    """Runs the page as its fragment does, until both have answered or failed."""
    end = time.monotonic() + 120  # a limit for a busy machine
    while any(":shimmer" in one.value or "before you" in one.value for one in page.caption):
        assert time.monotonic() < end
        time.sleep(0.05)
        page.run()
    page.run()
    assert not page.exception
    return page


def press(page: AppTest, label: str) -> AppTest:
    (button,) = [button for button in page.button if button.label == label]
    assert not button.disabled
    button.click().run()
    assert not page.exception
    return page


def test_ask_twice_and_vote_and_only_then_read_the_names(ledger: Ledger, script: Script) -> None:
    page = send(opened(), "What *now*?")
    told = said(page)
    assert "What *now*\\?" in told
    assert told.count("**I am** \\:red\\[What *now*\\?\\]") == 2
    assert "Secret" not in told
    send(page, "And then?")
    assert said(page).count("**Answer A**") == 2
    press(page, "B is better")
    told = said(page)
    assert "**Secret 1**" in told
    assert "**Secret 2**" in told
    assert "You said: B is better." in told
    assert len(frames.verdicts(ledger, limit=None)) == 1
    assert not page.chat_input
    press(page, "Take the vote back")
    assert "does not count" in said(page)
    assert frames.verdicts(ledger, limit=None).empty
    press(page, "New battle")
    assert "Secret" not in said(page)
    assert page.chat_input[0].placeholder == "Ask anything"


def test_a_reload_finds_the_battle_again(ledger: Ledger, script: Script) -> None:
    send(opened(), "hello")
    again = answered(opened())
    assert "hello" in said(again)
    press(again, "Tie")
    page = opened()  # and after the vote its names
    assert "Secret 1" in said(page)
    rows = ballots(ledger)
    assert list(rows["winner"]) == ["tie"]
    assert list(rows["kind"]) == ["free"]


def test_a_failure_is_said_and_can_be_tried_again(ledger: Ledger, script: Script) -> None:
    works = script["answer"]
    script["answer"] = lambda payload: Said(status=503) if payload["model"] == "m2" else works(payload)
    page = send(opened(), "hello")
    assert "This model's server failed." in [one.value for one in page.warning]
    assert [button.disabled for button in page.button if button.label == "Tie"] == [True]
    assert page.chat_input[0].disabled
    script["answer"] = works
    page = answered(press(page, "Try again"))
    assert not page.warning
    press(page, "Both bad")
    assert "Secret 2" in said(page)


def test_a_suggestion_is_asked(ledger: Ledger, script: Script) -> None:
    page = answered(press(opened(), "Write a limerick about a lost sock."))
    assert "Write a limerick about a lost sock" in said(page)
    press(page, "A is better")
    assert len(frames.verdicts(ledger, limit=None)) == 1


def test_a_campaign_says_who_meets_and_what_to_look_at(ledger: Ledger, script: Script) -> None:
    people = People(ledger)
    people.add_campaign("queue only")
    people.add_campaign("free", mode="free", criterion="brevity", instructions="Ask for *short* answers.")
    page = opened()
    assert "Ask for *short* answers\\." in said(page)
    assert not page.multiselect
    press(send(page, "hello"), "A is better")
    assert list(frames.verdicts(ledger, limit=None)["criterion"]) == ["brevity"]
    people.add_campaign("lonely", mode="free", settings={"models": ["Secret 1"]})
    people.set_campaign(2, status="closed")
    st.cache_data.clear()
    assert "needs two models" in said(opened())


def test_one_prompt_too_many_in_an_hour_is_said_and_asks_nobody(
    ledger: Ledger, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app import access

    people = People(ledger)
    people.add_campaign("free", mode="free")
    voter = people.ensure_member("signin:vi", "Vi", "voter")
    monkeypatch.setattr(access, "current", lambda: access.Visitor("voter", False, voter))
    monkeypatch.setitem(access._LIMITS, "prompts", (1, 3600.0))
    page = press(press(send(opened(), "hello"), "Tie"), "New battle")
    page.chat_input[0].set_value("hello once more").run()
    assert "1 prompts an hour are the most; go on in 60 minutes" in said(page)
    assert len(frames.responses(ledger, 1)) == 2


def test_nobody_to_ask(ledger: Ledger) -> None:
    ledger.add_models([ModelSettings("recorded", "old", label="Old")])
    page = opened()
    assert "there is none" in said(page)
    assert "evalkit run" in said(page)
    assert not page.chat_input
