"""Short answers: normalisation, number and letter extraction, options."""

from __future__ import annotations

import pytest

from evalkit.verify import verify
from evalkit.verify.exact import choice_letter, last_number


@pytest.mark.parametrize(
    "text",
    [
        "paris",
        "PARIS.",
        '"Paris"',
        "**Paris**",
        "The Paris",
        "Answer: Paris",
        "Let me think.\nParis",
        "Antwort: Paris",
        "答案是：Paris",
        "答案:Paris",
        "Ｐａｒｉｓ",
    ],
)
def test_full_match_reads_the_usual_dressings(text: str) -> None:
    assert verify({"verifier": "exact", "answers": ["Paris"]}, text).passed is True


@pytest.mark.parametrize("text", ["Paris and Lyon", "It is Paris I think", "Parisian", "not Paris"])
def test_full_match_is_not_containment(text: str) -> None:
    assert verify({"verifier": "exact", "answers": ["Paris"]}, text).passed is False


def test_contains_needs_whole_words_and_keeps_its_limit() -> None:
    spec = {"verifier": "exact", "answers": ["seven"], "match": "contains", "max_words": 10}
    assert verify(spec, "The shop opens at seven o'clock.").passed is True
    assert verify(spec, "There are seventy of them.").passed is False
    assert verify(spec, "seven " * 11).passed is False
    assert verify({**spec, "answers": ["七点"]}, "书店早上七点开门。").passed is True


def test_options_count_only_when_one_is_named() -> None:
    spec = {"verifier": "exact", "answers": ["Anna"], "options": ["Anna", "Ben", "Carl"]}
    assert verify(spec, "I think that Anna is the tallest of them.").passed is True
    assert verify(spec, "I think that Ben is the tallest of them.").passed is False
    assert verify(spec, "Anna is taller than Ben.").passed is False
    assert verify(spec, "Anna is taller than Ben.\nAnswer: Anna").passed is True
    assert verify(spec, "Joanna").passed is False


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3 + 4 = 7", "7"),
        ("It costs 1,234.50 dollars.", "1,234.50"),
        ("1, 2, 3", "3"),
        ("from -5 to -12.", "-12"),
        ("10-3", "3"),
        ("no digits", None),
        ("在１２点", "12"),
        ("x2", "2"),
    ],
)
def test_last_number(text: str, number: str | None) -> None:
    assert last_number(text) == number


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b.", "B"),
        ("(C)", "C"),
        ("B. Jupiter", "B"),
        ("**D)** Rome", "D"),
        ("The answer is B.", "B"),
        ("The correct answer is (C) because A is wrong.", "C"),
        ("Answer: **A**", "A"),
        ("Die Antwort ist B", "B"),
        ("答案是C。", "C"),
        (r"so \boxed{D}", "D"),
        (r"\boxed{\text{A}}", "A"),
        ("I would go for C here", "C"),
        ("I would go for C", "C"),
        ("A dog is an animal.", None),
        ("The answer is a dog.", None),
        ("Either A or B", None),
        ("A. one\nB. two\nC. three", None),
        ("E", None),
        ("", None),
    ],
)
def test_choice_letter(text: str, letter: str | None) -> None:
    assert choice_letter(text) == letter


def test_choice_by_its_text() -> None:
    spec = {"verifier": "choice", "answer": "B", "choices": ["Mars", "Jupiter", "Venus", "Saturn"]}
    assert verify(spec, "Jupiter").passed is True
    assert verify(spec, "The answer is Mars.").passed is False
    assert verify(spec, "Jupiter or Mars").passed is False
