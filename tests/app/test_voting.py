"""The queue of a voter: what is asked, what a vote means, and that no vote is lost or counted twice."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest
from postgres_server import fresh as fresh_place
from postgres_server import postgres as postgres

from app.voting import EVERYTHING, Pair, Queue, _shared
from app.voting_pool import PLANNED, Pool, Settings
from evalkit.errors import UserError
from evalkit.models.base import ModelSettings, Reply, RequestFailed, request_key
from evalkit.stats import count_votes, next_battles
from evalkit.store import GradeRow, Item, Ledger, ResponseRow, VerdictRow, frames
from evalkit.store import voting as reads
from evalkit.store.ledger_app import People
from evalkit.store.voting import CampaignRow

MODELS = 3
ITEMS = 4


class World:
    """Three models' answers to four questions: 12 battles."""

    def __init__(self, store: str, models: int = MODELS, items: int = ITEMS) -> None:
        self.ledger = Ledger.open(store)
        self.people = People(self.ledger)
        self.models = self.ledger.add_models([ModelSettings("openai", f"m{i}", label=f"m{i}") for i in range(models)])
        questions = [Item(({"role": "user", "content": f"question {i}"},), name=f"q{i}") for i in range(items)]
        self.dataset, self.items = self.ledger.add_dataset("d", questions, "test")
        self.run = self.ledger.start_run("r", {}, seed=0, environment={})
        rows = [self.row(item, model) for item in range(items) for model in range(models)]
        self.responses = self.ledger.add_responses(self.run, rows)
        self.pools: list[Pool] = []

    def row(self, item: int, model: int, text: str | None = "") -> ResponseRow:
        body = f'{{"item":{item},"model":{model}}}'
        answer = Reply(text or f"answer {item} of m{model}", finish_reason="stop")
        outcome = answer if text is not None else RequestFailed("timeout", "it broke")
        return ResponseRow(self.models[model], self.items[item], self.dataset, request_key(body), body, outcome)

    def pool(self, **settings: Any) -> Pool:
        pool = Pool(self.ledger, self.campaign(**settings))
        self.pools.append(pool)
        return pool

    def campaign(self, **settings: Any) -> CampaignRow:
        count = len(self.pools)
        key = self.people.add_campaign(f"c{count}", settings=settings)
        return CampaignRow(key, f"c{count}", settings=settings)

    def voter(self, name: str, pool: Pool) -> Queue:
        return Queue(pool, self.people, self.people.ensure_member(name, name, "voter").annotator_id)


ON_BOTH = pytest.mark.parametrize("make", ["sqlite", "postgresql"], indirect=True)
"""What a database may do otherwise: transactions, undo, votes at once."""


@pytest.fixture
def make(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Callable[..., World]]:
    made: list[World] = []
    store = str(tmp_path / "ledger.db")
    if getattr(request, "param", "sqlite") == "postgresql":
        store = fresh_place(request.getfixturevalue("postgres"), f"t{abs(hash(request.node.nodeid)):x}")

    def world(**size: int) -> World:
        made.append(World(store, **size))
        return made[-1]

    yield world
    for one in made:
        for pool in one.pools:
            pool.close()
        one.ledger.close()


@pytest.fixture
def world(make: Callable[..., World]) -> World:
    return make()


def key(pair: Pair) -> tuple[Any, ...]:
    return (pair.battle.models, pair.battle.place)


def vote_all(queue: Queue, choice: Any = "left", most: int = 100) -> list[Pair]:
    seen: list[Pair] = []
    while (pair := queue.next()) is not None and len(seen) < most:
        assert queue.cast(pair.ballot_key, choice, seconds=3.0).status == "stored"
        seen.append(pair)
    return seen


def test_a_voter_is_asked_every_battle_once_and_then_thanked(world: World) -> None:
    queue = world.voter("ann", world.pool(repeat_share=0))
    assert queue.progress().left == 12
    seen = vote_all(queue)
    assert len(seen) == len({key(pair) for pair in seen}) == 12
    assert queue.next() is None
    assert (queue.progress().done, queue.progress().left, queue.progress().pace) == (12, 0, 3.0)
    verdicts = frames.verdicts(world.ledger, limit=None)
    assert len(verdicts) == 12


@ON_BOTH
def test_a_vote_is_the_winner_whichever_side_it_was_on(world: World) -> None:
    queue = world.voter("ann", world.pool(repeat_share=0))
    pair = queue.next()
    assert pair is not None
    others = [pair]
    orders = {pair.order}
    for _ in range(11):
        queue.cast(pair.ballot_key, "right", seconds=2.0)
        pair = queue.next()
        assert pair is not None
        others.append(pair)
        orders.add(pair.order)
    assert orders == {"ab", "ba"}
    stored = {vote.battle_id: vote for vote in reads.votes(world.ledger, queue.pool.campaign.id)}
    names = queue.pool.names
    for one in others[:-1]:
        vote = stored[one.battle_id]
        won = vote.model_a_id if vote.winner == "model_a" else vote.model_b_id
        assert names[won] == one.sides(names)[1]
        assert one.right[-1][1] == f"answer {world.items.index(one.battle.place[0])} of {names[won]}"
    assert others[0].winner("tie") == "tie"
    assert others[0].winner("both_bad") == "both_bad"
    assert others[0].winner("skip") is None


def test_sides_are_swapped_by_the_seed_and_the_voter(make: Callable[..., World]) -> None:
    world = make(models=4, items=10)
    pool = world.pool(repeat_share=0, votes_per_pair=3)
    first, second = (vote_all(world.voter(name, pool)) for name in ("ann", "bob"))
    orders = {key(pair): pair.order for pair in first}
    other = {key(pair): pair.order for pair in second}
    assert 15 <= sum(order == "ab" for order in orders.values()) <= 45
    assert any(orders[one] != other[one] for one in orders)


@ON_BOTH
def test_the_same_press_again_is_no_second_vote(world: World) -> None:
    queue = world.voter("ann", world.pool(repeat_share=0))
    pair = queue.next()
    assert pair is not None
    assert queue.cast(pair.ballot_key, "left", seconds=2.0).status == "stored"
    again = queue.cast(pair.ballot_key, "right", seconds=2.0)
    assert (again.status, again.pair) == ("repeated", None)
    assert queue.progress().done == 1
    (vote,) = reads.votes(world.ledger, queue.pool.campaign.id)
    assert vote.winner == pair.winner("left")


def test_a_double_click_does_not_vote_on_the_next_pair(world: World) -> None:
    queue = world.voter("ann", world.pool(repeat_share=0))
    first = queue.next()
    assert first is not None
    queue.cast(first.ballot_key, "left", seconds=2.0)
    second = queue.next()
    assert second is not None
    for _ in range(3):  # a second click at once, or a key held down
        assert queue.cast(second.ballot_key, "left").status == "early"
    assert queue.next() == second
    assert queue.progress().done == 1


def test_a_key_held_down_is_one_vote(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("app.voting.time.monotonic", lambda: clock[0])
    queue = world.voter("ann", world.pool(repeat_share=0))
    shown = queue.next()
    for press in range(60):  # thirty a second; the screen follows after a while
        clock[0] += 1.0 if press == 0 else 1 / 30
        assert shown is not None
        queue.cast(shown.ballot_key, "left")
        shown = queue.next() if press > 20 else shown
    assert queue.progress().done == 1
    clock[0] += 2.0
    assert shown is not None
    assert queue.cast(shown.ballot_key, "left").status == "stored"


@ON_BOTH
def test_a_reload_and_a_second_tab_show_the_same_pair(world: World) -> None:
    pool = world.pool(repeat_share=0)
    queue = world.voter("ann", pool)
    pair = queue.next()
    assert queue.next() == pair
    # The app was ended and started anew: the vote is known from the ledger, nothing is asked twice.
    assert pair is not None
    queue.cast(pair.ballot_key, "left", seconds=2.0)
    fresh = world.voter("ann", Pool(world.ledger, pool.campaign))
    assert fresh.progress().done == 1
    assert key(pair) not in {key(one) for one in vote_all(fresh)}
    assert fresh.progress().done == 12
    # A tab from before the restart votes again on what is done: known as the same.
    late = queue.next()
    assert late is not None
    assert queue.cast(late.ballot_key, "right", seconds=2.0).status == "repeated"
    assert Counter(vote.battle_id for vote in reads.votes(world.ledger, pool.campaign.id)).most_common(1)[0][1] == 1
    fresh.pool.close()


@ON_BOTH
def test_undo_takes_the_vote_out_and_asks_again(world: World) -> None:
    queue = world.voter("ann", world.pool(repeat_share=0))
    first = queue.next()
    assert first is not None
    queue.cast(first.ballot_key, "left", seconds=2.0)
    waiting = queue.next()
    assert queue.undo(first.ballot_key) is not None
    again = queue.next()
    assert again is not None
    assert waiting is not None
    assert (key(again), again.order, again.battle_id) == (key(first), first.order, first.battle_id)
    assert again.ballot_key != first.ballot_key
    assert frames.verdicts(world.ledger, limit=None).empty
    # The vote that was undone, sent once more from an old tab, stays undone.
    assert queue.cast(first.ballot_key, "left", seconds=2.0).status == "repeated"
    assert queue.cast(again.ballot_key, "right", seconds=2.0).status == "stored"
    assert queue.next() == waiting
    (vote,) = reads.votes(world.ledger, queue.pool.campaign.id)
    assert vote.winner == again.winner("right")


@ON_BOTH
def test_undo_goes_back_through_several_votes_and_over_a_restart(world: World) -> None:
    pool = world.pool(repeat_share=0)
    seen = vote_all(world.voter("ann", pool), most=3)
    fresh = world.voter("ann", Pool(world.ledger, pool.campaign))
    for pair in reversed(seen):
        last = fresh.last()
        assert last is not None
        undone = fresh.undo(last)
        assert fresh.undo(last) is None, "one key is one vote, however often it is heard"
        assert undone is not None
        assert (key(undone), undone.left, undone.right) == (key(pair), pair.left, pair.right)
    assert fresh.last() is None
    assert frames.verdicts(world.ledger, limit=None).empty
    fresh.pool.close()


def test_a_skipped_pair_counts_nothing_and_is_not_asked_again(world: World) -> None:
    queue = world.voter("ann", world.pool(repeat_share=0))
    seen = vote_all(queue, "skip")
    assert len({key(pair) for pair in seen}) == 12
    progress = queue.progress()
    assert (progress.done, progress.skipped, progress.left) == (0, 12, 0)
    assert frames.verdicts(world.ledger, limit=None).empty
    assert len(vote_all(world.voter("bob", queue.pool))) == 12


def test_no_two_voters_get_the_same_battle_at_once(world: World) -> None:
    pool = world.pool(repeat_share=0)
    queues = [world.voter(f"v{i}", pool) for i in range(4)]
    shown = [queue.next() for queue in queues]
    assert len({key(pair) for pair in shown if pair}) == 4
    while any(pairs := [queue.next() for queue in queues]):
        waiting = [key(pair) for pair in pairs if pair]
        assert len(set(waiting)) == len(waiting)
        for queue, pair in zip(queues, pairs, strict=True):
            if pair:
                queue.cast(pair.ballot_key, "tie", seconds=2.0)
    per_battle = Counter(vote.battle_id for vote in reads.votes(world.ledger, pool.campaign.id))
    assert set(per_battle.values()) == {1}
    assert len(per_battle) == 12


def test_votes_per_pair_asks_so_many_people(world: World) -> None:
    pool = world.pool(repeat_share=0, votes_per_pair=2)
    counts = [len(vote_all(world.voter(f"v{i}", pool))) for i in range(3)]
    assert counts == [12, 12, 0]


def test_repeats_come_later_swapped_and_marked(make: Callable[..., World]) -> None:
    world = make(models=4, items=10)
    queue = world.voter("ann", world.pool(repeat_share=0.3))
    seen = vote_all(queue, most=60)
    repeats = [(place, pair) for place, pair in enumerate(seen) if pair.kind == "repeat"]
    assert 8 <= len(repeats) <= 30
    for place, pair in repeats:
        (first,) = [at for at, one in enumerate(seen) if key(one) == key(pair) and one.kind == "queue"]
        assert place - first >= 5
        assert seen[first].order != pair.order
        assert pair.replicate == 1
    fresh = [key(pair) for pair in seen if pair.kind != "repeat"]
    assert len(set(fresh)) == len(fresh)


@ON_BOTH
def test_gold_pairs_are_those_a_metric_decides(make: Callable[..., World]) -> None:
    world = make(models=3, items=12)
    metric = world.ledger.add_annotator("metric", "exact_match", {})
    right = {response: int(n % 3 == 0) for n, response in enumerate(world.responses)}  # m0 is always right
    grades = [GradeRow(response, metric, "exact_match", float(value)) for response, value in right.items()]
    world.ledger.add_grades(grades)
    pool = world.pool(repeat_share=0, gold_share=0.5)
    pool.run(lambda: None).result()
    queue = world.voter("ann", pool)
    seen = vote_all(queue, most=30)
    gold = [pair for pair in seen if pair.kind == "gold"]
    assert 5 <= len(gold) <= 12
    for pair in gold:
        assert pool.names[pair.battle.models[0]] == "m0"
    lefts = sum(pair.order == "ab" for pair in gold)  # all were voted left: right where m0 stood there
    assert reads.gold_votes(world.ledger) == {queue.annotator_id: (lefts, len(gold))}


def test_answers_that_failed_and_items_of_one_model_are_not_asked(tmp_path: Any, make: Callable[..., World]) -> None:
    world = make(models=2, items=3)
    lone = Item(({"role": "user", "content": "lone"},), name="lone")
    dataset, (item,) = world.ledger.add_dataset("e", [lone], "test")
    body = '{"lone":1}'
    outcome = Reply("only one", finish_reason="stop")
    row = ResponseRow(world.models[0], item, dataset, request_key(body), body, outcome)
    failed = '{"lone":2}'
    error = RequestFailed("timeout", "it broke")
    world.ledger.add_responses(
        world.run, [row, ResponseRow(world.models[1], item, dataset, request_key(failed), failed, error)]
    )
    assert world.pool(repeat_share=0).total == 3
    assert world.pool(datasets=["e"]).total == 0
    assert world.voter("ann", world.pools[-1]).next() is None
    with pytest.raises(UserError, match="no dataset 'x'"):
        world.pool(datasets=["x"])


def test_the_plan_is_made_on_the_campaigns_votes_and_followed(make: Callable[..., World]) -> None:
    world = make(models=4, items=12)
    pool = world.pool(repeat_share=0)
    queue = world.voter("ann", pool)
    vote_all(world.voter("elsewhere", world.pool(repeat_share=0)), most=5)  # another campaign's say nothing here
    vote_all(queue, most=20)
    pool._plan()
    votes = reads.votes(world.ledger, pool.campaign.id)
    rows = [(str(vote.model_a_id), str(vote.model_b_id), vote.winner) for vote in votes]
    board = count_votes(pd.DataFrame(rows, columns=["model_a", "model_b", "winner"]))
    planned = next_battles(board, n=PLANNED, models=[str(model) for model in world.models], seed=20).proposals
    assert list(pool._proposals) == [tuple(sorted((int(a), int(b)))) for a, b in planned]
    first = pool._proposals[0]
    fresh = world.voter("bob", pool).next()
    assert fresh is not None
    assert fresh.battle.models == first


def test_a_set_aside_voters_battles_are_asked_again(world: World) -> None:
    pool = world.pool(repeat_share=0)
    vote_all(world.voter("bad", pool))
    member = world.people.member_of("bad")
    assert member is not None
    world.people.set_aside(member.id, "too quick")
    pool._plan()
    assert len(vote_all(world.voter("good", pool))) == 12


@ON_BOTH
def test_a_closed_campaign_takes_no_vote_and_loses_none(world: World) -> None:
    queue = world.voter("ann", world.pool(repeat_share=0))
    pair = queue.next()
    assert pair is not None
    assert queue.pool.campaign.id is not None
    world.people.set_campaign(queue.pool.campaign.id, status="closed")
    with pytest.raises(UserError, match="closed"):
        queue.cast(pair.ballot_key, "left", seconds=2.0)
    world.people.set_campaign(queue.pool.campaign.id, status="open")
    assert queue.cast(pair.ballot_key, "left", seconds=2.0).status == "stored"


def test_battles_of_judges_come_first_and_votes_outside_campaigns_work(world: World) -> None:
    from evalkit.store import BattleRow

    a, b = world.models[0], world.models[1]
    battle = BattleRow(world.items[2], a, b, world.responses[6], world.responses[7])
    (battle_id,) = world.ledger.add_battles([battle])
    judge = world.ledger.add_annotator("judge", "j", {})
    world.ledger.add_verdicts(world.run, [VerdictRow(battle_id, judge, "ab", "model_a")])
    pool = Pool(world.ledger, EVERYTHING)
    world.pools.append(pool)
    seen = vote_all(world.voter("ann", pool), most=3)
    assert battle_id in {pair.battle_id for pair in seen if pair.battle.models == (a, b)}
    assert len(reads.votes(world.ledger, None)) == 3


@ON_BOTH
def test_twenty_voters_at_once_lose_and_double_nothing(make: Callable[..., World]) -> None:
    world = make(models=4, items=20)
    pool = world.pool(repeat_share=0.1)
    queues = [world.voter(f"v{i}", pool) for i in range(20)]
    stored: list[str] = []

    def work(queue: Queue) -> None:
        for _ in range(8):
            pair = queue.next()
            if pair is None:
                return
            results = [queue.cast(pair.ballot_key, "left", seconds=1.0).status for _ in range(2)]
            assert results == ["stored", "repeated"]
            stored.append(pair.ballot_key)

    threads = [threading.Thread(target=work, args=(queue,)) for queue in queues]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    votes = reads.votes(world.ledger, pool.campaign.id)
    assert sorted(vote.key for vote in votes) == sorted(stored)
    fresh = Counter(vote.battle_id for vote in votes if vote.kind != "repeat")
    assert max(fresh.values()) == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"votes_per_pair": 0}, "whole number"),
        ({"gold_share": 0.9}, "between 0 and 0.5"),
        ({"repeat_share": "x"}, "between 0 and 0.5"),
        ({"policy": "best"}, "'next-battle' or 'uniform'"),
    ],
)
def test_settings_without_sense_are_said(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Settings.of(CampaignRow(1, "c", settings=settings))


def test_what_both_conversations_share_is_the_prompt() -> None:
    asked = (("user", "1"), ("assistant", "given"), ("user", "2"))
    prompt, a, b = _shared((*asked, ("assistant", "x")), (*asked, ("assistant", "y")))
    assert (prompt, a, b) == (asked, (("assistant", "x"),), (("assistant", "y"),))
    own = (("user", "1"), ("assistant", "x"), ("user", "2"), ("assistant", "z"))
    other = (("user", "1"), ("assistant", "y"), ("user", "2"), ("assistant", "z"))
    assert _shared(own, other) == (own[:1], own[1:], other[1:])
    assert _shared(own, own) == (own[:3], own[3:], own[3:])
