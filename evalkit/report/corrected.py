"""A judge's board corrected with the human votes that exist, beside the board as the judge alone would have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import sqlalchemy as sa

from evalkit.errors import UserError
from evalkit.report.board import Board, jurors
from evalkit.report.judges import verdicts
from evalkit.report.reads import finite, judges
from evalkit.store.ledger import Ledger
from evalkit.store.reading import model_names
from evalkit.store.schema import Tally

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

DEFINITION = (
    "raw_rating: from the verdicts of the judge alone; rating: what humans' votes on all these battles would give, "
    "estimated by PPI++ from the judge's verdicts on all and the humans' on some, provided that those are a random "
    "sample; shift: rating less raw_rating; human_votes: battles of the model with a human vote. Both boards have the "
    "same mean over the models that are on both."
)


@dataclass(frozen=True, slots=True)
class CorrectedRow:
    """One model.

    Attributes:
        rating, lower, upper: Corrected, Elo points; None for a model that the human votes do not link to the others.
        raw_rating, raw_lower, raw_upper: From the judge alone; None where it cannot be rated.
        shift: rating less raw_rating.
        human_votes: Battles of the model with a human vote.
    """

    model: str
    rating: float | None
    lower: float | None
    upper: float | None
    raw_rating: float | None
    raw_lower: float | None
    raw_upper: float | None
    shift: float | None
    human_votes: int


@dataclass(frozen=True, slots=True)
class CorrectedTable:
    """A corrected board, best first.

    Attributes:
        judges, humans: Whose votes; several judges count with their mean, and so do several humans.
        power: Weight of the judge's verdicts, 0 to 1: 0 is the humans' board alone.
        n: Battles, failures included; n_labelled of them have a human vote, n_failed no readable verdict of the judge.
    """

    rows: tuple[CorrectedRow, ...]
    judges: tuple[str, ...]
    humans: int
    criterion: str
    method: str
    ties: str
    reference: str
    confidence: float
    power: float
    n: int
    n_labelled: int
    n_failed: int
    definition: str
    warnings: tuple[str, ...]


def correct(
    votes: pd.DataFrame,
    role: np.ndarray[tuple[int], np.dtype[np.str_]],
    *,
    criterion: str = "",
    anchor: str | None = None,
) -> CorrectedTable:
    """Rates models from a judge's votes, raw and corrected by humans' (`evalkit.stats.ppi_bradley_terry`).

    Battles on one item count as alike.

    Args:
        votes: Votes frame with item_id, model_a, model_b, winner, annotator.
        role: judge or human, or anything else for votes that do not count; shape (votes,).
        criterion: What was judged; only said.
        anchor: Model whose rating is 1000; the mean of the rated models if None.

    Raises:
        UserError: The judge or the humans have no votes, or the anchor is not rated.
    """
    from evalkit.stats import ppi_bradley_terry

    used = votes[(role == "judge") | (role == "human")].reset_index(drop=True)
    roles = role[(role == "judge") | (role == "human")]
    for wanted, what in (("judge", "verdict of a judge"), ("human", "human vote")):
        if not (roles == wanted).any():
            raise UserError(f"there is no {what} to make a corrected board with; see --judge and --humans.", 2)
    # Roles before the names: patterns then tell judges from humans, whatever they are called.
    names = used["annotator"].astype(str)
    told = used.assign(annotator=[f"{role}:{name}" for role, name in zip(roles, names, strict=True)])
    board = ppi_bradley_terry(told, "judge:*", "human:*", cluster="item_id", anchor=anchor)
    frame = board.frame()
    both = frame[frame["rating"].notna() & frame["judge"].notna()]
    # Each board's mean is over its own models.
    offset = 0.0 if both.empty or anchor is not None else float((both["rating"] - both["judge"]).mean())
    rows = [
        CorrectedRow(
            model=str(row["model"]),
            rating=finite(row["rating"]),
            lower=finite(row["lower"]),
            upper=finite(row["upper"]),
            raw_rating=finite(row["judge"] + offset),
            raw_lower=finite(row["judge_lower"] + offset),
            raw_upper=finite(row["judge_upper"] + offset),
            shift=finite(row["rating"] - row["judge"] - offset),
            human_votes=int(row["votes"]),
        )
        for row in frame.to_dict("records")
    ]
    return CorrectedTable(
        rows=tuple(rows),
        judges=tuple(sorted(set(names[roles == "judge"]))),
        humans=int(names[roles == "human"].nunique()),
        criterion=criterion,
        method=board.method,
        ties=board.ties,
        reference=board.reference,
        confidence=board.confidence,
        power=board.power,
        n=board.n,
        n_labelled=board.n_labelled,
        n_failed=board.n_failed,
        definition=DEFINITION,
        warnings=board.warnings,
    )


def corrected_leaderboard(
    ledger: Ledger,
    *,
    names: Sequence[str] | None = None,
    humans: str = "*",
    criterion: str = "overall",
    models: Sequence[int] | None = None,
    anchor: str | None = None,
) -> CorrectedTable:
    """The same from a ledger's verdicts.

    Args:
        names: Judges; by default those whose votes make the leaderboard.
        humans: Pattern of the humans' names.
        models: Ids, for a board of these alone.

    Raises:
        UserError: As `correct`; or a judge that is not in the ledger.
    """
    import numpy as np

    with ledger.engine.connect() as connection:
        labels = model_names(connection)
        chosen = [judge for judge in jurors(connection, names, criterion)[0] if judge.kind != "human"]
        people = [j for j in judges(connection, criterion) if j.kind == "human" and fnmatchcase(j.name, humans)]
        both = [*chosen, *people]
        frame = verdicts(connection, [judge.id for judge in both], criterion, models)
    for side in ("model_a", "model_b"):
        frame[side] = frame[side].astype(int).map(labels)
    ids = frame["annotator"].astype(int)
    role = np.where(ids.isin([judge.id for judge in people]), "human", "judge")
    frame["annotator"] = ids.map({judge.id: judge.name for judge in both})
    return correct(frame, role, criterion=criterion, anchor=anchor)


def corrected_board(ledger: Ledger, board: Board, models: Sequence[int]) -> CorrectedTable | None:
    """Returns a board of judges corrected; None where it is the humans' own, or no human has voted on these models."""
    with ledger.engine.connect() as connection:
        people = [judge for judge in judges(connection, board.criterion) if judge.kind == "human"]
        human_votes = sa.select(sa.literal(1)).where(
            Tally.annotator_id.in_([judge.id for judge in people]),
            Tally.criterion == board.criterion,
            Tally.model_a_id.in_(models),
            Tally.model_b_id.in_(models),
            Tally.wins_a + Tally.wins_b + Tally.ties + Tally.both_bad > 0,
        )
        if set(board.judges) <= {judge.name for judge in people} or connection.scalar(human_votes.limit(1)) is None:
            return None
    return corrected_leaderboard(ledger, names=board.judges, criterion=board.criterion, models=models)
