"""Statistics on a whole ledger for the commands: boards by group, and all scores beside the ratings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa

from evalkit.errors import UserError
from evalkit.report.board import RATING, jurors, leaderboard, named_votes
from evalkit.store import frames
from evalkit.store.arena import PROBE
from evalkit.store.ledger import Ledger
from evalkit.store.reading import model_names
from evalkit.store.schema import Battle, Item, Tally

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.stats import GroupedRatings


def grouped_leaderboard(
    ledger: Ledger,
    by: Literal["turn", "criterion", "category"],
    *,
    judges: Sequence[str] | None = None,
    criterion: str = "overall",
    **options: Any,
) -> GroupedRatings:
    """Rates the models on each group of votes; by criterion, every criterion that was judged is a group.

    Args:
        by: A battle's turn, what was judged, or the tag `category` of the item.
        judges, criterion: As for `leaderboard`.
        options: Of `bradley_terry`; clustered by item unless they say otherwise.

    Raises:
        UserError: As `leaderboard`; or nobody has voted.
    """
    import pandas as pd

    from evalkit.stats import grouped_ratings

    with ledger.engine.connect() as connection:
        names = model_names(connection)
        criteria = [criterion]
        if by == "criterion":
            of_contestants = ~Tally.criterion.startswith(PROBE)
            criteria = sorted(connection.scalars(sa.select(Tally.criterion).where(of_contestants).distinct()))
        chosen_by = {one: jurors(connection, judges, one)[0] for one in criteria}
        turns = {row[0]: row[1] for row in connection.execute(sa.select(Battle.id, Battle.turn))}
        categories = {row[0]: row[1].get("category") for row in connection.execute(sa.select(Item.id, Item.tags))}
    parts = []
    for one, chosen in chosen_by.items():
        votes = named_votes(ledger, [judge.id for judge in chosen], one, list(names), names)
        parts.append(
            votes.assign(
                criterion=one,
                turn=votes["turn"].map(turns),
                category=votes["item_id"].map(categories),
            )
        )
    votes = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    if votes.empty:
        raise UserError("nobody whose votes could make a board has voted in this ledger.")
    if options.get("interval") != "bootstrap":
        options["cluster"] = options.get("cluster") or "item_id"
    return grouped_ratings(votes, by, **options)


def ledger_scores(ledger: Ledger) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Reads every model's newest score of every metric, and its rating where there is a board.

    The sign of a metric for which lower is better is turned, so that more is better everywhere.

    Returns:
        A score table (model, a column a metric, `arena rating`), and what its reader must know.
    """
    long = frames.scores(ledger)
    wide = frames.scores(ledger, wide=True)
    notes = []
    lower = long[~long["higher_is_better"].astype(bool)]
    for dataset, metric in dict.fromkeys(zip(lower["dataset"], lower["metric"], strict=True)):
        name = dataset if metric == "score" else f"{dataset}:{metric}"
        wide[name] = -wide[name]
        notes.append(f"{name}: lower is better, so its sign is turned.")
    board = leaderboard(ledger)
    rated = {row.model: row.rating for row in board.rows if row.rating is not None}
    if rated:
        wide[RATING] = wide["model"].map(rated).astype(float)
    else:
        notes.append("Nobody has judged battles in this ledger, so there is no rating.")
    return wide, tuple(notes)
