"""The gate: whether a retrained model may replace its parent, from what both did on the same items.

Nothing here reads a ledger or runs a model; `evalkit.retraining` measures and stores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evalkit.stats.intervals import clustered_mean
from evalkit.stats.paired_shares import non_inferiority_p, shares_difference
from evalkit.stats.ranks import critical_value

FloatArray = NDArray[np.float64]
Kind = Literal["improvement", "non_inferiority", "safety", "leak", "length", "speed", "battles"]
Decision = Literal["accepted", "refused"]
COSTS: tuple[Kind, ...] = ("length", "speed")
"""Kinds of which less is better."""
ALPHA = 0.05
POWER_Z = 0.8416212335729143  # of the normal distribution at a power of 80 %


@dataclass(frozen=True, eq=False)
class Measure:
    """What parent and candidate did on the same items; higher is better, but for `COSTS`.

    Attributes:
        name: What people read.
        kind: improvement must be shown; the others may not fall (`COSTS`: rise) by more than their margin.
        metric: What the values are.
        parent, candidate: Shape (items,); NaN where a request failed or an answer could not be graded.
        margin: As a share of 1; None for what is only reported.
        clusters: Labels of items that are alike, shape (items,); None for independent items.
    """

    name: str
    kind: Kind
    metric: str
    parent: FloatArray
    candidate: FloatArray
    margin: float | None = None
    clusters: NDArray[Any] | None = None


@dataclass(frozen=True, slots=True)
class GateTest:
    """One line of the evidence; `difference` is candidate less parent.

    Attributes:
        n: Items with both values; missing: items without.
        lower, upper: 95 % interval, two-sided; None for times.
        p_value: One-sided: of no improvement, or of a fall by the margin or more; adjusted by Holm's method among all
            tests that have a margin.
        passed: None for what is only reported.
        minimum_effect: Improvement: the smallest rise, else the smallest margin, that this many items would have shown
            four times in five (with a margin: if nothing had changed).
    """

    name: str
    kind: Kind
    metric: str
    n: int
    missing: int
    parent: float | None
    candidate: float | None
    difference: float | None
    lower: float | None
    upper: float | None
    margin: float | None
    p_value: float | None
    passed: bool | None
    minimum_effect: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate found.

    Attributes:
        reason: Why, in a sentence.
        advice: What to do next.
    """

    decision: Decision
    tests: tuple[GateTest, ...]
    reason: str
    advice: str

    def evidence(self) -> dict[str, Any]:
        """Returns what the ledger's table `gate` holds."""
        return {"tests": [asdict(test) for test in self.tests], "reason": self.reason, "advice": self.advice}


def decide(measures: Sequence[Measure]) -> Verdict:
    """Accepts a candidate that is better where it was trained to be and shown not to be worse elsewhere.

    - improvement: the 95 % interval of the paired difference lies above zero (each such measure);
    - all others with a margin: "worse by the margin or more" is rejected one-sided at 5 % after Holm's correction.
    Shares (all values 0 or 1) by Tango's score test, other values by the t test of paired differences with clustered
    errors. Few items prove nothing: a test that cannot tell refuses, and the advice says how many items would do.

    Args:
        measures: At least one of kind improvement.
    """
    tests = [_test(measure) for measure in measures]
    guarded = [i for i, m in enumerate(measures) if m.kind != "improvement" and m.margin is not None]
    adjusted = holm([1.0 if (p := tests[i].p_value) is None else p for i in guarded])
    for i, p in zip(guarded, adjusted, strict=True):
        tests[i] = _with(tests[i], p_value=p, passed=bool(p <= ALPHA))
    failed = [test for test in tests if test.passed is False]
    improved = any(test.kind == "improvement" for test in tests)
    if failed or not improved:
        return Verdict("refused", tuple(tests), _refusal(failed, improved), _advice(failed))
    gains = "; ".join(
        f"{t.name} from {t.parent:.2f} to {t.candidate:.2f} [{t.lower:+.2f}, {t.upper:+.2f}]"
        for t in tests
        if t.kind == "improvement"
    )
    held = f"; none of {len(guarded)} other tests fell by its margin" if guarded else ""
    return Verdict("accepted", tuple(tests), f"Better: {gains}{held}.", "The candidate may replace its parent.")


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts p-values for their number: p_(i) becomes max over j <= i of (m - j + 1) p_(j), at most 1.

    Holm 1979, Scandinavian Journal of Statistics 6:65-70.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def _with(test: GateTest, **changed: Any) -> GateTest:
    return GateTest(**{**asdict(test), **changed})


def _test(measure: Measure) -> GateTest:
    both = np.isfinite(measure.parent) & np.isfinite(measure.candidate)
    old, new = measure.parent[both], measure.candidate[both]
    n, missing = int(both.sum()), int((~both).sum())
    head = (measure.name, measure.kind, measure.metric, n, missing)
    judged = measure.kind == "improvement" or measure.margin is not None
    if n < 2:
        return GateTest(*head, None, None, None, None, None, measure.margin, None, False if judged else None, None)
    means = (float(old.mean()), float(new.mean()), float((new - old).mean()))
    if measure.kind == "speed":  # answers of a batch share its time: their spread says nothing
        return GateTest(*head, *means, None, None, measure.margin, None, None, None)
    codes = None if measure.clusters is None else np.asarray(measure.clusters)[both]
    alike = codes is not None and len(np.unique(codes)) < n
    binary = bool(np.isin(old, (0, 1)).all() and np.isin(new, (0, 1)).all())
    if measure.kind in COSTS:
        below, above, found_p, deviation = _means(old - new, codes, measure)
        lower, upper = -above, -below
    elif binary and not alike:
        lower, upper, found_p, deviation = _shares(old, new, measure)
    else:
        lower, upper, found_p, deviation = _means(new - old, codes, measure)
    alpha = ALPHA / 2 if measure.kind == "improvement" else ALPHA
    smallest = (critical_value(1 - 2 * alpha, float("inf")) + POWER_Z) * deviation
    passed = lower > 0 if measure.kind == "improvement" else None  # the others are decided together
    p_value = found_p if judged else None
    return GateTest(*head, *means, lower, upper, measure.margin, p_value, passed, smallest)


def _shares(old: FloatArray, new: FloatArray, measure: Measure) -> tuple[float, float, float, float]:
    n, only_new, only_old = len(old), int((new > old).sum()), int((new < old).sum())
    found = shares_difference(only_new, only_old, n)
    p_value = non_inferiority_p(only_new, only_old, n, measure.margin or 0.0)
    # One item more than changed: that none did does not prove that none can.
    return found.lower, found.upper, p_value, float(np.sqrt(only_new + only_old + 1) / n)


def _means(change: FloatArray, codes: NDArray[Any] | None, measure: Measure) -> tuple[float, float, float, float]:
    from scipy.special import stdtr

    mean = clustered_mean(change, codes)
    if not mean.se > 0:  # all changed alike: the interval is a point, unless there is one cluster only
        p_value = float(mean.value + (measure.margin or 0.0) <= 0) if mean.n_clusters > 1 else 1.0
        return mean.lower, mean.upper, p_value, 0.0
    t = (mean.value + (measure.margin or 0.0)) / mean.se
    return mean.lower, mean.upper, float(stdtr(mean.df, -t)), mean.se


def _refusal(failed: Sequence[GateTest], improved: bool) -> str:
    if not improved:
        return "Refused: nothing was measured that the candidate should do better."
    said = [_why(test) for test in failed[:3]]
    more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
    return f"Refused: {'; '.join(said)}{more}."


def _why(test: GateTest) -> str:
    if test.difference is None:
        return f"{test.name} was not measured on both ({test.n} items with both values, {test.missing} without)"
    change = f"{test.parent:.2f} to {test.candidate:.2f} [{test.lower:+.2f}, {test.upper:+.2f}]"
    if test.kind == "improvement":
        return f"{test.name} did not clearly improve, {change}"
    cost = test.kind in COSTS
    if got_worse(test):
        return f"{test.name} {'rose' if cost else 'fell'}, {change}, margin {test.margin:g}"
    return f"{test.name}: {test.n} items cannot rule out a {'rise' if cost else 'fall'} by {test.margin:g}, {change}"


def got_worse(test: GateTest) -> bool:
    """Tells whether a test that did not pass shows that something got worse, rather than that there were too few items
    to know."""
    if test.difference is None or test.lower is None or test.upper is None or test.margin is None:
        return False
    if test.kind in COSTS:
        return test.lower > 0 or test.difference >= test.margin
    return test.upper < 0 or test.difference <= -test.margin


def _items_needed(test: GateTest) -> int:
    """How many items would show, four times in five, that what was measured is no fall by the margin."""
    better = (test.difference or 0.0) * (-1 if test.kind in COSTS else 1)
    room = (test.margin or 0.0) + min(better, 0.0)
    return max(int(np.ceil(test.n * ((test.minimum_effect or 0.0) / room) ** 2)), test.n + 1)


def _advice(failed: Sequence[GateTest]) -> str:
    said = []
    if any(t.kind == "improvement" for t in failed):
        said.append("Train on more rows, longer, or with another recipe: the held-out slice did not clearly improve.")
    if any(t.kind == "leak" and got_worse(t) for t in failed):
        said.append(
            "What was trained shows where nobody asked for it: give contrast rows more weight; a merge with the parent "
            "(evalkit merge) then takes away most of what is left."
        )
    if any(t.kind not in ("improvement", "leak") and got_worse(t) for t in failed):
        said.append("What it lost can be won back: add replay rows, or merge it with its parent (evalkit merge).")
    short = [t for t in failed if t.kind != "improvement" and not got_worse(t) and t.difference is not None]
    if short:
        worst = max(short, key=_items_needed)
        said.append(
            f"{worst.name} has too few items to tell: about {_items_needed(worst):,} would do, or a larger margin."
        )
    if any(t.difference is None for t in failed):
        said.append("Mend the requests that failed and run the gate again.")
    return " ".join(said)
