"""Scoring of math500: the final answer compared as a mathematical expression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.errors import UserError
from evalkit.verify.numeric import check_numeric


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Scores one response 1.0 or 0.0.

    Raises:
        UserError: The comparison ran out of time: the response is neither right nor wrong.
    """
    check = check_numeric({"verifier": "numeric", "answer": doc["answer"]}, results[0])
    if check.passed is None:
        raise UserError(check.reason)
    return {"exact_match": float(check.passed)}
