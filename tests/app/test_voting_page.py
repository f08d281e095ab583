"""The voting page: what a press of each button does, and what is said where there is nothing to vote on."""

from __future__ import annotations

from functools import partial
from typing import Any

import pages
import pytest
import streamlit as st
from pages import said
from streamlit.testing.v1 import AppTest

from app import voting
from evalkit.models.base import ModelSettings, Reply, request_key
from evalkit.store import Item, Ledger, ResponseRow, frames
from evalkit.store import voting as reads
from evalkit.store.ledger_app import People

opened = partial(pages.opened, "vote")


@pytest.fixture
def filled(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """Two models' answers to three questions, and a press of a button is never too soon."""
    monkeypatch.setattr(voting, "QUICK_SECONDS", 0.0)
    models = ledger.add_models([ModelSettings("openai", f"secret{i}", label=f"Secret *{i}*") for i in range(2)])
    questions = [Item(({"role": "user", "content": f"question {i}"},), name=f"q{i}") for i in range(3)]
    dataset, items = ledger.add_dataset("d", questions, "test")
    run = ledger.start_run("r", {}, seed=0, environment={})
    rows = []
    for place, item in enumerate(items):
        for model in models:
            body = f'{{"item":{item},"model":{model}}}'
            outcome = Reply(f"answer {place} :red[x]", finish_reason="stop")
            rows.append(ResponseRow(model, item, dataset, request_key(body), body, outcome))
    ledger.add_responses(run, rows)
    return ledger


def press(page: AppTest, what: str) -> AppTest:
    (button,) = [button for button in page.button if str(button.key).startswith(f"{what}-")]
    button.click().run()
    assert not page.exception
    return page


def test_every_button_is_its_vote_and_names_come_after(filled: Ledger) -> None:
    page = opened()
    assert not page.exception
    assert page.title[0].value == "Which answer is better?"
    assert "Secret" not in said(page)
    assert "\\:red\\[x\\]" in said(page)
    for what in ("left", "tie", "both_bad"):
        press(page, what)
    told = said(page)
    assert "Secret \\*0\\*" in told
    assert "Thank you" in told
    winners = [vote.winner for vote in reads.votes(filled, None)]
    assert winners[0] in ("model_a", "model_b")
    assert winners[1:] == ["tie", "both_bad"]
    assert len(frames.verdicts(filled, limit=None)) == 3


def test_undo_brings_the_pair_back_and_takes_the_verdict_out(filled: Ledger) -> None:
    page = opened()
    before = [button.key for button in page.button]
    press(page, "left")
    press(page, "undo")
    assert "taken back" in said(page)
    assert frames.verdicts(filled, limit=None).empty
    assert not set(before) & {button.key for button in page.button}
    press(page, "right")
    assert len(frames.verdicts(filled, limit=None)) == 1


def test_a_comment_is_kept_with_its_vote_and_skipping_counts_nothing(filled: Ledger) -> None:
    page = opened()
    page.text_input[0].set_value("the first is shorter")
    press(page, "right")
    press(page, "skip")
    verdicts = frames.verdicts(filled, limit=None)
    assert len(verdicts) == 1
    assert page.text_input[0].value == ""
    from evalkit.store.frames_app import ballots

    assert "the first is shorter" in ballots(filled)["comment"].tolist()


def test_a_reload_goes_on_where_the_voter_was(filled: Ledger) -> None:
    page = opened()
    press(page, "left")
    keys = [button.key for button in page.button]
    again = opened()
    assert [button.key for button in again.button] == keys
    press(again, "left")
    press(page, "left")  # the first tab, which still shows what the second has voted on
    assert "stored already" in said(page)
    assert len(frames.verdicts(filled, limit=None)) == 2


def test_a_second_click_at_once_is_said_and_not_counted(filled: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voting, "QUICK_SECONDS", 60.0)
    page = press(opened(), "left")
    assert "too soon" in said(page)
    assert frames.verdicts(filled, limit=None).empty


def test_a_campaign_shows_its_criterion_and_hides_names_unless_it_allows_them(filled: Ledger) -> None:
    people = People(filled)
    settings = {"repeat_share": 0}
    people.add_campaign("c", criterion="help*ful*", instructions="Read :red[all].", settings=settings)
    page = opened()
    assert page.title[0].value == "Which answer is better: help\\*ful\\*?"
    assert "Read \\:red\\[all\\]\\." in said(page)
    press(page, "left")
    assert "You chose A." in said(page)
    assert "Secret" not in said(page)
    (vote,) = reads.votes(filled, 1)
    assert vote.winner is not None
    assert frames.verdicts(filled, limit=None)["criterion"].tolist() == ["help*ful*"]


def test_a_closed_campaign_says_so_and_stores_nothing(filled: Ledger) -> None:
    people = People(filled)
    key = people.add_campaign("c")
    page = opened()
    people.set_campaign(key, status="closed")
    press(page, "left")
    assert "closed" in said(page)
    assert frames.verdicts(filled, limit=None).empty


def test_voters_see_only_what_they_were_invited_to(filled: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    people = People(filled)
    first, second = people.add_campaign("one", criterion="clarity"), people.add_campaign("two", criterion="brevity")
    _, token = people.invite("voter", first)
    voter = people.redeem(token, "Vi")
    _serve_as(monkeypatch, voter)
    page = opened()
    assert not page.exception
    assert "clarity" in page.title[0].value
    assert not page.selectbox
    people.set_campaign(first, status="closed")
    st.cache_data.clear()
    page = opened()
    assert "No campaign is open" in page.info[0].value
    assert second not in {campaign.id for campaign in reads.open_campaigns(filled) if campaign.name == "one"}


def test_one_vote_too_many_in_a_minute_is_said_and_not_stored(filled: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    from app import access

    monkeypatch.setitem(access._LIMITS, "votes", (2, 60.0))
    people = People(filled)
    people.add_campaign("one", settings={"repeat_share": 0})
    _serve_as(monkeypatch, people.ensure_member("signin:vi", "Vi", "voter"))
    page = opened()
    for _ in range(3):
        page = press(page, "left")
    assert "2 votes a minute are the most; go on in" in said(page)
    assert len(frames.verdicts(filled, limit=None)) == 2


def _serve_as(monkeypatch: pytest.MonkeyPatch, member: Any) -> None:
    from app import access

    monkeypatch.setattr(access, "current", lambda: access.Visitor(member.role, False, member))


def test_an_empty_ledger_says_what_to_do(ledger: Ledger) -> None:
    page = opened()
    assert not page.exception
    assert "evalkit run" in page.info[0].value
    assert not page.button
