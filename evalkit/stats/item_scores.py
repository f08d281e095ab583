"""Scores that are means over items: a matrix of models by items, and its means for any weights of the items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evalkit.errors import UserError
from evalkit.stats.votes import FloatArray, require_columns


@dataclass(frozen=True, eq=False)
class ItemScores:
    """Values of models on items.

    Attributes:
        models: Names, sorted.
        items: Labels, sorted by their text.
        values: Shape (models, items), NaN where a model has no value.
        n_failures: Rows without a value.
    """

    models: tuple[str, ...]
    items: NDArray[Any]
    values: FloatArray
    n_failures: int

    def of(self, models: Sequence[str]) -> ItemScores:
        """The rows of those models, in that order; a model that is not here has no value."""
        place = {name: i for i, name in enumerate(self.models)}
        values = np.full((len(models), len(self.items)), np.nan)
        for row, name in enumerate(models):
            if name in place:
                values[row] = self.values[place[name]]
        return ItemScores(tuple(models), self.items, values, self.n_failures)

    def means(self, weight: FloatArray) -> FloatArray:
        """Each model's mean over its items for weights of the items.

        Args:
            weight: Shape (k, items), not negative.

        Returns:
            Shape (k, models); NaN where a model has no value on an item of weight above 0.
        """
        known = ~np.isnan(self.values)
        total = weight @ np.where(known, self.values, 0.0).T
        count = weight @ known.T.astype(np.float64)
        return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def item_scores(frame: pd.DataFrame, name: str) -> ItemScores:
    """Read a long frame of one score column.

    Several values of a model on an item (samples) are averaged; rows without a value (failures) are counted.

    Args:
        frame: Columns model, item_id, value; one row for each value.
        name: Of the score, for messages.

    Raises:
        UserError: A column is missing, a model or item is not named, or a value is not a finite number.
    """
    require_columns(frame, ["model", "item_id", "value"], f"item values of {name}")
    for column in ("model", "item_id"):
        if frame[column].isna().any():
            row = int(np.flatnonzero(frame[column].isna())[0]) + 1
            raise UserError(f"row {row} of the item values of {name} has no {column}.")
    value = pd.to_numeric(frame["value"], errors="coerce").astype(np.float64)
    bad = np.isinf(value) | (value.isna() & frame["value"].notna())
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise UserError(
            f"row {row + 1} of the item values of {name} has the value {str(frame['value'].iloc[row])!r}, which is not "
            "a finite number; leave a failure empty."
        )
    items = frame["item_id"].astype(str)
    mean = value.groupby([frame["model"].astype(str), items]).mean().unstack()
    # Sorted: random splits and resamples must not depend on the order of the rows.
    mean = mean.sort_index(axis=0).sort_index(axis=1)
    return ItemScores(tuple(mean.index), mean.columns.to_numpy(), mean.to_numpy(np.float64), int(value.isna().sum()))
