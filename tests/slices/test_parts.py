"""Parts of the search: features told from prompts, bins, the capability tree, merging."""

from __future__ import annotations

import numpy as np
import pytest

from evalkit.slices.answers import ItemFacts
from evalkit.slices.confirm import confirm
from evalkit.slices.features import bins, encode, prompt_columns
from evalkit.slices.predicates import Candidate, members, merge, propose, select, z_score
from evalkit.slices.prompts import asked_format, guess_language, prompt_features
from evalkit.slices.tree import build_tree


def item(text: str, reference: object = None, **tags: object) -> ItemFacts:
    return ItemFacts([{"role": "user", "content": text}], reference, tags)


def test_features_of_a_prompt_are_its_tags_and_what_its_text_and_check_say() -> None:
    spec = {"verifier": "constraints", "constraints": [{"kind": "lowercase"}, {"kind": "max_words", "value": 9}]}
    found = prompt_features(
        item("What is bread? Reply with JSON.", {"verify": spec}, topic="food", skills=["a", "b"], hard=True), "tasks"
    )
    assert found == {
        "benchmark": "tasks", "topic": "food", "skills a": "yes", "skills b": "yes", "hard": "yes", "constraints": "2",
        "constraint lowercase": "yes", "constraint max_words": "yes", "format": "json", "language": "en",
    }  # fmt: skip
    ifeval = {"doc": {"instruction_id_list": ["punctuation:no_comma"]}}
    assert prompt_features(item("Hm.", ifeval), "t")["constraint punctuation:no_comma"] == "yes"
    assert prompt_features(item("Reply with JSON.", format="list", benchmark="x"), "t")["format"] == "list"


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("Give it as a JSON object.", "json"),
        ("Write a function that adds.", "code"),
        ("Which?\nA. one\nB. two", "letter"),
        ("Is it hot? Answer with yes or no.", "yes or no"),
        ("What is 2 + 2? Give only the number.", "number"),
        ("Write each on its own line.", "list"),
        ("Tell me of Jason's day.", "free"),
    ],
)
def test_the_format_asked_for(text: str, form: str) -> None:
    assert asked_format(text) == form


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the name of the river?", "en"),
        ("Wie heißt der Fluss, und wo ist die Quelle?", "de"),
        ("蜘蛛有几条腿?", "zh"),
        ("クモの足は何本ですか", "ja"),
        ("Сколько ног у паука?", "Cyrillic script"),
        ("8 + 5 =", "unknown"),
    ],
)
def test_the_language(text: str, language: str) -> None:
    assert guess_language(text) == language


def test_bins_are_quarters_of_the_training_half() -> None:
    numbers = np.array([*range(1, 9), 100.0, np.nan])
    train = np.array([True] * 8 + [False] * 2)
    found = bins(numbers, train, "words")
    assert found[:8] == ["up to 2 words"] * 2 + ["3 to 4 words"] * 2 + ["5 to 6 words"] * 2 + ["over 6 words"] * 2
    assert found[8:] == ["over 6 words", None]
    assert bins(np.ones(4), np.ones(4, dtype=bool), "words") == [None] * 4


def test_a_tag_of_many_numbers_is_put_into_quarters_and_rare_values_are_left_out() -> None:
    train = np.ones(40, dtype=bool)
    columns = prompt_columns([{"level": str(k), "kind": "a" if k else "b"} for k in range(40)], [3] * 40, train)
    assert set(columns["level"]) == {"up to 9", "10 to 19", "20 to 29", "over 29"}
    table = encode(columns, dict.fromkeys(columns, "prompts"), train, 5)
    assert table.names == ("level",)  # "a" is nearly everything, "b" nearly nothing, and all lengths are alike
    assert table.codes.shape == (40, 1)


def test_the_tree_splits_groups_by_what_they_are_about_and_names_them() -> None:
    texts = [f"the {a} river flows {b}" for a in "abcdef" for b in "uvw"]
    texts += [f"bake {a} bread {b}" for a in "abcdef" for b in "uvw"]
    rng = np.random.default_rng(0)
    vectors = np.repeat(np.eye(4)[:2], 18, axis=0) + 0.05 * rng.standard_normal((36, 4))
    train = np.arange(36) % 2 == 0
    tree = build_tree(vectors.astype(np.float32), texts, train, min_support=8, seed=0)
    assert len(tree.nodes) == 3
    sides = {tree.nodes[k].terms[0]: tree.members(k) for k in (1, 2)}
    water = sides.get("flows", sides.get("river"))
    assert water is not None and water.tolist() == [True] * 18 + [False] * 18
    seen: list[str] = []

    def namer(terms, shown):
        seen.extend(shown)
        return "rivers" if "river" in terms else ""

    named = build_tree(vectors.astype(np.float32), texts, train, min_support=8, seed=0, namer=namer)
    assert "rivers" in {node.name for node in named.nodes}
    assert set(seen) <= {text for text, is_train in zip(texts, train, strict=True) if is_train}


def test_of_slices_that_overlap_the_clearest_stays_and_a_narrower_one_only_if_it_is_worse() -> None:
    failed = np.array([True] * 18 + [False] * 2 + [False] * 80)
    whole, half, other = (np.zeros(100, dtype=bool) for _ in range(3))
    whole[:20], half[:10], other[60:80] = True, True, True
    found = merge(
        [Candidate(((k, 1),), (), mask, z_score(int(failed[mask].sum()), int(mask.sum()), 1, 50))
         for k, mask in enumerate((half, whole, other, whole.copy()))],
        failed, 5,
    )  # fmt: skip
    assert [one.definition for one in found] == [((1, 1),)]
    assert found[0].also == (((3, 1),),)
    failed[10:18] = False  # now the first half is all of it, and the whole only contains it
    found = merge([Candidate(((k, 1),), (), mask, z) for k, mask, z in ((0, half, 3.0), (1, whole, 5.0))], failed, 5)
    assert [one.definition for one in found] == [((1, 1),), ((0, 1),)]


def test_pairs_that_fail_together_are_proposed() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(1, 4, size=(400, 5)).astype(np.int32)
    codes[rng.random((400, 5)) < 0.2] = 0
    failed = (codes[:, 1] == 2) & (codes[:, 4] == 3)
    proposed = propose(codes, failed, paired=[[0, 1, 2, 3, 4]], min_support=8)
    assert ((1, 2), (4, 3)) in proposed
    assert all(code > 0 for definition in proposed for _, code in definition)
    best = select(codes, failed, proposed, min_support=8)[0]
    assert best.definition == ((1, 2), (4, 3))
    assert members(codes, best.definition).tolist() == failed.tolist()


def test_answers_to_one_prompt_are_one_unit_of_the_test() -> None:
    # Two prompts asked ten times each: twenty answers, but only two independent failures against two passes.
    mask, units = np.repeat([True, True, False, False], 10), np.repeat([0, 1, 2, 3], 10)
    failed = mask.copy()
    alone = confirm([mask], failed, np.arange(40), seed=0)[0]
    together = confirm([mask], failed, units, seed=0)[0]
    assert alone.p_value < 1e-9
    assert together.p_value == pytest.approx(1 / 6)
    assert together.lower < alone.lower
    assert together.counts == alone.counts
