"""Numbers read exactly, expressions through math-verify, a time limit that holds in any thread."""

from __future__ import annotations

import ast
import gzip
import json
import os
import threading
import time
from fractions import Fraction
from pathlib import Path

import pytest

from evalkit.errors import UserError
from evalkit.verify import Check, verify
from evalkit.verify.numeric import parse_number


@pytest.mark.parametrize(
    ("text", "decimal_comma", "value"),
    [
        ("42", False, Fraction(42)),
        ("1,234.50", False, Fraction("1234.5")),
        ("12,345,678", False, Fraction(12345678)),
        ("$1,234", False, Fraction(1234)),
        ("-$5", False, Fraction(-5)),
        ("−7", False, Fraction(-7)),
        (".5", False, Fraction(1, 2)),
        ("5.", False, Fraction(5)),
        ("1 1/2", False, Fraction(3, 2)),
        ("-3/4", False, Fraction(-3, 4)),
        ("1.5e3", False, Fraction(1500)),
        ("42 %", False, Fraction(42)),
        ("0.1", False, Fraction(1, 10)),
        ("1.234,5", True, Fraction("1234.5")),
        ("1.234", True, Fraction(1234)),
        ("3,5", True, Fraction(7, 2)),
        ("3.5", True, Fraction(7, 2)),
        ("12 €", True, Fraction(12)),
        ("3,5", False, None),
        ("1,23", False, None),
        ("1/0", False, None),
        ("1, 2", False, None),
        ("12:30", False, None),
        ("", False, None),
        ("twelve", False, None),
    ],
)
def test_parse_number(text: str, decimal_comma: bool, value: Fraction | None) -> None:
    assert parse_number(text, decimal_comma) == value


@pytest.mark.parametrize(
    "text",
    [
        "12",
        "6 + 6 = 12",
        "#### 12",
        r"Therefore \boxed{12}.",
        "**Answer:** 12",
        "Answer: 12 apples, 3 more than 9",
        "Die Antwort lautet 12.",
        "答案是12个",
        "twelve, that is 12.0",
        "24/2",
    ],
)
def test_plain_answers_are_read(text: str) -> None:
    assert verify({"verifier": "numeric", "answer": "12"}, text).passed is True


@pytest.mark.parametrize("text", ["13", "12 - 1 = 11", "-12", "12.01", "120", "I do not know", "Answer: 11, not 12"])
def test_wrong_answers_fail(text: str) -> None:
    assert verify({"verifier": "numeric", "answer": "12"}, text).passed is False


def test_tolerance_and_german_writing() -> None:
    assert verify({"verifier": "numeric", "answer": "3.14", "tolerance": 0.01}, "3.1416").passed is True
    assert verify({"verifier": "numeric", "answer": "3.14"}, "3.1416").passed is False
    german = {"verifier": "numeric", "answer": "1.234,5", "decimal_comma": True}
    assert verify(german, "Das sind 1234,50 €.").passed is True
    assert verify(german, "Das sind 1.234 €.").passed is False


def test_expressions_go_to_math_verify() -> None:
    spec = {"verifier": "numeric", "answer": r"\frac{\sqrt{3}}{2}"}
    assert verify(spec, r"The answer is $\frac{\sqrt3}{2}$.").passed is True
    assert verify(spec, r"The answer is $\frac{\sqrt2}{2}$.").passed is False
    assert verify(spec, "I do not know.").passed is False
    assert verify({"verifier": "numeric", "answer": "42"}, r"\boxed{\frac{84}{2}}").passed is True
    assert verify({"verifier": "numeric", "answer": "x^2+1"}, "Answer: 1+x^2").passed is True
    assert verify({"verifier": "numeric", "answer": r"\{1,2\}"}, r"$\{2, 1\}$").passed is True


def test_an_answer_that_is_no_mathematics_is_a_malformed_spec() -> None:
    with pytest.raises(UserError, match="'answer'"):
        verify({"verifier": "numeric", "answer": ""}, "12")


def test_the_time_limit_holds_outside_the_main_thread_and_the_next_check_works() -> None:
    checks: list[tuple[Check, float]] = []

    def work() -> None:
        started = time.monotonic()
        tower = {"verifier": "numeric", "answer": "9", "time_limit_s": 0.5}
        checks.append((verify(tower, r"$9^{9^{9^{9^9}}}$"), time.monotonic() - started))

    # started here, so that the child's own start is not in the time measured
    assert verify({"verifier": "numeric", "answer": "x"}, "$x$").passed is True
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    check, seconds = checks[0]
    assert check.passed is None and check.score is None and "0.5 s" in check.reason
    assert seconds < 5
    assert verify({"verifier": "numeric", "answer": "x"}, "$x$").passed is True


def test_a_response_is_never_evaluated_as_code(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for text in (f"__import__('os').system('touch {mark}')", rf"$\text{{__import__('os').system('touch {mark}')}}$"):
        verify({"verifier": "numeric", "answer": "x+1"}, text)
        verify({"verifier": "numeric", "answer": "7"}, text)
    assert not mark.exists()


DATA = Path(os.environ.get("EVALKIT_SHARED_DATA", Path(__file__).parents[3] / "shared/data"))
SOLUTIONS = DATA / "benchmarks/gsm8k/example_model_solutions.jsonl.gz"


@pytest.mark.skipif(not SOLUTIONS.exists(), reason=f"no {SOLUTIONS.name} in the shared data")
def test_real_solutions_are_graded_as_published() -> None:
    with gzip.open(SOLUTIONS, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert len(rows) == 1319
    for model, correct in (("175b_verification", 742), ("6b_finetuning", 286)):
        solutions = [ast.literal_eval(row[model]) if isinstance(row[model], str) else row[model] for row in rows]
        golds = [row["ground_truth"].rsplit("A:", 1)[1].strip() for row in rows]
        checks = [
            verify({"verifier": "numeric", "answer": gold}, solution["solution"]).passed
            for gold, solution in zip(golds, solutions, strict=True)
        ]
        assert checks == [solution["is_correct"] for solution in solutions]
        assert sum(map(bool, checks)) == correct
