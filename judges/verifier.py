"""The verifier as a judge: compares what the prompt's own checks say of two answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.store import VerdictRow
from evalkit.store.rows import Winner
from evalkit.verify import verify
from judges.fight import Fight

DEFINITION: Mapping[str, Any] = {"kind": "verifier", "version": 1}


def spec_of(reference: Any) -> Mapping[str, Any] | None:
    """Returns an item's verifier spec: its reference's `verify`, or its benchmark document's; None if it has none."""
    if not isinstance(reference, Mapping):
        return None
    doc = reference.get("doc")
    spec = reference.get("verify") or (doc.get("verify") if isinstance(doc, Mapping) else None)
    return spec if isinstance(spec, Mapping) else None


def judge(fights: Sequence[Fight], annotator_id: int) -> list[VerdictRow]:
    """Gives a verdict on every battle whose prompt can be verified.

    The better score wins; equal scores are a tie if both pass and both_bad if both fail.

    Args:
        fights: Battles with texts.
        annotator_id: The verifier's row.

    Returns:
        Verdicts; one that cannot be given (no sandbox) carries the reason as its error. A battle without a spec gets
        none.
    """
    verdicts = []
    for fight in fights:
        spec = spec_of(fight.reference)
        if spec is None:
            continue
        a, b = verify(spec, fight.text_a), verify(spec, fight.text_b)
        winner: Winner | None = None
        error = None
        if a.passed is None or b.passed is None:
            error = a.reason if a.passed is None else b.reason
        elif (a.score or 0.0) != (b.score or 0.0):
            winner = "model_a" if (a.score or 0.0) > (b.score or 0.0) else "model_b"
        else:
            winner = "tie" if a.passed else "both_bad"
        verdicts.append(
            VerdictRow(
                fight.battle_id, annotator_id, "", winner, rationale=f"A: {a.reason}. B: {b.reason}.", error=error
            )
        )
    return verdicts
