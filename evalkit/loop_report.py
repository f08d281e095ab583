"""Top floor: the report of a loop: rounds, data used, what changed, what was learned. Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from evalkit.errors import UserError
from evalkit.store.ledger import Ledger
from evalkit.store.schema import TrainingRow

if TYPE_CHECKING:
    from evalkit.loop import LoopResult, Round
    from trainers.gate import GateTest

KINDS = {
    "improvement": "Slice, held out",
    "non_inferiority": "Capability",
    "leak": "Alignment",
    "safety": "Safety",
    "battles": "Battles",
    "length": "Efficiency",
    "speed": "Efficiency",
}


def write_loop_report(ledger: Ledger, name: str, result: LoopResult, path: Path) -> None:
    """Writes what a loop did.

    Raises:
        UserError: The file cannot be written.
    """
    parts = [
        f"# {name}",
        f"The best model is **{result.best.label}** (`{result.best.model}`). Stopped: {result.stopped}.",
        "## Rounds",
        _rounds(result.rounds),
        *(_round(ledger, one) for one in result.rounds),
        "## What was learned",
        _learned(result.rounds),
        "## Recommendations",
        _recommendations(result),
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"report: {path} cannot be written: {error.strerror}") from error


def _rounds(rounds: Sequence[Round]) -> str:
    rows = [
        (one.number, one.slice_name, one.attempt, one.made.decision, _share(one.before), _share(one.after),
         _share(one.score_before), _share(one.score_after))
        for one in rounds
    ]  # fmt: skip
    head = ("round", "slice", "attempt", "gate", "slice before", "after", "all benchmarks before", "after")
    return _table(head, rows)


def _round(ledger: Ledger, one: Round) -> str:
    verdict = one.made.verdict
    parts = [f"## Round {one.number}: {one.slice_name}, {one.attempt}", _data(ledger, one.made.training_set_id)]
    if verdict is not None:
        rows = [
            (KINDS[test.kind], test.name, test.n, test.missing, _share(test.parent), _share(test.candidate),
             _change(test.difference), _interval(test), _share(test.margin),
             {True: "passed", False: "failed", None: "reported"}[test.passed])
            for test in verdict.tests
        ]  # fmt: skip
        head = ("", "test", "n", "errors", "before", "after", "change", "95% interval", "margin", "")
        parts += [_table(head, rows), f"{verdict.reason} {verdict.advice}"]
    return "\n\n".join(parts)


def _data(ledger: Ledger, training_set_id: int) -> str:
    query = sa.select(TrainingRow.provenance).where(TrainingRow.training_set_id == training_set_id)
    with ledger.engine.connect() as connection:
        sources = Counter(str(row.get("source", "unknown")) for row in connection.scalars(query))
    rows = ", ".join(f"{count} {source}" for source, count in sources.most_common())
    return f"Trained on {sum(sources.values())} rows (training set {training_set_id}): {rows}."


def _learned(rounds: Sequence[Round]) -> str:
    if not rounds:
        return "No slice was retrained on."
    said = []
    for one in rounds:
        lost = [] if one.made.verdict is None else [t.name for t in one.made.verdict.tests if t.passed is False]
        outcome = f"{one.slice_name} ({one.attempt}) went from {_share(one.before)} to {_share(one.after)} held out"
        said.append(f"- {outcome}; {'the gate passed' if not lost else 'what failed: ' + ', '.join(lost)}.")
    return "\n".join(said)


def _recommendations(result: LoopResult) -> str:
    said = [f"- Use `{result.best.model}`."] if any(r.made.decision == "accepted" for r in result.rounds) else []
    for one in result.rounds:
        if one.made.decision == "refused" and one.made.verdict is not None:
            said.append(f"- {one.slice_name}, {one.attempt}: {one.made.verdict.advice}")
    if result.slices_left:
        said.append(f"- Failing slices of the last model evaluated: {', '.join(result.slices_left[:10])}.")
    return "\n".join(said) or "- None."


def _table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |" for line in lines)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _interval(test: GateTest) -> str:
    return "" if test.lower is None else f"{_change(test.lower)} to {_change(test.upper)}"


def _change(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}"
