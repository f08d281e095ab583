"""Campaigns, invitations, members, ballots: what is stored, what is refused, and that the tally always adds up."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from store_world import World, check_tally

from evalkit.errors import UserError
from evalkit.report.board import leaderboard
from evalkit.store import BattleRow, Ledger, VerdictRow, frames, frames_app, write_people
from evalkit.store.formats.generic import export_votes, ledger_votes
from evalkit.store.labels import truth_annotators
from evalkit.store.ledger_app import BallotRow, Member, People


@pytest.fixture
def people(ledger: Ledger) -> People:
    return People(ledger)


@pytest.fixture
def battles(world: World) -> list[int]:
    return world.ledger.add_battles([BattleRow(item, *world.models) for item in world.items])


@pytest.fixture
def anna(people: People) -> Member:
    return people.ensure_member("local", "Anna", "admin")


def ballot(key: str, member: Member, battle: int, winner: str | None = "model_a", **changes: object) -> BallotRow:
    return BallotRow(key, changes.pop("campaign_id", None), member.annotator_id, battle, "ab", winner, **changes)  # type: ignore[arg-type]


def winners(ledger: Ledger, **filters: object) -> list[str]:
    return list(frames.verdicts(ledger, **filters)["winner"])  # type: ignore[arg-type]


def test_vote_is_ballot_verdict_and_tally(people: People, battles: list[int], anna: Member) -> None:
    campaign = people.add_campaign("first", settings={"votes_per_pair": 3}, instructions="Which is better?")
    row = ballot("k", anna, battles[0], campaign_id=campaign, seconds=4.5, comment="  shorter\0 ")
    result = people.vote(row)
    assert (result.status, result.winner, result.undone) == ("stored", "model_a", False)
    (verdict,) = frames.verdicts(people.ledger).to_dict("records")
    assert (verdict["annotator"], verdict["annotator_kind"], verdict["order"]) == ("Anna", "human", "ab")
    assert (verdict["winner"], verdict["seconds"], verdict["battle_id"]) == ("model_a", 4.5, battles[0])
    (stored,) = frames_app.ballots(people.ledger).to_dict("records")
    assert (stored["key"], stored["comment"], stored["kind"], stored["order"]) == ("k", "shorter\ufffd", "queue", "ab")
    (listed,) = frames_app.campaigns(people.ledger).to_dict("records")
    assert (listed["votes"], listed["voters"], listed["settings"]) == (1, 1, {"votes_per_pair": 3})
    check_tally(people.ledger)


def test_same_vote_again_changes_nothing(people: People, battles: list[int], anna: Member) -> None:
    row = ballot("k", anna, battles[0])
    first = people.vote(row)
    for again in (row, replace(row, winner="model_b"), replace(row, battle_id=battles[1])):
        assert people.vote(again) == replace(first, status="repeated")
    # Another tab: the same question under another key, shown the other way round.
    assert people.vote(replace(row, key="tab", order="ba", winner="model_b")) == replace(first, status="repeated")
    assert winners(people.ledger) == ["model_a"]
    assert len(frames_app.ballots(people.ledger)) == 1
    check_tally(people.ledger)


def test_repeat_and_other_campaign_are_votes_of_their_own(people: People, battles: list[int], anna: Member) -> None:
    one, two = people.add_campaign("one"), people.add_campaign("two")
    people.ledger.add_verdicts(None, [VerdictRow(battles[0], anna.annotator_id, "", "tie")])
    rows = [
        ballot("k1", anna, battles[0], campaign_id=one),
        ballot("k2", anna, battles[0], "model_b", campaign_id=one, replicate=1, kind="repeat"),
        ballot("k3", anna, battles[0], campaign_id=two),
        ballot("k4", anna, battles[0], campaign_id=two, criterion="style"),
    ]
    assert [people.vote(row).status for row in rows] == ["stored"] * 4
    assert sorted(winners(people.ledger, criterion="overall")) == ["model_a", "model_a", "model_b", "tie"]
    check_tally(people.ledger)
    people.undo("k1")  # takes away its own verdict, not that of the other campaign
    assert sorted(winners(people.ledger, criterion="overall")) == ["model_a", "model_b", "tie"]
    check_tally(people.ledger)


def test_undo_keeps_the_ballot_and_takes_the_verdict(people: People, battles: list[int], anna: Member) -> None:
    row = ballot("k", anna, battles[0], seconds=2.0, comment="why")
    people.vote(row)
    assert people.undo("k").status == "stored"
    assert people.undo("k").status == "repeated"
    assert winners(people.ledger) == []
    assert len(frames.tally(people.ledger)) == 0  # not a row of zeros
    kept = frames_app.ballots(people.ledger).to_dict("records")[0]
    assert (kept["winner"], kept["comment"], kept["seconds"]) == ("model_a", "why", 2.0)
    assert kept["undone_at"] is not None
    late = people.vote(row)  # a request that was on its way
    assert (late.status, late.undone) == ("repeated", True)
    assert winners(people.ledger) == []
    assert people.vote(replace(row, key="k2", winner="both_bad")).status == "stored"
    assert winners(people.ledger) == ["both_bad"]
    assert list(frames_app.ballots(people.ledger, newest_first=True)["key"]) == ["k2", "k"]
    check_tally(people.ledger)
    with pytest.raises(UserError, match="no such vote"):
        people.undo("unknown")


def test_undo_of_one_order_leaves_what_the_other_says(people: People, battles: list[int], anna: Member) -> None:
    people.vote(ballot("k", anna, battles[0]))
    people.ledger.add_verdicts(None, [VerdictRow(battles[0], anna.annotator_id, "ba", "model_b")])
    assert frames.tally(people.ledger)["ties"].sum() == 1
    check_tally(people.ledger)
    people.undo("k")
    assert frames.tally(people.ledger)["wins_b"].sum() == 1
    check_tally(people.ledger)


def test_skipped_pair_is_a_ballot_without_verdict(people: People, battles: list[int], anna: Member) -> None:
    row = ballot("k", anna, battles[0], None)
    assert people.vote(row).status == "stored"
    assert people.vote(replace(row, key="k2", winner="tie")).status == "repeated"
    assert winners(people.ledger) == []
    (member,) = frames_app.members(people.ledger).to_dict("records")
    assert (member["votes"], member["skipped"], member["undone"]) == (0, 1, 0)
    people.undo("k")
    assert people.vote(replace(row, key="k3", winner="tie")).status == "stored"
    check_tally(people.ledger)


def test_what_cannot_be_voted_on_is_said(people: People, battles: list[int], anna: Member) -> None:
    campaign = people.add_campaign("first")
    people.set_campaign(campaign, status="closed")
    with pytest.raises(UserError, match="'first' is closed; your vote was not stored"):
        people.vote(ballot("k", anna, battles[0], campaign_id=campaign))
    with pytest.raises(UserError, match="no campaign 99"):
        people.vote(ballot("k", anna, battles[0], campaign_id=99))
    with pytest.raises(UserError, match="no battle 12345"):
        people.vote(ballot("k", anna, 12345))
    with pytest.raises(ValueError, match="one of model_a, model_b, tie, both_bad"):
        people.vote(ballot("k", anna, battles[0], "neither"))
    assert len(frames_app.ballots(people.ledger)) == 0
    check_tally(people.ledger)
    people.set_campaign(campaign, status="open")
    assert people.vote(ballot("k", anna, battles[0], campaign_id=campaign)).status == "stored"
    with pytest.raises(UserError, match="a campaign 'first' already"):
        people.add_campaign(" first ")


def test_time_that_is_none_is_not_stored(people: People, battles: list[int], anna: Member) -> None:
    for number, seconds in enumerate((float("nan"), float("inf"), -1.0)):
        people.vote(ballot(str(number), anna, battles[number], seconds=seconds))
    assert frames_app.ballots(people.ledger)["seconds"].isna().all()


def test_fault_in_the_middle_of_a_vote_leaves_nothing(
    people: People, battles: list[int], anna: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_kwargs: object) -> int:
        raise OSError("gone")

    monkeypatch.setattr(write_people, "_add", fail)  # the ballot, which comes after verdict and tally
    with pytest.raises(OSError, match="gone"):
        people.vote(ballot("k", anna, battles[0]))
    monkeypatch.undo()
    assert winners(people.ledger) == []
    assert people.vote(ballot("k", anna, battles[0])).status == "stored"
    monkeypatch.setattr(write_people, "_set", fail)
    with pytest.raises(OSError, match="gone"):
        people.undo("k")
    assert winners(people.ledger) == ["model_a"]
    check_tally(people.ledger)


def test_votes_of_members_set_aside_do_not_count_until_taken_back(
    people: People, battles: list[int], anna: Member, tmp_path: Path
) -> None:
    ledger, ben = people.ledger, people.ensure_member("ben", "Ben", "voter")
    for number, battle in enumerate(battles):
        people.vote(ballot(f"a{number}", anna, battle, "model_a" if number else "model_b"))
        people.vote(ballot(f"b{number}", ben, battle, "model_b"))

    def counted(**flag: bool) -> tuple[int, ...]:
        rows = len(ledger_votes(ledger, **flag)), export_votes(ledger, tmp_path / "votes.csv", **flag)
        tally = frames.tally(ledger, **flag)[["wins_a", "wins_b"]].to_numpy().sum()
        return (tally, len(frames.verdicts(ledger, **flag)), leaderboard(ledger, **flag).n, *rows)

    everyone = counted()
    assert everyone == (20,) * 5
    people.set_aside(ben.id, "votes in half a second")
    assert counted() == (10,) * 5
    assert counted(include_set_aside=True) == everyone
    assert truth_annotators(ledger, "*", []) == [anna.annotator_id]
    known = people.member_of("ben")
    assert known is not None and known.set_aside_reason == "votes in half a second"
    people.undo("b0")
    people.vote(ballot("b0 again", ben, battles[0], "tie"))  # further votes are kept, and do not count either
    assert counted() == (10,) * 5
    people.take_back(ben.id)
    assert counted()[1:] == (20,) * 4
    assert len(frames_app.ballots(ledger, ben.annotator_id)) == 11
    check_tally(ledger)
    with pytest.raises(UserError, match="reason: write 1 to"):
        people.set_aside(ben.id, " ")
    with pytest.raises(UserError, match="no member 99"):
        people.set_aside(99, "x")


def test_members_of_one_name_are_two_annotators(people: People) -> None:
    first, again = people.ensure_member("x@a", "Kim", "voter"), people.ensure_member("x@a", "Other", "admin")
    second = people.ensure_member("x@b", "Kim", "voter")
    assert first == again and first.name == "Kim" and first.role == "voter"
    assert first.annotator_id != second.annotator_id
    people.set_role(first.id, "analyst")
    assert people.ensure_member("x@a", "Kim", "voter").role == "analyst"
    assert people.member_of("x@c") is None
    with pytest.raises(UserError, match="name: write 1 to 80 characters, not 0"):
        people.ensure_member("x@d", "\n ", "voter")
    # What goes into exports has no addresses.
    with people.ledger.engine.connect() as connection:
        definitions = connection.exec_driver_sql("SELECT name, definition FROM annotator").all()
    assert "x@" not in str(definitions)


def test_invitation_makes_members_until_it_is_used_up(people: People) -> None:
    campaign = people.add_campaign("first")
    number, token = people.invite("analyst", campaign, datetime.now(UTC) + timedelta(days=1), "team", max_uses=2)
    members = [people.redeem(token, name) for name in ("Ann", "Bo")]
    assert [member.role for member in members] == ["analyst", "analyst"]
    assert len({member.identity for member in members}) == 2
    assert people.member_of(members[0].identity) == members[0]
    with pytest.raises(UserError, match="used up"):
        people.redeem(token, "Cy")
    assert len(frames_app.members(people.ledger)) == 2
    people.revoke(number)
    found = people.member_of(members[0].identity)
    assert found is not None and found.revoked
    assert list(frames_app.invitations(people.ledger)["status"]) == ["revoked"]


def test_invitation_that_is_expired_revoked_or_unknown(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    number, token = people.invite("voter", max_uses=None)
    people.revoke(number)
    with pytest.raises(UserError, match="was revoked"):
        people.redeem(token, "Ann")
    for wrong in ("", token + "x", "\ud800", "x" * 10_000):
        with pytest.raises(UserError, match="not known here"):
            people.redeem(wrong, "Ann")
    _, token = people.invite("voter", expires_at=datetime.now(UTC) + timedelta(hours=1))
    later = (datetime.now(UTC) + timedelta(hours=2)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    with monkeypatch.context() as patch:
        patch.setattr(write_people, "now", lambda: later)
        with pytest.raises(UserError, match="expired at"):
            people.redeem(token, "Ann")
    with pytest.raises(UserError, match="name: write"):
        people.redeem(token, "")
    assert people.redeem(token, "Ann").name == "Ann"  # a refused name uses nothing up
    with pytest.raises(UserError, match="has passed"):
        people.invite("voter", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(UserError, match="uses of an invitation"):
        people.invite("voter", max_uses=0)


def test_token_is_long_and_nowhere_in_the_ledger(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with Ledger.open(str(path)) as ledger:
        tokens = [People(ledger).invite("voter", max_uses=None)[1] for _ in range(5)]
        People(ledger).redeem(tokens[0], "Ann")
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert len(set(tokens)) == 5
    for token in tokens:
        assert len(token) >= 43  # 32 bytes in base 64
        assert token.encode() not in stored


def test_members_are_listed_with_what_is_doubtful(people: People, battles: list[int]) -> None:
    members = [people.ensure_member(name, name, "voter") for name in ("ann", "ben", "dee", "eve")]
    for number, battle in enumerate(battles * 2):
        criterion = "overall" if number < 10 else "style"
        for member in members:
            winner = "model_b" if member.name == "eve" and criterion == "overall" else "model_a"
            seconds = 1.0 if member.name == "eve" else 20.0
            key = f"{member.name} {number}"
            people.vote(ballot(key, member, battle, winner, criterion=criterion, seconds=seconds))
    people.vote(ballot("again", members[0], battles[0], replicate=1, kind="repeat", seconds=20.0))
    found = frames_app.members(people.ledger).set_index("name")
    assert found.loc["ann", ["votes", "median_seconds", "agreement_n", "repeats"]].to_list() == [21, 20.0, 20, 1]
    assert found.loc["ann", "consistency"] == 1.0 and found.loc["ann", "doubts"] == ""
    assert found.loc["ann", "agreement"] == pytest.approx((2 / 3 + 1) / 2)
    assert found.loc["eve", "agreement"] == pytest.approx(0.5)
    assert "takes 1.0 seconds a vote" in found.loc["eve", "doubts"]
    empty = people.ensure_member("new", "new", "voter")
    (last,) = frames_app.members(people.ledger).to_dict("records")[-1:]
    assert last["member_id"] == empty.id and last["votes"] == 0 and last["doubts"] == ""
