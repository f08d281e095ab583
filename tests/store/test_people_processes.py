"""Votes of several processes at once, and of processes that are killed while they vote."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sqlalchemy as sa
from store_world import World, check_tally

from evalkit.store import BattleRow, Ledger, frames_app, schema
from evalkit.store.ledger_app import BallotRow, People

HERE = Path(__file__).parent
ENV = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(schema.__file__).parents[2]), str(HERE)])}
STANDING = "SELECT count(*) FROM ballot WHERE undone_at IS NULL AND winner IS NOT NULL"
# One ballot that stands for each verdict of a member, with the same winner and order, and the other way round.
UNMATCHED = """
    SELECT (SELECT count(*) FROM ballot b LEFT JOIN verdict v ON v.id = b.verdict_id AND v.winner = b.winner
            AND v.order_shown = b.order_shown AND v.battle_id = b.battle_id AND v.annotator_id = b.annotator_id
            WHERE b.undone_at IS NULL AND b.winner IS NOT NULL AND v.id IS NULL)
         + (SELECT count(*) FROM verdict v LEFT JOIN ballot b ON b.verdict_id = v.id WHERE b.id IS NULL)
"""


def start(url: str, name: str, votes: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE / "vote_worker.py"), url, name, str(votes)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV)


def check(ledger: Ledger) -> None:
    check_tally(ledger)
    with ledger.engine.connect() as connection:
        assert connection.scalar(sa.text(UNMATCHED)) == 0
        assert connection.scalar(sa.text(STANDING)) == connection.scalar(sa.text("SELECT count(*) FROM verdict"))


def test_two_processes_of_one_member_and_one_of_another(url: str) -> None:
    # Kim votes in two browsers at once: whatever comes second is refused. The ledger does not exist yet.
    running = [start(url, name, 25) for name in ("kim", "kim", "lee")]
    outputs = [process.communicate(timeout=240) for process in running]
    for process, (_out, err) in zip(running, outputs, strict=True):
        assert process.returncode == 0, err
    with Ledger.open(url) as ledger:
        check(ledger)
        found = frames_app.ballots(ledger, limit=None)
        standing = found[found["undone_at"].isna()]
        members = frames_app.members(ledger).set_index("name")
        assert list(members.index.sort_values()) == ["kim", "lee"]
        for name in ("kim", "lee"):
            battles = standing[standing["annotator_id"] == members.loc[name, "annotator_id"]]["battle_id"]
            assert battles.nunique() == len(battles) == 25
        stored = [line.rpartition(" ")[0] for out, _ in outputs for line in out.splitlines() if line.endswith("stored")]
        assert sorted(stored) == sorted(found["key"])  # each key was stored by one process only


def test_double_clicks_of_many_threads_store_one_vote(world: World) -> None:
    people = People(world.ledger)
    member = people.ensure_member("local", "me", "admin")
    battles = world.ledger.add_battles([BattleRow(item, *world.models) for item in world.items])
    rows = [BallotRow(str(battle), None, member.annotator_id, battle, "ab", "tie") for battle in battles] * 8
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(people.vote, rows))
    assert [result.status for result in results].count("stored") == len(battles)
    with ThreadPoolExecutor(8) as pool:
        undone = list(pool.map(people.undo, [str(battle) for battle in battles] * 4))
    assert [result.status for result in undone].count("stored") == len(battles)
    check(world.ledger)


def test_kill_in_the_middle_of_votes_loses_none_and_doubles_none(url: str) -> None:
    printed: list[str] = []
    for number in range(2):
        process = start(url, "kim", 100_000)  # each begins again with the votes of the one before
        assert process.stdout is not None
        printed += [process.stdout.readline() for _ in range(8 + 24 * number)]
        time.sleep(0.02 * number)
        process.kill()
        printed += process.communicate()[0].splitlines(keepends=True)
        with Ledger.open(url) as ledger:
            check(ledger)
    acknowledged = {line.rpartition(" ")[0] for line in printed if line.endswith(" stored\n")}
    with Ledger.open(url) as ledger:
        keys = set(frames_app.ballots(ledger, limit=None)["key"])
    assert len(acknowledged) > 20
    assert acknowledged <= keys and len(keys - acknowledged) <= 4  # at most the last of each, and its second try
