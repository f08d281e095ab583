"""Scoring of the starter tasks in lm-eval: each response goes to the verifier that its item names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.verify import Check, verify


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Score a response as right or wrong.

    Args:
        doc: The item; `verify` is its spec.
        results: The response's text, alone in a list.

    Returns:
        `passed`: 1.0, 0.0, or NaN where the response could not be verified, so that it is never taken for a wrong one.
    """
    return {"passed": _number(_check(doc, results).passed)}


def process_results_with_score(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Score a response whose verifier also knows parts: `passed` as above and `score`, the share that is right."""
    check = _check(doc, results)
    return {"passed": _number(check.passed), "score": _number(check.score)}


def _check(doc: Mapping[str, Any], results: Sequence[str]) -> Check:
    return verify(doc["verify"], results[0])


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
