"""The gate's decision on what two models did."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trainers.gate import GateTest, Measure, decide, got_worse, holm

Values = np.ndarray[Any, np.dtype[np.float64]]


def shares(n: int, old: int, new: int) -> tuple[Values, Values]:
    """Items of which the parent passes the first `old`, the candidate the first `new`."""
    place = np.arange(n)
    return (place < old).astype(float), (place < new).astype(float)


def measure(kind: Any, n: int, old: int, new: int, margin: float | None = None, name: str = "") -> Measure:
    return Measure(name or kind, kind, "passed", *shares(n, old, new), margin)


FIXED = measure("improvement", 24, 1, 20, name="JSON, held out")


def only(tests: tuple[GateTest, ...], name: str) -> GateTest:
    return next(test for test in tests if test.name == name)


def test_accepts_a_fix_that_harms_nothing() -> None:
    verdict = decide([FIXED, measure("non_inferiority", 200, 120, 120, 0.05, "knowledge")])
    assert verdict.decision == "accepted"
    assert "JSON, held out from 0.04 to 0.83" in verdict.reason
    assert all(test.passed for test in verdict.tests)


def test_refuses_a_fix_that_costs_something_else() -> None:
    verdict = decide([FIXED, measure("non_inferiority", 200, 120, 90, 0.05, "knowledge")])
    assert verdict.decision == "refused"
    assert "knowledge fell, 0.60 to 0.45" in verdict.reason
    assert "merge it with its parent" in verdict.advice
    assert got_worse(only(verdict.tests, "knowledge"))


def test_refuses_what_did_not_improve() -> None:
    verdict = decide([measure("improvement", 24, 5, 7, name="JSON, held out")])
    assert verdict.decision == "refused"
    assert "did not clearly improve" in verdict.reason
    assert "held-out slice" in verdict.advice


def test_few_items_prove_nothing_and_the_advice_says_how_many_would() -> None:
    """Ten unchanged items cannot rule out a fall by 5 points; the stated number can."""
    verdict = decide([FIXED, measure("non_inferiority", 10, 6, 6, 0.05, "reading")])
    assert verdict.decision == "refused"
    assert "reading: 10 items cannot rule out a fall by 0.05" in verdict.reason
    test = only(verdict.tests, "reading")
    assert not got_worse(test)
    words = verdict.advice.split()
    needed = int(words[words.index("about") + 1].replace(",", ""))
    assert decide([FIXED, measure("non_inferiority", needed, 6, 6, 0.05)]).decision == "accepted"


def test_a_leak_is_named_and_its_remedy() -> None:
    verdict = decide([FIXED, measure("leak", 64, 64, 12, 0.1, "no leak (in lowercase only)")])
    assert verdict.decision == "refused"
    assert "contrast rows" in verdict.advice


def test_what_has_no_margin_is_only_reported() -> None:
    slower = Measure("seconds", "speed", "seconds", np.full(30, 1.0), np.linspace(1.5, 2.0, 30))
    verdict = decide([FIXED, slower])
    assert verdict.decision == "accepted"
    test = only(verdict.tests, "seconds")
    assert (test.passed, test.p_value, test.margin, test.lower) == (None, None, None, None)
    assert (test.parent, test.candidate) == (1.0, pytest.approx(1.75))


@pytest.mark.parametrize(("longest", "decision"), [(1.8, "accepted"), (3.0, "refused")])
def test_answers_may_get_longer_by_their_margin(longest: float, decision: str) -> None:
    longer = Measure("tokens", "length", "tokens", np.full(30, 1.0), np.linspace(0.8, longest, 30), 0.5)
    verdict = decide([FIXED, longer])
    test = only(verdict.tests, "tokens")
    assert verdict.decision == decision
    assert test.difference == pytest.approx((0.8 + longest) / 2 - 1)
    assert test.lower < test.difference < test.upper
    if decision == "refused":
        assert "tokens rose, 1.00 to 1.90" in verdict.reason and got_worse(test)


def test_failures_are_counted_and_nothing_measured_refuses() -> None:
    old, new = shares(40, 20, 20)
    new[:] = np.nan
    verdict = decide([FIXED, Measure("knowledge", "non_inferiority", "passed", old, new, 0.1)])
    assert verdict.decision == "refused"
    assert only(verdict.tests, "knowledge").missing == 40
    assert "Mend the requests" in verdict.advice


def test_without_a_slice_nothing_can_be_accepted() -> None:
    assert decide([measure("non_inferiority", 500, 300, 300, 0.05)]).decision == "refused"


def test_scores_that_are_no_shares_take_the_t_test_and_clusters_widen_it() -> None:
    rng = np.random.default_rng(0)
    old = rng.uniform(0.2, 0.6, 60)
    new = np.clip(old + np.repeat(rng.normal(0.1, 0.1, 12), 5), 0, 1)
    alone = decide([Measure("score", "improvement", "score", old, new)]).tests[0]
    together = decide([Measure("score", "improvement", "score", old, new, None, np.repeat(np.arange(12), 5))]).tests[0]
    assert alone.lower is not None
    assert together.lower is not None
    assert together.lower < alone.lower


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_a_worse_candidate_is_rarely_accepted() -> None:
    """A candidate that is worse by just the margin on one of five tasks passes in at most 5 % of draws."""
    rng, passed = np.random.default_rng(3), 0
    for _ in range(400):
        found = [FIXED]
        for place in range(5):
            old = rng.random(150) < 0.7
            drop, rise = (0.12, 0.02) if place == 0 else (0.05, 0.05)
            draw = rng.random(150)
            new = np.where(draw < drop / 0.7, False, old) | (~old & (draw < rise / 0.3))
            found.append(Measure(str(place), "non_inferiority", "passed", old * 1.0, new * 1.0, 0.1))
        passed += decide(found).decision == "accepted"
    assert passed / 400 <= 0.07
