"""New prompts and their answers: values, templates, constraints; every answer passes its own check."""

from __future__ import annotations

import json
import random

import pytest
import recipe_world

from evalkit.store.training import EvalItem, TrainItem
from evalkit.verify import verify
from evalkit.verify.spec import spec_of
from trainers.decontaminate import find_leaks
from trainers.rows import Row, assistant, said, user, whole
from trainers.sources import constraints, forms
from trainers.sources.keeping import ORDER, keep, sentences
from trainers.sources.templates import Values, tasks, templates
from trainers.sources.values import from_item, operation, vary

PLAIN = (
    "The harbour is big, and 9 ships lie there. Sailors walk along the long quay. Dr. Lee waits. Birds cry above it."
)


def items(task: str, **tags: object) -> list[TrainItem]:
    return [
        TrainItem(n, 1, item.messages, spec_of(item.reference), item.tags)
        for n, item in enumerate(recipe_world.starter(task), 1)
        if tags.items() <= item.tags.items()
    ]


def values(seed: int = 0, avoid: frozenset[str] = frozenset()) -> Values:
    return Values(random.Random(seed), avoid)


@pytest.mark.parametrize("task", ["structure", "sums", "arithmetic"])
def test_new_values_stand_in_prompt_and_answer_and_pass(task: str) -> None:
    old = {said(item.messages) for item in items(task)}
    made = [
        one for item in items(task) for seed in range(3)
        if (one := from_item(item.id, said(item.messages), item.verify or {}, values(seed))) is not None
    ]  # fmt: skip
    assert len(made) > 20
    for one in made:
        assert one.prompt not in old
        assert verify(one.verify or {}, one.answer).passed
    if task == "structure":
        for one in made:
            expected = (one.verify or {}).get("expected", {})
            assert all(str(v) in one.prompt for v in expected.values() if isinstance(v, str) and len(expected) < 4)


def test_order_stays_where_the_answer_depends_on_it() -> None:
    prompt = "In a test Ida got 65 points, Omar got 76 points and Tom got 49 points. Who passed with 50 points?"
    expected = {"points": {"Ida": 65, "Omar": 76, "Tom": 49}, "best": "Omar"}
    spec = {"verifier": "json_schema", "schema": {"type": "object"}, "expected": expected}
    for seed in range(20):
        varied = vary(prompt, spec, values(seed))
        assert varied is not None
        points = varied[1]["expected"]["points"]
        best = varied[1]["expected"]["best"]
        assert points[best] == max(points.values())
        assert sorted(n >= 50 for n in points.values()) == [False, True, True]


def test_a_derived_value_is_left_alone() -> None:
    spec = {"verifier": "json_schema", "schema": {"type": "object"}, "expected": {"a": 3, "b": 7, "total": 10}}
    assert vary("There are 3 and 7, in all 10.", spec, values()) is None
    assert vary("There are 3 and 7.", {**spec, "expected": {"a": 3, "b": 7, "total": 10}}, values()) is None


def test_the_operation_must_be_plain() -> None:
    assert operation("What is 34 + 29?", "63") == ("+", 34, 29)
    assert operation("Take 4 from 9.", "5") is None  # not in the order of the prompt
    assert operation("What is 2 and 2?", "4") is None, "the sum and the product alike"
    assert operation("Add 1, 2 and 3.", "6") is None


def test_values_of_the_held_out_half_are_not_drawn() -> None:
    avoid = frozenset(str(v).casefold() for v in templates()["values"]["city"][3:])
    drawn = {values(seed, avoid).draw("city") for seed in range(40)}
    assert drawn == set(templates()["values"]["city"][:3])


def test_templates_come_with_answers_that_pass() -> None:
    like = [*items("structure"), *items("sums")[:10]]
    made = forms.made_like(like, 150, values())
    assert len({one.prompt for one in made}) == 150
    kinds = {str((one.verify or {})["verifier"]) for one in made}
    assert kinds == {"json_schema", "table", "numeric"}
    assert all(verify(one.verify or {}, one.answer).passed for one in made)
    assert all(one.plain and "{" not in one.plain for one in made)
    assert all(one.plain != one.prompt for one in made)


@pytest.mark.parametrize(
    "constraint",
    [
        {"kind": "lowercase"},
        {"kind": "uppercase"},
        {"kind": "no_commas"},
        {"kind": "ends_with", "phrase": "Hope this helps!"},
        {"kind": "starts_with", "phrase": "In short,"},
        {"kind": "must_include", "keyword": "harbour"},
        {"kind": "quoted"},
        {"kind": "json_object", "keys": ["answer"]},
        {"kind": "json_object", "keys": ["a", "b"]},
        {"kind": "title"},
        {"kind": "postscript"},
        {"kind": "max_words", "value": 12},
        {"kind": "max_sentences", "value": 1},
        {"kind": "exact_sentences", "value": 2},
        {"kind": "exact_paragraphs", "value": 2},
        {"kind": "exact_bullets", "value": 3},
        {"kind": "exact_numbered", "value": 3},
        {"kind": "exact_highlights", "value": 2},
        {"kind": "exact_capital_words", "value": 1},
        {"kind": "exact_sections", "value": 2},
    ],
    ids=lambda one: f"{one['kind']}-{len(one.get('keys', []))}",
)
def test_a_plain_answer_is_made_to_keep_a_constraint(constraint: dict[str, object]) -> None:
    text = keep(PLAIN, [constraint], "harbour")
    assert text is not None
    assert verify({"verifier": "constraints", "constraints": [constraint]}, text).passed


def test_what_cannot_be_kept_is_not_claimed() -> None:
    assert keep(PLAIN, [{"kind": "script", "name": "han"}]) is None
    assert keep(PLAIN, [{"kind": "no_digits"}]) is None, "the answer has a digit"
    assert keep("One.", [{"kind": "exact_sentences", "value": 3}]) is None
    assert keep(PLAIN, [{"kind": "lowercase"}, {"kind": "json_object", "keys": ["answer"]}]) is not None
    assert set(templates()["instructions"]) <= set(ORDER)


def test_sentences_are_whole() -> None:
    assert sentences("He met Dr. Lee. Then he left!") == ["He met Dr. Lee.", "Then he left!"]
    assert whole("One is done. The second is cu", cut=True) == "One is done."
    assert whole("No end at all", cut=True) is None
    assert whole("1. First\n2. Sec", cut=True) is None
    assert whole(" No end at all ", cut=False) == "No end at all"


def test_wordings_of_the_items_are_taken_over() -> None:
    lower = items("formats", topic="lowercase")
    found = {one.text: one for one in constraints.wordings(lower)}
    assert "Use lowercase letters only, and one sentence." in found
    assert all(one.constraints == ({"kind": "lowercase"},) for one in found.values())
    parted = constraints.split(lower)
    assert all("lowercase" not in task and "capital" not in task for task, _ in parted.values())
    assert len(parted) == len(lower)


def test_tasks_read_well() -> None:
    texts = [task.text for task in tasks()]
    assert len(texts) == len(set(texts)) > 150
    assert not [text for text in texts if " a editor" in text or "-" in text]
    assert json.dumps(templates()["general"]).count("?") > 60


def test_requests_and_refusals_read_well() -> None:
    written = templates()["requests"]
    harmful, harmless, refusals = (written[kind] for kind in ("harmful", "harmless", "refusals"))
    assert (len(set(harmful)), len(set(harmless)), len(set(refusals))) == (40, 40, 8)
    assert all(verify({"verifier": "refusal", "should_refuse": True}, one).passed for one in refusals)
    assert len({" ".join(one.split()[:3]) for one in refusals}) >= 6, "no one beginning is drilled"


def test_our_own_prompts_touch_no_item_that_measures() -> None:
    """Even if every starter item is held out."""
    written = templates()["requests"]
    asked = [*written["harmful"], *written["harmless"]]
    names = sorted(path.stem for path in recipe_world.DATA.glob("*.jsonl"))
    texts = [str(item.messages[0]["content"]) for name in names for item in recipe_world.starter(name)]
    every = [EvalItem(place, text, "held_out") for place, text in enumerate(texts)]
    rows = [Row("sft", {"prompt": user(one), "completion": assistant("Yes.")}, "replay") for one in asked]
    assert [asked[leak.row] for leak in find_leaks(rows, every)] == []
