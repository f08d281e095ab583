"""Each constraint: texts that keep it and texts that do not."""

from __future__ import annotations

from typing import Any

import pytest

from evalkit.verify import verify
from evalkit.verify.constraints import KINDS, RELATIONS, UNITS, satisfied

# constraint, responses that keep it, responses that do not
CASES: list[tuple[dict[str, Any], list[str], list[str]]] = [
    ({"kind": "max_words", "value": 3}, ["one two three", "don't well-known x"], ["one two three four"]),
    ({"kind": "min_words", "value": 3}, ["a b c", "我喜欢茶"], ["a b", "喝茶"]),
    ({"kind": "exact_words", "value": 2}, ["Hello, world!"], ["Hello", "Hello big world"]),
    (
        {"kind": "exact_sentences", "value": 2},
        ["Dr. Who is here. Run!", "他来了。快跑！", "It is 3.5 km. Go."],
        ["One.", "A b. C d. E f."],
    ),
    ({"kind": "max_sentences", "value": 1}, ["Just one.", "no point"], ["One. Two."]),
    ({"kind": "min_sentences", "value": 2}, ['"Go." Then stop.'], ["Go"]),
    ({"kind": "exact_lines", "value": 2}, ["a\nb", "a\n\nb\n"], ["a"]),
    ({"kind": "exact_paragraphs", "value": 2}, ["a\n\nb", "a\n***\nb"], ["a\nb", "a\n\nb\n\nc"]),
    ({"kind": "exact_bullets", "value": 2}, ["- a\n- b", "* a\n* b", "• a\n• b"], ["- a", "**a**\n**b**", "a - b"]),
    ({"kind": "exact_numbered", "value": 2}, ["1. a\n2. b", "1) a\n2) b"], ["1. a", "in 1999. yes"]),
    ({"kind": "min_sections", "value": 2}, ["# A\nx\n## B\ny", "Section 1\nx\nSection 2\ny"], ["# A", "#tag\n#tag"]),
    ({"kind": "exact_highlights", "value": 1}, ["a *b* c", "a **b c** d"], ["a b c", "*a* *b*", "2 * 3 * 4"]),
    ({"kind": "min_placeholders", "value": 1}, ["Dear [name],"], ["Dear name", "[]"]),
    ({"kind": "exact_capital_words", "value": 1}, ["This is GREAT, I say"], ["This is great", "BIG DOG"]),
    ({"kind": "max_characters", "value": 5}, ["hello", " hello "], ["hello!"]),
    ({"kind": "must_include", "keyword": "sea", "times": 2}, ["Sea and sea"], ["sea and season", "sea"]),
    ({"kind": "must_include", "keyword": "茶"}, ["我喝绿茶。"], ["我喝水。"]),
    ({"kind": "must_not_include", "keywords": ["red", "blue"]}, ["green", "reddish"], ["a Red car", "blue"]),
    ({"kind": "includes_any", "keywords": ["red", "blue"]}, ["a red car"], ["green", "reddish"]),
    ({"kind": "keyword_count", "keyword": "go", "times": 1}, ["Go now", "go, Golf"], ["go go", "gone"]),
    ({"kind": "lowercase"}, ["all small 1."], ["One capital", "123"]),
    ({"kind": "uppercase"}, ["ALL BIG 1."], ["ALL Big", "123"]),
    ({"kind": "starts_with", "phrase": "Dear friend"}, ["dear  friend, hello"], ["Hello dear friend", "Dear"]),
    ({"kind": "ends_with", "phrase": "Good luck!"}, ["Go on. Good luck!\n"], ["Good luck! Bye.", "Good luck"]),
    ({"kind": "no_commas"}, ["a b"], ["a, b", "甲，乙", "甲、乙"]),
    ({"kind": "no_digits"}, ["a"], ["a1", "２"]),
    (
        {"kind": "json_object", "keys": ["a"]},
        ['{"a": 1}', '```json\n{"a": 1}\n```'],
        ['{"b": 1}', "[1]", 'It is {"a": 1}'],
    ),
    ({"kind": "title"}, ["<<My day>>\nIt was good."], ["<My day>", "<<>>", "<< >>"]),
    ({"kind": "script", "name": "han"}, ["你好！"], ["你好 ok", "123", "hello"]),
    ({"kind": "script", "name": "latin"}, ["Größe 5"], ["Привет", "a 你"]),
    (
        {"kind": "repeats_prompt", "prompt": "Name a river."},
        ["Name a river. The Nile."],
        ["The Nile.", "Name a river."],
    ),
    ({"kind": "quoted"}, ['"Hello there."', "„Guten Tag.“", "“Hi”"], ["Hello", '"Hello" he said', '""']),
    ({"kind": "postscript"}, ["Dear Ann.\n\nP.S. Call me."], ["Dear Ann.", "P.S. Call me.\n\nBye", "P.S."]),
    ({"kind": "one_of", "options": ["yes", "no"]}, ["Yes.", "no"], ["yes and no", "maybe"]),
]


@pytest.mark.parametrize(("constraint", "kept", "broken"), CASES, ids=[case[0]["kind"] for case in CASES])
def test_constraint(constraint: dict[str, Any], kept: list[str], broken: list[str]) -> None:
    assert [satisfied(constraint, text) for text in kept] == [True] * len(kept)
    assert [satisfied(constraint, text) for text in broken] == [False] * len(broken)


def test_every_kind_and_unit_has_a_case() -> None:
    kinds = {case[0]["kind"] for case in CASES}
    assert kinds >= KINDS.keys()
    assert {kind.partition("_")[2] for kind in kinds if kind.split("_")[0] in RELATIONS} >= UNITS.keys()


def test_the_score_is_the_share_kept() -> None:
    constraints = [
        {"kind": "lowercase"},
        {"kind": "no_commas"},
        {"kind": "max_words", "value": 2},
        {"kind": "no_digits"},
    ]
    spec = {"verifier": "constraints", "constraints": constraints}
    check = verify(spec, "one, two three")
    assert (check.passed, check.score) == (False, 0.5)
    assert check.reason == "not kept: no_commas, max_words"
    assert verify(spec, "").score == 0
