"""The board of a ledger at equal style: the answers' length, headers, bold and lists as covariates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sa

from evalkit.errors import UserError
from evalkit.report.board import jurors, named_votes
from evalkit.store.ledger import Ledger
from evalkit.store.reading import model_names
from evalkit.store.schema import Battle, Response
from evalkit.store.writing import chunks

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.stats import StyleRatings


def styled_leaderboard(
    ledger: Ledger, *, judges: Sequence[str] | None = None, criterion: str = "overall"
) -> StyleRatings:
    """Rates the models at equal style (`evalkit.stats.style_control`), votes on one item being alike.

    Args:
        judges, criterion: As for `leaderboard`.

    Raises:
        UserError: Nobody has voted, or the ledger does not hold the answers that were judged.
    """
    from evalkit.stats import style_control
    from evalkit.stats.style_features import STYLE

    with ledger.engine.connect() as connection:
        names = model_names(connection)
        chosen, _ = jurors(connection, judges, criterion)
    votes = named_votes(ledger, [judge.id for judge in chosen], criterion, list(names), names)
    if votes.empty:
        raise UserError(f"nobody whose votes could make a board has voted on {criterion!r}.")
    features = _features(ledger, votes["turn"])
    if features.isna().all(axis=None):
        raise UserError("style control needs the answers that were judged; this ledger has the votes alone.")
    wanted = [f"{name}_{side}" for name in STYLE for side in "ab"]
    return style_control(votes, features[wanted], cluster="item_id")


def _features(ledger: Ledger, battles: pd.Series[int]) -> pd.DataFrame:
    """Style of both answers of each battle, a row for each vote; NaN where the answer is not stored."""
    import numpy as np
    import pandas as pd

    from evalkit.stats import style_features

    wanted = sorted({int(key) for key in battles})
    sides: dict[int, tuple[int | None, int | None]] = {}
    texts: dict[int, str] = {}
    with ledger.engine.connect() as connection:
        for chunk in chunks(wanted):
            query = sa.select(Battle.id, Battle.response_a_id, Battle.response_b_id).where(Battle.id.in_(chunk))
            sides.update((row[0], (row[1], row[2])) for row in connection.execute(query))
        stored = sorted({key for both in sides.values() for key in both if key is not None})
        for chunk in chunks(stored):
            found = sa.select(Response.id, Response.text).where(Response.id.in_(chunk), Response.text.is_not(None))
            texts.update((key, text) for key, text in connection.execute(found) if text is not None)
    style = style_features(texts.values())
    table = np.vstack([style.to_numpy(), np.full((1, style.shape[1]), np.nan)])
    place = {key: i for i, key in enumerate(texts)}
    parts = []
    for i, side in enumerate("ab"):
        # The last row is that of answers not stored.
        rows = [place.get(sides[int(key)][i] or 0, -1) for key in battles]
        parts.append(pd.DataFrame(table[rows], columns=[f"{name}_{side}" for name in style.columns]))
    return pd.concat(parts, axis=1)
