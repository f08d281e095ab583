"""Verifiers as judges."""

from __future__ import annotations

from typing import Any

import pytest

from judges import verifier
from judges.fight import Fight

NUMERIC = {"verify": {"verifier": "numeric", "answer": "42"}}


def verdict(reference: Any, a: str, b: str) -> Any:
    (found,) = verifier.judge([Fight(1, 1, "q", reference, a, b)], 9)
    return found


@pytest.mark.parametrize(
    ("a", "b", "winner"),
    [
        ("It is 42.", "It is 41.", "model_a"),
        ("It is 41.", "It is 42.", "model_b"),
        ("It is 42.", "42", "tie"),
        ("It is 41.", "", "both_bad"),
    ],
)
def test_the_better_checked_answer_wins(a: str, b: str, winner: str) -> None:
    found = verdict(NUMERIC, a, b)
    assert (found.winner, found.error, found.order) == (winner, None, "")
    assert found.rationale.startswith("A: ")


def test_partial_scores_decide_between_two_that_fail() -> None:
    constraints = [{"kind": "max_words", "value": 3}, {"kind": "lowercase"}]
    reference = {"verify": {"verifier": "constraints", "constraints": constraints}}
    assert verdict(reference, "one Two", "One Two three four").winner == "model_a"
    assert verdict(reference, "one two", "One Two three four").winner == "model_a"


def test_the_spec_may_stand_in_the_benchmarks_document() -> None:
    assert verdict({"target": "42", "doc": {"question": "?", **NUMERIC}}, "42", "41").winner == "model_a"


@pytest.mark.parametrize("reference", [None, "42", {}, {"doc": "42"}, {"verify": "numeric"}, {"doc": {"verify": None}}])
def test_a_battle_without_a_spec_gets_no_verdict(reference: Any) -> None:
    assert verifier.judge([Fight(1, 1, "q", reference, "a", "b")], 9) == []


def test_what_cannot_be_checked_here_is_an_error_with_its_reason() -> None:
    reference = {"verify": {"verifier": "unit_tests", "tests": "assert f() == 1", "entry_point": "f"}}
    found = verdict(reference, "def f(): return 1", "def f(): return 2")
    assert found.winner is None
    assert "sandbox" in found.error
