"""Juries: the rules on small tables, what is said in the row, weights from the ledger."""

from __future__ import annotations

import pytest

from judges.jury import Jury, jury_verdicts

A, B, TIE, BAD = range(4)


@pytest.mark.parametrize(
    ("votes", "winner"),
    [
        ([A, A, B], "model_a"),
        ([A, B], "tie"),
        ([A, B, TIE], "tie"),
        ([BAD, BAD, TIE], "both_bad"),
        ([B, -1, -1], "model_b"),
        ([A, A, B, B], "tie"),
        ([-1, -1], None),
    ],
)
def test_the_strict_majority_of_readable_votes_wins(votes: list[int], winner: str | None) -> None:
    jury = Jury("jury", tuple(f"m{i}" for i in range(len(votes))))
    (found,) = jury_verdicts([votes], [5], jury, 9, "overall")
    assert (found.battle_id, found.annotator_id, found.winner, found.criterion) == (5, 9, winner, "overall")
    assert (found.error is None) == (winner is not None)
