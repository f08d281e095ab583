"""Reads: what the frames hold, and pages that lose and repeat nothing."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pandas as pd
import pytest
from store_world import World, question

from evalkit.errors import UserError
from evalkit.models.base import ModelSettings
from evalkit.store import BattleRow, GradeRow, Ledger, ScoreRow, VerdictRow, frames

TEXTS = {"text", "reasoning", "body", "messages", "rationale", "prompt", "logprobs", "system"}
OUTCOMES = ["wins_a", "wins_b", "ties", "both_bad", "errors"]


def pages(world: World, size: int, by_id: bool, **filters: Any) -> list[int]:
    found: list[int] = []
    after: Any = None
    for _ in range(1000):
        page = frames.responses(world.ledger, world.run, after=after, limit=size, **filters)
        found += list(page.response_id)
        if page.attrs["next"] is None:
            return found
        after = int(page.response_id.iloc[-1]) if by_id else page.attrs["next"]
    raise AssertionError("the pages do not end")


@pytest.fixture
def crowded(ledger: Ledger) -> World:
    """Two models on two datasets, failures here and there."""
    world = World(ledger)
    other, _ = ledger.add_dataset("other", [question(i + 50) for i in range(10)])
    world.items += ledger.add_dataset("other", [question(i + 50) for i in range(10)])[1]
    rng = random.Random(0)
    places = [(item, model) for item in range(20) for model in range(2)]
    rng.shuffle(places)
    rows = [
        world.row(item, model, dataset=other if item >= 10 else None, error="server" if rng.random() < 0.3 else None)
        for item, model in places
    ]
    ledger.add_responses(world.run, rows)
    return world


@pytest.mark.parametrize("size", [1, 3, 40, 100])
@pytest.mark.parametrize("by_id", [True, False])
def test_pages_lose_and_repeat_nothing(crowded: World, size: int, by_id: bool) -> None:
    whole = frames.responses(crowded.ledger, crowded.run, limit=None)
    assert len(whole) == 40
    assert pages(crowded, size, by_id) == list(whole.response_id)
    for failed in (True, False):
        expected = whole[whole.error_kind.notna() == failed]
        assert pages(crowded, size, by_id, failed=failed) == list(expected.response_id)
        some = expected[(expected.model == "a") & (expected.dataset == "other")]
        assert pages(crowded, size, by_id, failed=failed, model="a", dataset="other") == list(some.response_id)
    assert 0 < whole.error_kind.notna().sum() < 40


def test_response_of_two_datasets_does_not_catch_the_pages_in_a_loop(world: World) -> None:
    other, _ = world.ledger.add_dataset("other", [question(i) for i in range(10)])
    ids = world.ledger.add_responses(world.run, [world.row(i) for i in range(5)])
    world.ledger.link_responses(world.run, [(i, world.models[0], other) for i in ids])
    assert pages(world, 2, by_id=False) == ids * 2
    assert set(pages(world, 2, by_id=True)) == set(ids)


def test_page_says_what_a_list_needs_and_no_texts(crowded: World) -> None:
    page = frames.responses(crowded.ledger, crowded.run, model="a", dataset="d", limit=1)
    assert TEXTS.isdisjoint(page.columns)
    row = page.iloc[0]
    assert (row.model, row.dataset, row["item"][0]) == ("a", "d", "q")
    assert list(frames.responses(crowded.ledger, crowded.run, texts=True, limit=1))[-2:] == ["text", "reasoning"]
    empty = frames.responses(crowded.ledger, 99)
    assert len(empty) == 0 and empty.attrs["next"] is None
    for wrong in ({"model": "nobody"}, {"dataset": "nothing"}, {"after": 999}):
        with pytest.raises(UserError, match=r"there is no|is not one of run"):
            frames.responses(crowded.ledger, crowded.run, **wrong)


def test_sample_has_everything(world: World) -> None:
    (response,) = world.ledger.add_responses(world.run, [world.row(3)])
    metric = world.ledger.add_annotator("metric", "exact", {})
    world.ledger.add_grades([GradeRow(response, metric, "c", 1.0, detail={"by": "hand"})])
    sample = frames.sample(world.ledger, response)
    assert sample["text"] == "answer 3" and sample["body"] == '{"item":3,"model":0}'
    assert sample["messages"] == [{"role": "user", "content": "question 3"}]
    assert (sample["reference"], sample["tags"]) == ({"answer": 3}, {"topic": "test"})
    assert sample["datasets"] == [{"dataset": "d", "item": "q3", "split": "test"}]
    assert sample["grades"][0]["value"] == 1.0 and sample["grades"][0]["detail"] == {"by": "hand"}
    with pytest.raises(UserError, match="there is no response 99"):
        frames.sample(world.ledger, 99)


def test_runs_add_up_their_cells(crowded: World) -> None:
    later = crowded.ledger.start_run("empty", {}, seed=1, environment={})
    runs = frames.runs(crowded.ledger)
    assert list(runs.run_id) == [later, crowded.run]
    assert runs.loc[0, ["n", "errors", "models", "cost"]].to_list() == [0, 0, 0, 0.0]
    cells = frames.run_cells(crowded.ledger, crowded.run)
    assert len(cells) == 4
    for name in ("n", "errors", "cached", "completion_tokens", "cost"):
        assert runs[name][1] == pytest.approx(cells[name].sum())
    assert runs.loc[1, ["models", "datasets", "n"]].to_list() == [2, 2, 40]
    assert list(frames.runs(crowded.ledger, limit=1).run_id) == [later]
    assert list(frames.runs(crowded.ledger, before=later).run_id) == [crowded.run]


def test_ids_of_a_table_are_asked_for_again(crowded: World) -> None:
    """They are NumPy's, which the driver would take for bytes."""
    [run] = frames.runs(crowded.ledger)["run_id"].unique()
    assert type(run) is np.int64
    assert len(frames.responses(crowded.ledger, run)) == len(frames.responses(crowded.ledger, int(run))) > 0


def test_models_of_the_same_name_are_told_apart(ledger: Ledger) -> None:
    settings = [ModelSettings("openai", "m", system=s) for s in (None, "be kind")]
    first, second = ledger.add_models(settings)
    ledger.add_models([ModelSettings("openai", "n", label="labelled")])
    assert list(frames.models(ledger).model) == [f"openai/m #{first}", f"openai/m #{second}", "labelled"]
    assert TEXTS.isdisjoint(frames.models(ledger).columns)


def test_scores_long_and_wide(world: World) -> None:
    a, b = world.models
    later = world.ledger.start_run("later", {}, seed=0, environment={})
    world.ledger.set_scores(
        world.run,
        [ScoreRow(a, world.dataset, "acc", 0.5, 0.1, 10), ScoreRow(b, world.dataset, "acc", None, None, 0, errors=10)],
    )
    world.ledger.set_scores(later, [ScoreRow(a, world.dataset, "acc", 0.75, 0.1, 10)])
    newest = frames.scores(world.ledger)
    assert list(zip(newest.model, newest.value.fillna(-1), newest.errors, strict=True)) == [
        ("a", 0.75, 0),
        ("openai/b", -1, 10),
    ]
    assert list(frames.scores(world.ledger, world.run).value.fillna(-1)) == [0.5, -1]
    wide = frames.scores(world.ledger, wide=True)
    assert list(wide.columns) == ["model", "d:acc"]
    assert wide.set_index("model").loc["a", "d:acc"] == 0.75
    assert pd.isna(wide.set_index("model").loc["openai/b", "d:acc"])
    assert len(frames.scores(world.ledger, 99, wide=True)) == 0


def test_verdicts_tally_and_grades_filter(world: World) -> None:
    ledger, (a, b) = world.ledger, world.models
    human, judge = ledger.add_annotator("human", "ann", {}), ledger.add_annotator("judge", "j", {})
    battles = ledger.add_battles([BattleRow(item, a, b) for item in world.items])
    for annotator, criterion in ((human, "overall"), (judge, "overall"), (judge, "style")):
        ledger.add_verdicts(
            world.run if annotator == judge else None,
            [VerdictRow(battle, annotator, "ab", "model_a", criterion=criterion) for battle in battles[:-1]]
            + [VerdictRow(battles[-1], annotator, "ab", None, criterion=criterion, error="unparsed")],
        )
    votes = frames.verdicts(ledger)
    assert len(votes) == 30 and TEXTS.isdisjoint(votes.columns)
    assert votes.loc[0, ["item", "model_a", "model_b", "winner", "annotator", "order"]].to_list() == [
        *("q0", "a", "openai/b", "model_a", "ann", "ab")
    ]
    assert votes.winner.isna().sum() == votes.error.notna().sum() == 3
    assert len(frames.verdicts(ledger, kind="human")) == len(frames.verdicts(ledger, annotators=["ann"])) == 10
    assert len(frames.verdicts(ledger, annotators=[judge], criterion="style")) == 10
    assert len(frames.verdicts(ledger, run_id=world.run)) == 20
    assert len(frames.verdicts(ledger, models=["a"])) == 0
    assert list(frames.verdicts(ledger, after=28, limit=1).verdict_id) == [29]
    with pytest.raises(UserError, match="there is no annotator 'nobody' in this ledger; there are: ann, j"):
        frames.verdicts(ledger, annotators=["nobody"])
    tally = frames.tally(ledger)
    assert [(*row,) for row in tally[OUTCOMES].itertuples(index=False)] == [(9, 0, 0, 0, 1)] * 3
    assert set(zip(tally.annotator, tally.annotator_kind, tally.criterion, tally.turn, strict=True)) == {
        *(("j", "judge", "overall", 1), ("j", "judge", "style", 1), ("ann", "human", "overall", 1))
    }
    assert set(tally.model_a) == {"a"} and set(tally.model_b) == {"openai/b"}
    pooled = frames.tally(ledger, criterion="overall", pooled=True)
    assert pooled[["model_a", "model_b", *OUTCOMES]].values.tolist() == [["a", "openai/b", 18, 0, 0, 0, 2]]
    assert frames.tally(ledger, kind="judge", criterion="style").wins_a.to_list() == [9]
    for nothing in (frames.tally(ledger, models=["a"]), frames.tally(ledger, criterion="tone", pooled=True)):
        assert len(nothing) == 0 and nothing.errors.sum() == 0
    board = frames.annotators(ledger).set_index("annotator")
    assert board.loc["j", ["battles", "errors"]].to_list() == [18, 2]

    ids = ledger.add_responses(world.run, [world.row(i, i % 2) for i in range(4)])
    metric = ledger.add_annotator("metric", "exact", {})
    ledger.add_grades([GradeRow(response, metric, "c", float(i % 2)) for i, response in enumerate(ids)])
    ledger.add_grades([GradeRow(ids[0], metric, "d", None, "broken")])
    assert len(frames.grades(ledger)) == 5
    assert list(frames.grades(ledger, criterion="c", below=1).response_id) == [ids[0], ids[2]]
    assert list(frames.grades(ledger, models=["openai/b"]).response_id) == [ids[1], ids[3]]
    assert len(frames.grades(ledger, run_id=world.run)) == 5
    assert len(frames.grades(ledger, run_id=99)) == 0


def test_items_and_datasets(world: World) -> None:
    items = frames.items(world.ledger, "d")
    assert list(items["item"]) == [f"q{i}" for i in range(10)]
    assert items.tags[0] == {"topic": "test"} and items.split[0] == "test"
    assert frames.datasets(world.ledger).loc[0, ["dataset", "source", "n"]].to_list() == ["d", "test", 10]
