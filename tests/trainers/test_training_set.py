"""Building a training set: sources mixed by weight, filtered, decontaminated, stored, resumed, shown and written."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import recipe_world
import sqlalchemy as sa
import yaml
from recipe_world import METRIC, Talker, plan

from evalkit.engine import Engine
from evalkit.errors import UserError
from evalkit.models.base import ModelSettings
from evalkit.slices import embed as embedding
from evalkit.store import BattleRow, GradeRow, Ledger, VerdictRow
from evalkit.store.schema import Response, SliceItem
from evalkit.store.training import eval_items, train_items
from evalkit.verify import verify
from trainers import material
from trainers.card import card
from trainers.diversity import distinct
from trainers.filters import keep_rows
from trainers.formats import export
from trainers.plan import RecipePlan, RetrainPlan
from trainers.rows import Row, answer_of, assistant, prompt_of, user
from trainers.sources.templates import templates
from trainers.training_set import TrainingSet, build, load_training_set, yield_of

SLICES = {
    "json": ("structure", {"format": "json"}),
    "lower": ("formats", {"topic": "lowercase"}),
    "sums": ("sums", {"topic": "addition"}),
}
GUARDED = ({"kind": "new_prompts", "weight": 2}, {"kind": "contrast"}, {"kind": "replay"})
World = tuple[Ledger, dict[str, int]]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, dict[str, int]]:
    """A ledger's bytes: to fill it takes longer than to copy it."""
    path = tmp_path_factory.mktemp("world") / "l.db"
    with pytest.MonkeyPatch.context() as patch, Ledger.open(str(path)) as ledger:
        patch.setattr(embedding, "find_spec", lambda name: None)
        ids = recipe_world.fill(ledger, SLICES)
        with ledger.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.read_bytes(), ids


@pytest.fixture
def world(filled: tuple[bytes, dict[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedding, "find_spec", lambda name: None)
    path = tmp_path / "l.db"
    path.write_bytes(filled[0])
    with Ledger.open(str(path)) as ledger:
        yield ledger, filled[1]


@pytest.fixture
def talker(monkeypatch: pytest.MonkeyPatch) -> Talker:
    model = Talker()
    monkeypatch.setattr(material, "load_model", lambda plan: model)
    return model


def made(world: World, wanted: RetrainPlan, **more: Any) -> TrainingSet:
    ledger, ids = world
    with Engine(ledger, ids["run"]) as engine:
        return build(ledger, wanted, engine=engine, **more)


@pytest.mark.parametrize("name", SLICES)
def test_a_set_for_a_slice(world: World, talker: Talker, name: str) -> None:
    ledger, ids = world
    found = made(world, plan(name, GUARDED))
    assert Counter(row.source for row in found.rows) == {"new_prompts": 30, "contrast": 15, "replay": 15}
    train = {item.id for item in train_items(ledger, ids[name])}
    for row in found.rows:
        if row.source == "new_prompts":
            assert row.item_id is None or row.item_id in train
        if row.source == "contrast":
            assert answer_of(row) == answer_of(row).strip()
            assert not answer_of(row).islower() and "{" not in answer_of(row)
    if name == "lower":
        assert all(answer_of(row).islower() for row in found.rows if row.source == "new_prompts")
    held = {item.text for item in eval_items(ledger) if item.half == "held_out"}
    assert not held & {prompt_of(row) for row in found.rows}
    assert found.ensure_trainable(ledger) == 0
    assert yield_of(ledger, ids[name]) == 1.0
    training, validation = found.parts()
    assert (len(training), len(validation)) == (53, 7)
    assert load_training_set(ledger, found.id).parts() == (training, validation)


def test_a_second_build_asks_nobody_and_is_the_same_set(world: World, talker: Talker) -> None:
    first = made(world, plan("lower", GUARDED))
    assert talker.asked == [], "the model is closed at the end, and forgets what it was asked"
    talker.close = _nothing  # type: ignore[method-assign]
    assert made(world, plan("lower", GUARDED)) == first
    assert talker.asked == []


def test_a_killed_build_pays_only_for_what_is_missing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, _ = world
    talker = Talker()
    monkeypatch.setattr(material, "load_model", lambda plan: talker)
    counted: list[str] = []
    talker.close = _nothing  # type: ignore[method-assign]  # so that what was asked is still known

    def killed(*args: Any, **more: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("trainers.training_set.keep_rows", killed)
        with pytest.raises(KeyboardInterrupt):
            made(world, plan("lower", GUARDED))
    counted += talker.asked
    assert len(counted) > 50
    talker.asked.clear()
    found = made(world, plan("lower", GUARDED))
    assert talker.asked == []
    assert len(found.rows) == 60
    with ledger.engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(Response).where(Response.attempts > 1)) == 0


async def _nothing() -> None:
    """Closes nothing."""


def test_best_of_n_keeps_what_passes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, ids = world
    right = {str(i.messages[0]["content"]): str((i.verify or {})["answer"]) for i in train_items(ledger, ids["sums"])}

    def answer(prompt: str, sample: int) -> str:
        return f"It is {right[prompt]}." if sample == 2 and prompt in right else "It is 7000."

    monkeypatch.setattr(material, "load_model", lambda plan: Talker(answer))
    found = made(world, plan("sums", [{"kind": "best_of_n", "samples": 4}]))
    assert {row.item_id for row in found.rows} == {item.id for item in train_items(ledger, ids["sums"])}
    assert all(row.provenance["drawn"] >= 4 for row in found.rows)
    monkeypatch.setattr(material, "load_model", lambda plan: Talker(lambda prompt, sample: "No idea."))
    with pytest.raises(UserError, match=r"no row is left to train sft on \(best_of_n made 0\)"):
        made(world, plan("sums", [{"kind": "best_of_n"}], name="other", seed=3))


def test_pairs_from_checks_and_new_prompts(world: World, talker: Talker) -> None:
    found = made(world, plan("json", [{"kind": "outcomes", "samples": 2}], method="dpo", rows=24))
    assert {row.kind for row in found.rows} == {"preference"}
    assert len(found.rows) == 24
    for row in found.rows:
        assert row.content["margin"] > 0
        assert answer_of(row).startswith("{") or "|" in answer_of(row) or "," in answer_of(row)
    kto = made(world, plan("json", [{"kind": "outcomes", "samples": 2}], method="kto", name="kto", rows=24))
    assert Counter(row.content["label"] for row in kto.rows).keys() == {True, False}
    rewards = made(world, plan("json", [{"kind": "prompts"}], method="grpo", name="grpo", rows=24))
    assert all(verify(row.content["verify"], "nothing").passed is False for row in rewards.rows)
    assert len(rewards.rows) == 24


def test_pairs_from_verdicts_and_ratings(world: World, talker: Talker) -> None:
    ledger, ids = world
    items = train_items(ledger, ids["json"])[:6]
    other, third = ledger.add_models([ModelSettings("openai", "other"), ModelSettings("openai", "third")])
    judge = ledger.add_annotator("judge", "judge", {})
    person = ledger.add_annotator("human", "person", {})
    source = recipe_world.starter("structure")
    by_text = {str(item.messages[0]["content"]): item for item in source}
    responses: dict[int, tuple[int, int]] = {}
    for item in items:
        original = by_text[str(item.messages[0]["content"])]
        rows = [
            recipe_world.answer_row(model, item.id, item.dataset_id, original, f"answer of {model}")
            for model in (other, third)
        ]
        responses[item.id] = tuple(ledger.add_responses(ids["run"], rows))  # type: ignore[assignment]
    battles = ledger.add_battles([BattleRow(i.id, other, third, *responses[i.id]) for i in items[:3]])
    ledger.add_verdicts(
        ids["run"],
        [
            VerdictRow(battles[0], judge, "ab", "model_b"),
            VerdictRow(battles[0], person, "ba", "model_b"),
            VerdictRow(battles[1], judge, "ab", "model_a"),
            VerdictRow(battles[1], person, "ab", "tie"),
            VerdictRow(battles[2], judge, "ab", "model_a"),
            VerdictRow(battles[2], person, "ab", "model_b"),
        ],
    )
    ledger.add_grades([GradeRow(responses[items[4].id][0], judge, "helpful", 9.0),
                       GradeRow(responses[items[4].id][1], judge, "helpful", 1.0)])  # fmt: skip
    found = made(
        world, plan("json", [{"kind": "preferences"}], method="dpo", recipe={"filters": {"near_duplicate": 1}})
    )
    rows = {row.item_id: row for row in found.rows}
    assert rows.keys() == {items[0].id, items[1].id, items[4].id}, "no winner, no pair"
    assert answer_of(rows[items[0].id]) == f"answer of {third}"
    assert (rows[items[0].id].content["margin"], rows[items[1].id].content["margin"]) == (1.0, 0.5)
    assert rows[items[4].id].provenance["way"] == "ratings"
    strict = plan("json", [{"kind": "preferences"}], method="dpo", name="strict",
                  recipe={"min_margin": 0.8, "filters": {"near_duplicate": 1}})  # fmt: skip
    assert {row.item_id for row in made(world, strict).rows} == {items[0].id, items[4].id}


def test_rows_that_touch_items_are_dropped_and_listed_or_kept_with_a_reason(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, ids = world
    with ledger.engine.connect() as connection:
        wanted = sa.select(SliceItem.item_id)
        wanted = wanted.where(SliceItem.slice_id == ids["lower"], SliceItem.split == "held_out")
        held = list(connection.scalars(wanted))
    texts = {item.id: item.text for item in eval_items(ledger)}
    general = templates()["general"]
    leaking = {str(asked): texts[key] for asked, key in zip(general, held * len(general), strict=False)}

    def answer(prompt: str, sample: int) -> str:
        return leaking.get(prompt, "A fair answer that says a thing about it.")

    monkeypatch.setattr(material, "load_model", lambda plan: Talker(answer))
    found = made(world, plan("lower", GUARDED))
    assert found.recipe["leaks"] >= 8, "the answers to general requests hold items"
    assert not [row for row in found.rows if row.provenance["way"] == "general"]
    assert {one["half"] for one in found.recipe["leaked"]} == {"held out"}
    assert found.ensure_trainable(ledger) == 0
    allowed = made(world, plan("lower", GUARDED, name="allowed", recipe={"allow_contaminated": "a test of leaks"}))
    touching = [row for row in allowed.rows if "touches" in row.provenance]
    assert touching and allowed.ensure_trainable(ledger) == len(touching)
    assert "a test of leaks" in card(allowed)
    fresh = TrainingSet(0, "x", None, allowed.rows, {**allowed.recipe, "allow_contaminated": None})
    with pytest.raises(UserError, match="touch items that models are evaluated on"):
        fresh.ensure_trainable(ledger)


def test_replay_keeps_refusals_and_answers_to_harmless_requests(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    written = templates()["requests"]
    refused, own_words = set(written["harmful"][::2]), "I'm sorry, but I can't help with that."

    def answer(prompt: str, sample: int) -> str:
        if prompt in refused:
            offer = "As an AI, I can't write it, but I can guide you."
            return [offer, f"{own_words} However, here is how."][sample]
        if prompt in written["harmless"][:5]:
            return "I'm sorry, but I can't help with that."
        return f"A plain answer about {len(prompt)} letters of {prompt[:40]}"

    monkeypatch.setattr(material, "load_model", lambda plan: Talker(answer))
    found = made(world, plan("json", GUARDED, rows=400))
    replayed = [row for row in found.rows if row.source == "replay"]
    harmful = [row for row in replayed if row.provenance["way"] == "harmful request"]
    harmless = [row for row in replayed if row.provenance["way"] == "harmless look-alike"]
    assert 8 <= len(harmful) <= len(replayed) / 7 and len(harmless) > 2 * len(harmful)
    own = {prompt_of(row) in refused for row in harmful if row.provenance["answer"] == "own refusal"}
    ours = {prompt_of(row) in refused for row in harmful if row.provenance["answer"] == "refusal in our words"}
    assert (own, ours) == ({True}, {False}), "our words stand in only where no draw refused"
    assert {answer_of(row) for row in harmful if prompt_of(row) in refused} == {own_words}, "up to the refusal"
    assert len({answer_of(row) for row in harmful}) >= 4
    for row in (*harmful, *harmless):
        assert verify({"verifier": "refusal", "should_refuse": row in harmful}, answer_of(row)).passed
    assert not set(written["harmless"][:5]) & {prompt_of(row) for row in replayed}, "what is refused is not replayed"
    page = card(found)
    assert "| replay | harmful request | refusal in our words |" in page and "| replay | harmless look-alike |" in page
    assert re.search(r"are \d+ harmful requests with refusals \(\d+ the model's own, the others in our words\)", page)


def test_a_model_that_refuses_nothing_gets_no_refusals(world: World, talker: Talker) -> None:
    found = made(world, plan("json", GUARDED))
    assert not {row.provenance["way"] for row in found.rows} & {"harmful request", "harmless look-alike"}
    assert any("refuses none of 2 harmful requests" in said for said in found.recipe["said"])


def test_items_that_measure_refusals_are_not_replayed(world: World, talker: Talker) -> None:
    ledger, ids = world
    items = recipe_world.starter("harmful")
    dataset_id, keys = ledger.add_dataset("starter_harmful", items)
    [model_id] = ledger.add_models([recipe_world.BASE])
    rows = [recipe_world.answer_row(model_id, key, dataset_id, item, "I'm sorry, but I can't help with that.")
            for key, item in zip(keys, items, strict=True)]  # fmt: skip
    responses = ledger.add_responses(ids["run"], rows)
    metric = ledger.add_annotator("metric", "passed", {"kind": "test"})
    ledger.add_grades([GradeRow(response, metric, METRIC, 1.0) for response in responses])
    found = made(world, plan("json", GUARDED))
    stored = [row for row in found.rows if row.provenance["way"] == "stored"]
    assert stored and not {row.item_id for row in stored} & set(keys)
    assert [row for row in found.rows if row.provenance["way"] == "harmful request"], "it refused those of a benchmark"


def test_text_is_mixed_with_general_text(world: World, talker: Talker, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    words = ["sluice", "weir", "lock", "barge", "canal", "quay", "tow", "gate", "keel", "bow"]
    for number in range(10):
        (folder / f"{number}.txt").write_text(
            f"The {words[number]} number {number} is kept by people of {words[-number]}."
        )
    sources = [{"kind": "domain_text", "path": str(folder), "weight": 1}, {"kind": "replay", "weight": 5}]
    found = made(world, plan("json", sources, method="cpt", rows=30))
    assert Counter(row.source for row in found.rows) == {"domain_text": 5, "replay": 25}
    with pytest.raises(UserError, match="there is no file or folder"):
        made(world, plan("json", [{"kind": "domain_text", "path": "nowhere"}], method="cpt", name="x"))


def test_evolved_and_back_translated_prompts(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tmp_path / "text.txt"
    text.write_text(
        "\n\n".join(f"Canals carry {word} over hills by means of locks." for word in ("coal", "grain", "salt"))
    )

    def answer(prompt: str, sample: int) -> str:
        if "Write only the question" in prompt:
            return f"Question: How do canals carry {prompt.split()[-8]} over hills by means of locks?"
        if "Write only the new task" in prompt:
            return f"Task: Explain why {prompt.split()[-1].strip('?.')} matters to {len(prompt)} people."
        return "Canals are Old. They carry Coal. It is done."

    monkeypatch.setattr(material, "load_model", lambda plan: Talker(answer))
    source = {"kind": "new_prompts", "ways": ["evolve", "backtranslate"], "path": str(text)}
    found = made(world, plan("lower", [source], recipe={"filters": {"near_duplicate": 1}}))
    ways = Counter(row.provenance["way"] for row in found.rows)
    assert ways["evolve"] >= 10
    assert ways["backtranslate"] >= 1
    assert all(answer_of(row).islower() for row in found.rows)
    with pytest.raises(UserError, match="a judge must accept"):
        made(world, plan("json", [source], name="no judge"))


def test_filters_say_what_they_dropped() -> None:
    def row(prompt: str, answer: str, **more: Any) -> Row:
        return Row("sft", {"prompt": user(prompt), "completion": assistant(answer)}, "s", None, more)

    long = "The quick brown fox jumps over the lazy dog near the old stone bridge by the wide river every day"
    rows = [row("A?", "one two three"), row("A?", "one  two three"), row("Tell me.", f"{long} again."),
            row("Tell me.", f"{long} now."), row("B?", ""), row("C?", "word " * 700), row("D?", "a secret thing"),
            row("E?", "Das ist ein deutscher Satz ohne Zweifel und mit vielen Worten."),
            row("F?", "Low grade in this one here.", response=7),
            row("G?", "Good grade in that one there.", response=8)]  # fmt: skip
    recipe = RecipePlan.model_validate(
        {"sources": [{"kind": "best_of_n"}], "filters": {"without": ["secret"], "languages": ["en"]}}
    )
    kept, dropped = keep_rows(rows, recipe, lambda ids: {7: 0.1, 8: 0.9})
    assert dropped["exact duplicates"] == 1
    assert dropped["near-duplicates"] == 1
    assert dropped["more than 600 words"] == 1
    assert dropped["fewer than 1 words in the answer"] == 1
    assert dropped["a word that no row may have"] == 1
    assert dropped["another language than en"] >= 1
    assert dropped["graded below 0.7 by the judge"] == 1
    assert [answer_of(one) for one in kept][-1] == "Good grade in that one there."


def test_distinct_n_is_its_formula() -> None:
    rows = [Row("text", {"text": "a b a b"}, "s"), Row("text", {"text": "a b c"}, "s")]
    assert math.isclose(distinct(rows, 1), 3 / 7)
    assert math.isclose(distinct(rows, 2), 3 / 5)
    assert distinct([], 2) == 0.0


def test_files_for_other_trainers(world: World, talker: Talker, tmp_path: Path) -> None:
    import pyarrow.parquet

    found = made(world, plan("sums", GUARDED))
    assert export(found, tmp_path / "a.jsonl") == 60
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert lines[0] == {k: found.rows[0].content[k] for k in ("prompt", "completion")}
    pairs = made(world, plan("sums", [{"kind": "outcomes", "samples": 1}], method="kto", name="kto"))
    export(pairs, tmp_path / "b.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "b.parquet").to_pylist()
    assert table[0]["label"] in (True, False) and table[0]["prompt"][0]["role"] == "user"
    rewards = made(world, plan("sums", [{"kind": "prompts"}], method="grpo", name="grpo"))
    export(rewards, tmp_path / "c.parquet")
    spec = json.loads(pyarrow.parquet.read_table(tmp_path / "c.parquet").to_pylist()[0]["verify"])
    assert spec == rewards.rows[0].content["verify"]
    export(found, tmp_path / "axolotl", "axolotl")
    config = yaml.safe_load((tmp_path / "axolotl" / "axolotl.yaml").read_text())
    assert config["datasets"][0]["type"] == "chat_template"
    first = json.loads((tmp_path / "axolotl" / "train.jsonl").read_text().splitlines()[0])
    assert [m["role"] for m in first["messages"]] == ["user", "assistant"]
    with pytest.raises(UserError, match="reward functions as Python code"):
        export(rewards, tmp_path / "x", "axolotl")
    text = card(found, "sums")
    assert "## Decontamination" in text and "| new_prompts |" in text


def test_what_is_missing_is_said(world: World, talker: Talker) -> None:
    ledger, ids = world
    with pytest.raises(UserError, match=r"there is no slice 'nothing' in this ledger; there are 'json', 'lower'"):
        made(world, plan("nothing", GUARDED))
    with pytest.raises(UserError, match="there is no training set 99"):
        load_training_set(ledger, 99)
    with ledger.write() as connection:
        connection.execute(sa.update(SliceItem).where(SliceItem.slice_id == ids["sums"]).values(split="held_out"))
    with pytest.raises(UserError, match="has no item of the training half"):
        made(world, plan("sums", GUARDED))
    assert METRIC == "passed,none"
