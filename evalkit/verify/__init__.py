"""Verifiers: pure functions from an item's spec and a response's text to a `Check`.

Benchmarks use them as metrics, judges as jurors, trainers as rewards. A spec is plain JSON in the item's reference:

    >>> verify({"verifier": "numeric", "answer": "42"}, "6 times 7 is 42.")
    Check(passed=True, score=1.0, reason='read 42, expected 42')
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from evalkit.verify.constraints import check_constraints
from evalkit.verify.exact import check_choice, check_exact
from evalkit.verify.numeric import check_numeric
from evalkit.verify.refusal import check_refusal
from evalkit.verify.schema import check_json_schema, check_table
from evalkit.verify.spec import Check, field, one_of, only, unverified, verdict

__all__ = ["Check", "verify"]


def check_unit_tests(spec: Mapping[str, Any], text: str) -> Check:
    """Check a function by its tests: not verified, since running it needs the sandbox.

    Args:
        spec: `entry_point`: the function's name. `tests`: Python assertions that call it.
        text: The response.

    Raises:
        UserError: If the spec is malformed.
    """
    only(spec, ("verifier", "entry_point", "tests"))
    entry_point = field(spec, "entry_point", str)
    field(spec, "tests", str)
    return unverified(
        f"no sandbox: the tests of {entry_point}() were not run, since code from a model never runs without one"
    )


VERIFIERS: dict[str, Callable[[Mapping[str, Any], str], Check]] = {
    "choice": check_choice,
    "constraints": check_constraints,
    "exact": check_exact,
    "json_schema": check_json_schema,
    "numeric": check_numeric,
    "refusal": check_refusal,
    "table": check_table,
    "unit_tests": check_unit_tests,
}


def verify(spec: Mapping[str, Any], response_text: str) -> Check:
    """Verify a response.

    Args:
        spec: `verifier`: one of `VERIFIERS`; its other fields are that verifier's own, see the `check_` functions.
        response_text: What the model said. An empty text fails (where the verifier can verify at all).

    Returns:
        The Check; `passed` is None where the response could not be verified, and `reason` says why.

    Raises:
        UserError: If the verifier is unknown or the spec malformed; it names the field and what is allowed.
    """
    check = VERIFIERS[one_of(spec, "verifier", VERIFIERS)](spec, response_text)
    if check.passed is not None and not response_text.strip():
        return verdict(False, "the response is empty")
    return check
