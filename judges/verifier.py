"""The verifier as a judge: says of answers what the prompt's own checks say, in the rows that every judge gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.store import GradeRow, VerdictRow
from evalkit.store.rows import Winner
from evalkit.verify import Check, verify
from evalkit.verify.spec import spec_of
from judges.fight import Case, Fight

DEFINITION: Mapping[str, Any] = {"kind": "verifier", "version": 1}
CRITERION = "overall"


class Verifier:
    """Checks each answer once, in however many battles it is.

    Args:
        annotator_id: The verifier's row.
    """

    def __init__(self, annotator_id: int) -> None:
        self.annotator_id = annotator_id
        self._checked: dict[tuple[int, tuple[str, ...], str], Check] = {}

    def verdicts(self, fights: Sequence[Fight]) -> list[VerdictRow]:
        """Gives a verdict on every battle whose prompt can be verified.

        The better score wins; equal scores are a tie if both pass and both_bad if both fail.

        Args:
            fights: Battles with texts.

        Returns:
            Verdicts; one that cannot be given (no sandbox) carries the reason as its error. A battle without a spec
            gets none.
        """
        rows = []
        for fight in fights:
            spec = spec_of(fight.reference, len(fight.turns))
            if spec is None:
                continue
            a = self._check(fight, spec, fight.a[-1])
            b = self._check(fight, spec, fight.b[-1])
            winner: Winner | None = None
            error = None
            if a.passed is None or b.passed is None:
                error = a.reason if a.passed is None else b.reason
            elif (a.score or 0.0) != (b.score or 0.0):
                winner = "model_a" if (a.score or 0.0) > (b.score or 0.0) else "model_b"
            else:
                winner = "tie" if a.passed else "both_bad"
            said = f"A: {a.reason}. B: {b.reason}."
            rows.append(
                VerdictRow(fight.battle_id, self.annotator_id, "", winner, CRITERION, rationale=said, error=error)
            )
        return rows

    def grades(self, cases: Sequence[Case]) -> list[GradeRow]:
        """Gives a grade, 0 to 1, to every answer whose prompt can be verified.

        Args:
            cases: Answers.

        Returns:
            Grades with the reason in `detail`; one that cannot be given carries it as its error. An answer to a prompt
            without a spec gets none.
        """
        rows = []
        for case in cases:
            spec = spec_of(case.reference, len(case.turns))
            if spec is None:
                continue
            found = self._check(case, spec, case.answer[-1])
            value = None if found.passed is None else found.score if found.score is not None else float(found.passed)
            error = found.reason if value is None else None
            detail = {"rationale": found.reason, "passed": found.passed}
            rows.append(GradeRow(case.response_id, self.annotator_id, CRITERION, value, error, detail=detail))
        return rows

    def _check(self, of: Fight | Case, spec: Mapping[str, Any], text: str) -> Check:
        place = (of.item_id, of.turns, text)
        if place not in self._checked:
            self._checked[place] = verify(spec, text)
        return self._checked[place]
