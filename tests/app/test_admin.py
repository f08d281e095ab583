"""Admin: what its forms write and refuse, which members it puts in doubt, what it exports."""

from __future__ import annotations

import io
import random

import pandas as pd
import pytest
from pages import opened, said
from streamlit.testing.v1 import AppTest

from app import reads_people
from evalkit.models.base import ModelSettings, Reply, request_key
from evalkit.store import BattleRow, GradeRow, Item, Ledger, ResponseRow, frames_app
from evalkit.store.ledger_app import BallotRow, Member, People


@pytest.fixture
def people(ledger: Ledger) -> People:
    """A ledger with twelve battles, open on this machine."""
    models = ledger.add_models([ModelSettings("fake", name) for name in ("one", "two", "three")])
    _, items = ledger.add_dataset("set", [Item([{"role": "user", "content": f"q{i}"}]) for i in range(12)])
    ledger.add_battles([BattleRow(item, models[i % 2], models[i % 2 + 1]) for i, item in enumerate(items)])
    return People(ledger)


def admin(section: str = "People") -> AppTest:
    return opened("admin", section=section)


def voters(people: People, n: int = 6) -> list[Member]:
    """People who vote on everything: the first always for what is first, the others mostly for the same model."""
    rng = random.Random(1)
    made = [people.ensure_member(f"signin:{name}", name, "voter") for name in "abcdef"[:n]]
    for k, member in enumerate(made):
        for battle in range(1, 13):
            order = rng.choice(["ab", "ba"])
            winner = "model_a" if order == "ab" else "model_b"
            winner = winner if k == 0 else rng.choices(["model_a", "model_b"], [9, 1])[0]
            seconds = 1.0 if k == 0 else 15.0
            people.vote(BallotRow(f"{k}-{battle}", None, member.annotator_id, battle, order, winner, seconds=seconds))
    return made


def select(test: AppTest, key: str, row: int) -> AppTest:
    """Selects a row of a table."""
    test.session_state[key] = {"selection": {"rows": [row], "columns": [], "cells": []}}
    return test.run()


def test_every_section_opens_on_an_empty_ledger(ledger: Ledger) -> None:
    for section in ("People", "Invitations", "Campaigns", "Exports"):
        assert [title.value for title in admin(section).title] == ["Admin"]


def test_doubtful_voters_come_first_and_are_set_aside_with_a_reason_and_taken_back(people: People) -> None:
    first = voters(people)[0]
    found = reads_people.members()
    assert found["name"][0] == "a"
    assert list(found["status"]) == ["doubtful", *["fine"] * 5]
    test = select(admin(), "admin-members", 0)
    assert "nearly always the first answer" in said(test)
    test.text_input[0].set_value(" ")
    test.button(key=f"FormSubmitter:aside-{first.id}-Set aside").click().run()
    assert "Say why the votes are set aside" in said(test)
    test.text_input[0].set_value("always the first")
    test.button(key=f"FormSubmitter:aside-{first.id}-Set aside").click().run()
    assert not test.exception
    known = people.member_of(first.identity)
    assert known is not None
    assert known.set_aside_reason == "always the first"
    assert len(frames_app.ballots(people.ledger, first.annotator_id)) == 12, "nothing is deleted"
    test = select(admin(), "admin-members", int(reads_people.members()["status"].eq("set aside").idxmax()))
    assert "always the first" in said(test)
    test.button(key=f"back-{first.id}").click().run()
    known = people.member_of(first.identity)
    assert known is not None
    assert known.set_aside_at is None


def test_pairs_with_a_known_winner_show_how_often_a_voter_is_right(people: People) -> None:
    ledger = people.ledger
    good, bad = ledger.add_models([ModelSettings("fake", name) for name in ("good", "bad")])
    dataset, items = ledger.add_dataset("sums", [Item([{"role": "user", "content": f"sum {i}"}]) for i in range(4)])
    run = ledger.start_run("r", {}, seed=0, environment={})
    bodies = [(item, model, f'{{"item":{item},"model":{model}}}') for item in items for model in (good, bad)]
    rows = [ResponseRow(m, i, dataset, request_key(b), b, Reply("x", finish_reason="stop")) for i, m, b in bodies]
    answers = ledger.add_responses(run, rows)
    metric = ledger.add_annotator("metric", "exact_match", {})
    ledger.add_grades([GradeRow(answer, metric, "exact_match", (n + 1) % 2) for n, answer in enumerate(answers)])
    pairs = [BattleRow(item, good, bad, *answers[2 * n : 2 * n + 2]) for n, item in enumerate(items)]
    member, other = (people.ensure_member(f"signin:{name}", name, "voter") for name in "ab")
    for battle, winner in zip(ledger.add_battles(pairs), ("model_a", "model_b", "model_a", "tie"), strict=True):
        people.vote(BallotRow(str(battle), None, member.annotator_id, battle, "ab", winner, kind="gold"))
    found = reads_people.members().set_index("name")
    assert (found["gold"][member.name], found["gold_n"][member.name]) == (0.5, 4)
    assert (pd.isna(found["gold"][other.name]), found["gold_n"][other.name]) == (True, 0)
    assert not admin().exception


def test_roles_change_and_no_admin_can_lock_the_door_from_inside(people: People) -> None:
    member = voters(people, 1)[0]
    test = select(admin(), "admin-members", 0)
    assert test.button(key=f"set-role-{member.id}").disabled
    test.segmented_control(key=f"role-{member.id}").set_value("analyst").run()
    test.button(key=f"set-role-{member.id}").click().run()
    known = people.member_of(member.identity)
    assert known is not None
    assert known.role == "analyst"


def test_a_link_is_shown_once_and_can_be_revoked(people: People) -> None:
    test = admin("Invitations")
    assert "evalkit app --team" in said(test)
    test.segmented_control(key="invite-role").set_value("admin")
    test.number_input(key="invite-uses").set_value(2)
    test.button(key="FormSubmitter:invite-Make a link").click().run()
    assert "an invitation for admins is for one person" in said(test).lower()
    assert not len(frames_app.invitations(people.ledger))
    test.segmented_control(key="invite-role").set_value("voter")
    test.text_input(key="invite-note").set_value("Ada")
    test.button(key="FormSubmitter:invite-Make a link").click().run()
    (link,) = [block.value for block in test.code]
    member = people.redeem(link.rsplit("/", 1)[1], "Ada")
    assert member.role == "voter"
    assert "/join/" not in str(frames_app.invitations(people.ledger).to_dict())
    select(test, "admin-invitations", 0)
    number = int(frames_app.invitations(people.ledger)["invitation_id"][0])
    test.button(key=f"revoke-{number}").click().run()
    known = people.member_of(member.identity)
    assert known is not None
    assert known.revoked


def submit(test: AppTest) -> AppTest:
    return test.button(key="FormSubmitter:campaign-Open the campaign").click().run()


def test_a_campaign_is_opened_changed_closed_and_opened_again(people: People) -> None:
    test = admin("Campaigns")
    assert "Name of the campaign" in said(submit(test))
    test.text_input(key="campaign-name").set_value("Tone")
    test.multiselect(key="campaign-models").set_value(["fake/one"])
    assert "choose two or more" in said(submit(test))
    test.multiselect(key="campaign-models").set_value(["fake/one", "fake/two"])
    test.multiselect(key="campaign-datasets").set_value(["set"])
    test.text_input(key="campaign-criterion").set_value("friendliness")
    test.number_input(key="campaign-repeats").set_value(10)
    submit(test)
    assert not test.exception
    (campaign,) = frames_app.campaigns(people.ledger).to_dict("records")
    assert (campaign["name"], campaign["status"], campaign["mode"]) == ("Tone", "open", "queue")
    assert campaign["criterion"] == "friendliness"
    assert campaign["settings"] == {
        "models": ["fake/one", "fake/two"], "datasets": ["set"], "votes_per_pair": 2, "policy": "next-battle",
        "gold_share": 0.0, "repeat_share": 0.1, "reveal": False,
    }  # fmt: skip
    number = campaign["campaign_id"]
    test = select(admin("Campaigns"), "admin-campaigns", 0)
    test.text_area[0].set_value("Which is kinder?")
    test.button(key=f"FormSubmitter:instructions-{number}-Save instructions").click().run()
    select(test, "admin-campaigns", 0)
    test.button(key=f"close-{number}").click().run()
    (campaign,) = frames_app.campaigns(people.ledger).to_dict("records")
    assert (campaign["status"], campaign["instructions"]) == ("closed", "Which is kinder?")
    select(test, "admin-campaigns", 0)
    test.button(key=f"open-{number}").click().run()
    assert frames_app.campaigns(people.ledger)["status"][0] == "open"


def test_a_campaign_of_free_prompts_has_models_and_a_policy_alone(people: People) -> None:
    test = admin("Campaigns")
    test.segmented_control(key="campaign-mode").set_value("free")
    test.text_input(key="campaign-name").set_value("Ask")
    test.multiselect(key="campaign-models").set_value(["fake/one", "fake/two"])
    test.segmented_control(key="campaign-policy").set_value("uniform")
    submit(test)
    assert not test.exception
    (campaign,) = frames_app.campaigns(people.ledger).to_dict("records")
    assert campaign["mode"] == "free"
    assert campaign["settings"] == {"models": ["fake/one", "fake/two"], "policy": "uniform"}


def test_the_same_name_twice_is_refused(people: People) -> None:
    people.add_campaign("Tone")
    test = admin("Campaigns")
    test.text_input(key="campaign-name").set_value("Tone")
    assert "There is a campaign 'Tone' already" in said(submit(test))


def test_exports_leave_out_who_was_set_aside_unless_asked(people: People) -> None:
    made = voters(people, 3)
    people.set_aside(made[0].id, "test")
    admin("Exports")

    def rows(aside: bool) -> int:
        return len(pd.read_csv(io.BytesIO(reads_people.votes_file("csv", aside))))

    assert (rows(False), rows(True)) == (24, 36)
    assert reads_people.votes_file("jsonl", False).count(b"\n") == 24
    history = pd.read_csv(io.BytesIO(reads_people.ballots_file()))
    assert len(history) == 36
    assert "key" not in history
    assert set(history["name"]) == {"a", "b", "c"}
