"""Verifiers as judges."""

from __future__ import annotations

from typing import Any

import pytest

from judges import verifier
from judges.fight import Case, Fight

NUMERIC = {"verify": {"verifier": "numeric", "answer": "42"}}


def verdict(reference: Any, a: str, b: str) -> Any:
    (found,) = verifier.Verifier(9).verdicts([Fight(1, 1, ("q",), reference, "", (a,), (b,))])
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
    assert verifier.Verifier(9).verdicts([Fight(1, 1, ("q",), reference, "", ("a",), ("b",))]) == []
    assert verifier.Verifier(9).grades([Case(1, 1, ("q",), reference, "", ("a",))]) == []


def test_what_cannot_be_checked_here_is_an_error_with_its_reason() -> None:
    reference = {"verify": {"verifier": "unit_tests", "tests": "assert f() == 1", "entry_point": "f"}}
    found = verdict(reference, "def f(): return 1", "def f(): return 2")
    assert found.winner is None
    assert "sandbox" in found.error


def grade(reference: Any, *answers: str) -> Any:
    turns = tuple(f"turn {n}" for n, _ in enumerate(answers, 1))
    (found,) = verifier.Verifier(9).grades([Case(4, 1, turns, reference, "", answers)])
    return found


def test_single_answers_are_graded_from_0_to_1() -> None:
    constraints = [{"kind": "max_words", "value": 3}, {"kind": "lowercase"}]
    reference = {"verify": {"verifier": "constraints", "constraints": constraints}}
    assert [grade(reference, text).value for text in ("one two", "one Two", "One Two three four")] == [1.0, 0.5, 0.0]
    found = grade(NUMERIC, "It is 41.")
    assert (found.response_id, found.annotator_id, found.criterion, found.value, found.error) == (
        4,
        9,
        "overall",
        0,
        None,
    )
    assert found.detail == {"rationale": "read 41, expected 42", "passed": False}


def test_a_grade_that_cannot_be_given_is_an_error() -> None:
    found = grade({"verify": {"verifier": "unit_tests", "tests": "assert f()", "entry_point": "f"}}, "def f(): ...")
    assert found.value is None
    assert "sandbox" in found.error


def test_each_turn_has_a_spec_of_its_own() -> None:
    reference = {"verify": [{"verifier": "numeric", "answer": "1"}, {"verifier": "numeric", "answer": "2"}]}
    assert [grade(reference, "1").value, grade(reference, "1", "2").value, grade(reference, "1", "1").value] == [
        1,
        1,
        0,
    ]
    only_second = {"verify": [None, {"verifier": "numeric", "answer": "2"}]}
    assert verifier.Verifier(9).grades([Case(4, 1, ("q",), only_second, "", ("2",))]) == []
    assert grade(only_second, "x", "2").value == 1


def test_an_answer_is_checked_once_however_many_battles_it_is_in(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    real = verifier.verify
    monkeypatch.setattr(verifier, "verify", lambda spec, text: checked.append(text) or real(spec, text))
    judge = verifier.Verifier(9)
    judge.verdicts([Fight(n, 1, ("q",), NUMERIC, "", ("42",), (str(n),)) for n in range(5)])
    judge.grades([Case(1, 1, ("q",), NUMERIC, "", ("42",))])
    assert sorted(checked) == ["0", "1", "2", "3", "4", "42"]
