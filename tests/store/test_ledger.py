"""Writes: identities, replaced failures, and roll-ups that are always exact."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from store_world import World, check_cells, check_tally, question

from evalkit.models.base import ModelSettings, Reply, RequestFailed, Sampling, request_key
from evalkit.store import BattleRow, GradeRow, Ledger, ResponseRow, ScoreRow, VerdictRow


def rows_of(ledger: Ledger, query: str) -> list[tuple[Any, ...]]:
    with ledger.engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


def cell(ledger: Ledger, run: int) -> dict[str, float]:
    with ledger.engine.connect() as connection:
        row = connection.execute(sa.text(f"SELECT * FROM run_cell WHERE run_id = {run}")).mappings().one()
        return {name: row[name] for name in ("n", "errors", "cached", "unpriced", "completion_tokens", "cost")}


def test_models_are_identified_by_their_settings(ledger: Ledger) -> None:
    cold = ModelSettings("openai", "m", sampling=Sampling(temperature=0.0))
    warm = replace(cold, sampling=Sampling(temperature=1.0))
    first, second, again = ledger.add_models([cold, warm, replace(cold, label="renamed")])
    assert first == again != second
    assert ledger.add_models([warm, cold]) == [second, first]
    ledger.add_models([replace(cold, label="Cold")])
    assert rows_of(ledger, "SELECT label FROM model ORDER BY id") == [("Cold",), ("",)]


def test_dataset_is_identified_by_name_and_items(ledger: Ledger) -> None:
    items = [question(0), question(1), question(0)]
    dataset, ids = ledger.add_dataset("d", items)
    assert ids[0] == ids[2] != ids[1]
    assert ledger.add_dataset("d", items) == (dataset, ids)
    other, reversed_ids = ledger.add_dataset("d", items[1::-1])
    assert other != dataset
    assert reversed_ids == ids[1::-1]
    assert ledger.add_dataset("e", items)[0] not in (dataset, other)
    assert rows_of(ledger, "SELECT count(*) FROM item") == [(2,)]


def test_run_is_resumed_by_its_plan(ledger: Ledger) -> None:
    def start(**changes: Any) -> int:
        given: dict[str, Any] = {"plan": {"a": 1}, "seed": 0, "environment": {}, "resume": True} | changes
        return ledger.start_run("r", given.pop("plan"), **given)

    first = start()
    ledger.update_run(first, stage="judge", done=3, total=9, errors=1)
    ledger.finish_run(first, "failed", "one request failed")
    assert ledger.find_run("r", {"a": 1}, seed=0) == (first, "failed")
    assert start() == first
    found = rows_of(ledger, "SELECT status, stage, done, total, errors, message, finished_at FROM run")
    assert found == [("running", "judge", 3, 9, 1, "", None)]
    assert len({first, start(plan={"a": 2}), start(seed=1), start(resume=False)}) == 4
    with pytest.raises(KeyError):
        ledger.update_run(99, done=1)


def test_stored_reply_comes_back_as_it_was(world: World) -> None:
    reply = Reply(
        text='Grüße, 你好 "quoted"\n\x00 half a pair: \ud83d',
        reasoning="hm\x00",
        tool_calls=({"id": "1", "function": {"name": "f", "arguments": "{}"}},),
        finish_reason="tool_calls",
        logprobs=[[-1.5, True], [-2.0, False]],
        prompt_tokens=1,
        completion_tokens=2,
        cached_tokens=0,
        seconds=0.125,
        served_by="served",
        warnings=("the endpoint ignored seed",),
    )
    row = world.row(0, outcome=reply)
    (response,) = world.ledger.add_responses(world.run, [row])
    found = world.ledger.find_responses([row.request_key, request_key("absent")])
    assert list(found) == [row.request_key]
    stored = found[row.request_key]
    assert (stored.id, stored.item_id, stored.cost) == (response, world.items[0], 0.5)
    # What no database holds as text is replaced, and only that.
    clean = 'Grüße, 你好 "quoted"\n\ufffd half a pair: \ufffd'
    assert stored.reply == replace(reply, text=clean, reasoning="hm\ufffd")


def test_failures_are_rows_but_never_cache_hits(world: World) -> None:
    row = world.row(0, error="server")
    world.ledger.add_responses(world.run, [row])
    assert world.ledger.find_responses([row.request_key]) == {}
    assert rows_of(world.ledger, "SELECT error_kind, error, text FROM response") == [("server", "it broke", None)]
    assert cell(world.ledger, world.run) | {"n": 1, "errors": 1, "cost": 0} == cell(world.ledger, world.run)


def test_repeated_write_changes_nothing(world: World) -> None:
    rows = [world.row(i) for i in range(5)]
    ids = world.ledger.add_responses(world.run, rows)
    before = rows_of(world.ledger, "SELECT * FROM run_cell")
    assert world.ledger.add_responses(world.run, rows) == ids
    assert world.ledger.add_responses(world.run, [world.row(5), *rows[::-1]])[1:] == ids[::-1]
    links = [(i, world.models[0], world.dataset) for i in ids]
    world.ledger.link_responses(world.run, links + links)
    assert rows_of(world.ledger, "SELECT count(*) FROM response") == [(6,)]
    assert cell(world.ledger, world.run)["n"] == before[0][3] + 1
    assert cell(world.ledger, world.run)["cached"] == 0
    check_cells(world.ledger)


def test_two_models_and_two_items_never_share_a_row(world: World) -> None:
    rows = [world.row(0, body="same"), world.row(1, body="same"), world.row(0, 1, body="same")]
    assert len(set(world.ledger.add_responses(world.run, rows))) == 3
    check_cells(world.ledger)


def test_failure_is_replaced_by_a_later_success(world: World) -> None:
    ledger, run = world.ledger, world.run
    (first,) = ledger.add_responses(run, [world.row(0, error="timeout", attempts=3, cost=0.25)])
    (same,) = ledger.add_responses(run, [world.row(0, attempts=2)])
    assert same == first
    found = rows_of(ledger, "SELECT error_kind, error, text, attempts, cost FROM response")
    assert found == [(None, None, "answer 0", 5, 0.75)]
    assert cell(ledger, run) == {"n": 1, "errors": 0, "cached": 0, "unpriced": 0, "completion_tokens": 5, "cost": 0.75}
    # A success is never replaced.
    ledger.add_responses(run, [world.row(0, error="server"), world.row(0, outcome=Reply("another"))])
    assert rows_of(ledger, "SELECT text, attempts FROM response") == [("answer 0", 5)]
    check_cells(ledger)


def test_answer_found_by_a_later_run_mends_the_earlier_one_and_is_paid_once(world: World) -> None:
    ledger = world.ledger
    _, answer = ledger.add_responses(world.run, [world.row(0, error="server"), world.row(1)])
    later = ledger.start_run("later", {}, seed=0, environment={})
    ids = ledger.add_responses(later, [world.row(0)])
    ledger.link_responses(later, [(i, world.models[0], world.dataset) for i in (*ids, answer)])
    assert cell(ledger, world.run) | {"n": 2, "errors": 0, "cached": 1, "cost": 0.5} == cell(ledger, world.run)
    assert cell(ledger, later) | {"n": 2, "errors": 0, "cached": 1, "cost": 0.5} == cell(ledger, later)
    check_cells(ledger)


def test_copies_of_cached_answers_cost_nothing(world: World) -> None:
    world.ledger.add_responses(world.run, [world.row(0), world.row(1, attempts=0, cost=0.0)])
    found = cell(world.ledger, world.run)
    assert found == {"n": 2, "errors": 0, "cached": 1, "unpriced": 0, "completion_tokens": 5, "cost": 0.5}
    check_cells(world.ledger)


def test_repeats_within_a_batch_and_items_of_two_datasets(world: World) -> None:
    ledger = world.ledger
    other, items = ledger.add_dataset("other", [question(0)])
    assert items == world.items[:1]
    rows = [world.row(0, error="server"), world.row(0), world.row(0, dataset=other), world.row(1), world.row(1)]
    ids = ledger.add_responses(world.run, rows)
    assert ids == [ids[0]] * 3 + [ids[3]] * 2
    found = rows_of(ledger, "SELECT dataset_id, n, errors, cached FROM run_cell ORDER BY 1")
    assert found == [(world.dataset, 2, 0, 0), (other, 1, 0, 1)]
    check_cells(ledger)


@pytest.mark.parametrize("seed", range(3))
def test_cells_stay_exact_under_any_history(world: World, seed: int) -> None:
    rng = random.Random(seed)
    ledger = world.ledger
    runs = [world.run, ledger.start_run("two", {}, seed=0, environment={})]
    datasets = [world.dataset, ledger.add_dataset("other", [question(i) for i in range(10)])[0]]
    stored: dict[int, int] = {}
    for _ in range(15):
        run, dataset = rng.choice(runs), rng.choice(datasets)
        rows = [
            world.row(
                rng.randrange(10),
                rng.randrange(2),
                dataset=dataset,
                error=rng.choice([None, "server", "empty"]),
                attempts=rng.choice([0, 1, 4]),
                cost=rng.choice([None, 0.25]),
            )
            for _ in range(rng.randrange(1, 8))
        ]
        stored.update(zip(ledger.add_responses(run, rows), (row.model_id for row in rows), strict=True))
        linked = rng.sample(sorted(stored), min(3, len(stored)))
        ledger.link_responses(rng.choice(runs), [(i, stored[i], dataset) for i in linked])
        check_cells(ledger)


def test_cache_tells_keys_with_a_common_beginning_apart(world: World) -> None:
    first = world.row(0)
    twin = first.request_key[:16] + "0" * 48
    world.ledger.add_responses(world.run, [first, replace(world.row(1), request_key=twin)])
    found = world.ledger.find_responses([first.request_key, twin, first.request_key[:17] + "1" * 47])
    assert {key: stored.item_id for key, stored in found.items()} == {
        first.request_key: world.items[0],
        twin: world.items[1],
    }


def test_cache_finds_thousands_at_once(ledger: Ledger) -> None:
    world = World(ledger, 1300)
    rows = [world.row(i) for i in range(1300)]
    world.ledger.add_responses(world.run, rows)
    found = ledger.find_responses([row.request_key for row in rows])
    assert [found[row.request_key].reply.text for row in rows] == [f"answer {i}" for i in range(1300)]


def test_grade_errors_are_replaced_and_values_are_kept(world: World) -> None:
    ledger = world.ledger
    first, second = world.ledger.add_responses(world.run, [world.row(0), world.row(1)])
    metric = ledger.add_annotator("metric", "exact_match", {"version": 1})
    assert ledger.add_annotator("metric", "exact_match", {"version": 1}) == metric
    assert ledger.add_annotator("metric", "exact_match", {"version": 2}) != metric
    ledger.add_grades([GradeRow(first, metric, "c", 1.0), GradeRow(second, metric, "c", None, "no answer found")])
    ledger.add_grades([GradeRow(first, metric, "c", 0.0), GradeRow(second, metric, "c", 0.5, detail={"by": "hand"})])
    ledger.add_grades([GradeRow(first, metric, "d", math.nan)])
    found = rows_of(ledger, "SELECT criterion, value, error FROM grade ORDER BY criterion, response_id")
    assert found == [("c", 1.0, None), ("c", 0.5, None), ("d", None, "the value nan is not a finite number")]
    with pytest.raises(ValueError, match="either a value or an error"):
        ledger.add_grades([GradeRow(first, metric, "e", None)])


def test_battle_is_an_unordered_pair(world: World) -> None:
    ledger, (a, b), item = world.ledger, world.models, world.items[0]
    first, second = ledger.add_responses(world.run, [world.row(0), world.row(0, 1)])
    ids = ledger.add_battles(
        [
            BattleRow(item, a, b),
            BattleRow(item, b, a),
            BattleRow(item, a, b, turn=2),
            BattleRow(item, a, b, first, second),
            BattleRow(item, b, a, second, first),
        ]
    )
    assert ids[0] == ids[1] and ids[3] == ids[4] and len(set(ids)) == 3
    assert ledger.add_battles([BattleRow(item, b, a, second, first), BattleRow(item, b, a)]) == [ids[3], ids[0]]
    found = rows_of(ledger, "SELECT model_a_id, model_b_id, response_a_id FROM battle ORDER BY id")
    assert found == [(a, b, None), (a, b, None), (a, b, first)]
    with pytest.raises(ValueError, match="two models"):
        ledger.add_battles([BattleRow(item, a, a)])


def test_both_orders_make_one_outcome(world: World) -> None:
    ledger, (a, b) = world.ledger, world.models
    judge = ledger.add_annotator("judge", "j", {})
    battles = ledger.add_battles([BattleRow(item, a, b) for item in world.items[:5]])

    def said(battle: int, order: Any, winner: Any, replicate: int = 0) -> VerdictRow:
        error = None if winner else "no verdict in the answer"
        return VerdictRow(battles[battle], judge, order, winner, replicate=replicate, error=error)

    assert ledger.add_verdicts(None, [said(0, "ab", "model_a"), said(0, "ba", "model_a")]) == 2
    assert ledger.add_verdicts(None, [said(1, "ab", "model_a")]) == 1
    assert ledger.add_verdicts(None, [said(1, "ba", "model_b"), said(2, "ab", None), said(2, "ba", None)]) == 3
    counts = "SELECT wins_a, wins_b, ties, both_bad, errors FROM tally"
    assert rows_of(ledger, counts) == [(1, 0, 1, 0, 2)]
    # A repeated verdict is a no-op, a failed one is replaced.
    assert ledger.add_verdicts(None, [said(0, "ab", "model_b"), said(2, "ab", "both_bad")]) == 1
    assert rows_of(ledger, counts) == [(1, 0, 1, 1, 1)]
    check_tally(ledger)
    # Replicates are outcomes of their own.
    ledger.add_verdicts(None, [said(3, "ab", "model_b", 0), said(3, "ab", "model_b", 1), said(3, "ba", "tie", 1)])
    assert rows_of(ledger, counts) == [(1, 1, 2, 1, 1)]
    check_tally(ledger)


@pytest.mark.parametrize("seed", range(3))
def test_tally_stays_exact_under_any_history(world: World, seed: int) -> None:
    rng = random.Random(seed)
    ledger, (a, b) = world.ledger, world.models
    judges = [ledger.add_annotator("judge", f"j{i}", {}) for i in range(2)]
    battles = ledger.add_battles([BattleRow(item, a, b, turn=turn) for item in world.items for turn in (1, 2)])
    for _ in range(12):
        rows = []
        for _ in range(rng.randrange(1, 30)):
            winner: Any = rng.choice(["model_a", "model_b", "tie", "both_bad", None, None])
            order: Any = rng.choice(["ab", "ba"])
            error = None if winner else "unparsed"
            where = (rng.choice(battles), rng.choice(judges), order, winner)
            rows.append(VerdictRow(*where, criterion=rng.choice("xy"), replicate=rng.randrange(2), error=error))
        ledger.add_verdicts(world.run, rows)
        check_tally(ledger)


def test_verdict_without_sense_is_refused_whole(world: World) -> None:
    ledger, (a, b) = world.ledger, world.models
    judge = ledger.add_annotator("judge", "j", {})
    (battle,) = ledger.add_battles([BattleRow(world.items[0], a, b)])
    good = VerdictRow(battle, judge, "ab", "model_a")
    for bad in (replace(good, order="ba", winner=None), replace(good, order="ba", probability=1.5)):
        with pytest.raises(ValueError):
            ledger.add_verdicts(None, [good, bad])
    assert rows_of(ledger, "SELECT count(*) FROM verdict") == [(0,)]
    assert rows_of(ledger, "SELECT count(*) FROM tally") == [(0,)]


def test_scores_are_set_not_added(world: World) -> None:
    row = ScoreRow(world.models[0], world.dataset, "acc", 0.5, math.nan, 10, errors=2)
    world.ledger.set_scores(world.run, [row])
    world.ledger.set_scores(world.run, [replace(row, value=0.75, errors=0)])
    assert rows_of(world.ledger, "SELECT value, stderr, n, errors FROM score") == [(0.75, None, 10, 0)]


def test_failing_batch_leaves_nothing_behind(world: World) -> None:
    orphan = ResponseRow(world.models[0], 999, world.dataset, request_key("x"), "x", RequestFailed("server", "x"))
    with pytest.raises(sa.exc.IntegrityError):
        world.ledger.add_responses(world.run, [world.row(0), orphan])
    assert rows_of(world.ledger, "SELECT count(*) FROM response") == [(0,)]
    assert rows_of(world.ledger, "SELECT count(*) FROM run_cell") == [(0,)]
    world.ledger.add_responses(world.run, [world.row(0)])
    check_cells(world.ledger)


@pytest.mark.parametrize("field", ["model_id", "item_id", "dataset_id"])
def test_row_without_its_item_is_found_in_a_large_batch_too(world: World, field: str) -> None:
    rows = [world.row(0, body=str(i)) for i in range(300)]
    wrong: dict[str, Any] = {field: 999}
    with pytest.raises(sa.exc.IntegrityError):
        world.ledger.add_responses(world.run, [*rows, replace(world.row(1), **wrong)])
    with pytest.raises(sa.exc.IntegrityError):
        world.ledger.add_responses(world.run, [world.row(0, body="few"), replace(world.row(1), **wrong)])
    assert rows_of(world.ledger, "SELECT count(*) FROM response") == [(0,)]
    world.ledger.add_responses(world.run, rows)
    with pytest.raises(sa.exc.IntegrityError), world.ledger.write() as connection:  # the check of each row is back
        connection.execute(sa.text("INSERT INTO model_parent VALUES (998, 999, 'trained_from')"))
    check_cells(world.ledger)


def test_large_batch_of_all_kinds_of_rows(world: World) -> None:
    other, _ = world.ledger.add_dataset("other", [question(i) for i in range(10)])
    rng = random.Random(0)
    rows: list[ResponseRow] = []
    for i in range(400):
        kind = rng.choice(["plain", "reasoned", "failed", "again"])
        changes: dict[str, Any] = {"body": f"b{i}", "dataset": rng.choice([world.dataset, other])}
        if kind == "again" and rows:
            changes["body"] = rng.choice(rows).body
        if kind == "reasoned":
            changes["outcome"] = Reply(f"answer {i}", reasoning="because", logprobs=[[-1.0, True]])
        rows.append(world.row(0, error="server" if kind == "failed" else None, **changes))
    ids = world.ledger.add_responses(world.run, rows)
    stored = rows_of(world.ledger, "SELECT id, request_key, text, reasoning FROM response")
    by_key = {key: (response_id, text, reasoning) for response_id, key, text, reasoning in stored}
    assert [by_key[row.request_key][0] for row in rows] == ids
    answers: dict[str, Reply] = {}
    for row in rows:
        if isinstance(row.outcome, Reply):
            answers.setdefault(row.request_key, row.outcome)
    assert {key: text for key, (_, text, _) in by_key.items() if text} == {k: r.text for k, r in answers.items()}
    assert {key: why for key, (_, _, why) in by_key.items() if why} == {
        k: r.reasoning for k, r in answers.items() if r.reasoning
    }
    check_cells(world.ledger)
