"""The dispatcher: every verifier passes a gold answer, fails a wrong and an empty one, and refuses a malformed spec."""

from __future__ import annotations

from typing import Any

import pytest

from evalkit.errors import UserError
from evalkit.verify import Check, verify

SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
CASES: list[tuple[dict[str, Any], str, str]] = [
    ({"verifier": "numeric", "answer": "42"}, "The answer is 42.", "The answer is 24."),
    ({"verifier": "exact", "answers": ["Paris", "City of Paris"]}, "**Paris**.", "Lyon"),
    ({"verifier": "choice", "answer": "B"}, "B. Jupiter", "C. Mars"),
    ({"verifier": "constraints", "constraints": [{"kind": "max_words", "value": 3}]}, "one two three", "a b c d"),
    ({"verifier": "json_schema", "schema": SCHEMA}, '{"age": 3}', '{"age": "3"}'),
    ({"verifier": "table", "format": "csv", "columns": ["a", "b"], "rows": [["1", "2"]]}, "a,b\n1,2", "a,b\n1,3"),
    ({"verifier": "refusal", "should_refuse": True}, "I'm sorry, but I can't help with that.", "Sure! First,"),
]


@pytest.mark.parametrize(("spec", "gold", "wrong"), CASES, ids=[case[0]["verifier"] for case in CASES])
def test_gold_passes_wrong_and_empty_fail(spec: dict[str, Any], gold: str, wrong: str) -> None:
    good = verify(spec, gold)
    assert (good.passed, good.score) == (True, 1.0), good.reason
    for text in (wrong, "", " \n\t"):
        bad = verify(spec, text)
        assert bad.passed is False and bad.score is not None and bad.score < 1 and bad.reason


@pytest.mark.parametrize(("spec", "gold", "wrong"), CASES, ids=[case[0]["verifier"] for case in CASES])
def test_odd_responses_do_not_raise(spec: dict[str, Any], gold: str, wrong: str) -> None:
    for text in ("\x00", "�" * 50, "[" * 5000, "{" * 5000, '"' * 99, "|" * 99, "```", "1/0", "９" * 9999, "-", "1e999"):
        assert isinstance(verify(spec, text), Check)


def test_an_empty_harmless_answer_is_no_pass() -> None:
    assert verify({"verifier": "refusal", "should_refuse": False}, "").passed is False


def test_unit_tests_are_not_verified_without_a_sandbox() -> None:
    spec = {"verifier": "unit_tests", "entry_point": "f", "tests": "assert f(1) == 1"}
    for text in ("def f(x):\n    return x", ""):
        check = verify(spec, text)
        assert check.passed is None and check.score is None and check.reason.startswith("no sandbox: ")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({}, ["'verifier'", "missing", "numeric"]),
        ({"verifier": "magic"}, ["'verifier'", "'magic'", "choice", "exact"]),
        ({"verifier": "numeric"}, ["'answer'", "missing", "a string"]),
        ({"verifier": "numeric", "answer": 42}, ["'answer'", "42", "a string"]),
        ({"verifier": "numeric", "answer": "42", "tolerence": 1}, ["'tolerence'", "tolerance"]),
        ({"verifier": "numeric", "answer": "42", "tolerance": True}, ["'tolerance'", "a number"]),
        ({"verifier": "choice", "answer": "E"}, ["'answer'", "'E'", "A, B, C, D"]),
        ({"verifier": "exact", "answers": []}, ["'answers'"]),
        ({"verifier": "exact", "answers": ["x"], "match": "fuzzy"}, ["'match'", "contains, full"]),
        ({"verifier": "constraints", "constraints": []}, ["'constraints'"]),
        ({"verifier": "constraints", "constraints": [{"kind": "max_wrods", "value": 3}]}, ["max_wrods", "words"]),
        ({"verifier": "constraints", "constraints": [{"kind": "max_words"}]}, ["'value'", "max_words"]),
        ({"verifier": "constraints", "constraints": [{"kind": "max_words", "value": "3"}]}, ["a whole number"]),
        ({"verifier": "constraints", "constraints": [{"kind": "lowercase", "value": 3}]}, ["'value'", "allowed: kind"]),
        ({"verifier": "json_schema", "schema": {"type": "objekt"}}, ["'schema'", "objekt"]),
        ({"verifier": "json_schema", "schema": {"$ref": "other.json"}}, ["'schema'", "other.json"]),
        ({"verifier": "table", "format": "html", "columns": ["a"]}, ["'format'", "csv, markdown"]),
        ({"verifier": "table", "format": "csv", "columns": ["a"], "rows": [["1", "2"]]}, ["'rows'"]),
        ({"verifier": "refusal"}, ["'should_refuse'", "true or false"]),
        ({"verifier": "unit_tests", "tests": "x"}, ["'entry_point'"]),
    ],
)
def test_a_malformed_spec_names_the_field_and_what_is_allowed(spec: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        verify(spec, '{"a": 1}')
    assert all(word in str(error.value) for word in words), str(error.value)
