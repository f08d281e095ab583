"""Where the names of a scatter's points have room: Vega-Lite places them without looking at each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

PLOT = 260  # pixels: what is left to the points in half a page on a laptop, the narrowest chart there is
MARGIN = 12  # pixels that the axes leave free beyond the outermost points
LETTER, LINE = 6, 12  # pixels of a name
LONGEST = 180  # pixels; the rest of a name is cut off
AROUND = 5  # pixels that a point takes to each side
BESIDE = ((9, -8), (9, 10), (-9, -8), (-9, 10), (0, -16), (0, 17))


def name_places(
    frame: pd.DataFrame, label: str, x: Sequence[str], y: Sequence[str], *, log: bool = False
) -> pd.Series[Any]:
    """Finds a place beside each point for its name, on no other point and no other name; earlier rows choose first.

    Args:
        frame: One row a point.
        label: Column with the names.
        x, y: Columns of the axis: the points' own first, then those of their limits, which widen the axis.
        log: Of the x axis.

    Returns:
        Pixels from the point to its name, right and down, with the frame's index; None where there is no room.
    """
    import pandas as pd

    found: list[tuple[int, int] | None] = []
    if not frame.empty:
        across, up = _pixels(frame, x, log), PLOT - _pixels(frame, y, False)
        taken = [
            (left - AROUND, top - AROUND, left + AROUND, top + AROUND) for left, top in zip(across, up, strict=True)
        ]
        for left, top, name in zip(across, up, frame[label].astype(str), strict=True):
            found.append(None)
            width = min(LETTER * len(name), LONGEST)
            for right, down in BESIDE:
                start = left + right - (0 if right > 0 else width if right < 0 else width / 2)
                box = (start, top + down - LINE / 2, start + width, top + down + LINE / 2)
                if start < -MARGIN or start + width > PLOT + MARGIN or any(_meet(box, other) for other in taken):
                    continue
                taken.append(box)
                found[-1] = (right, down)
                break
    return pd.Series(found, index=frame.index, dtype=object)


def _pixels(frame: pd.DataFrame, columns: Sequence[str], log: bool) -> Any:
    import numpy as np

    values = frame[list(columns)].to_numpy(float)
    if log:
        values = np.log(values)
    low, high = np.nanmin(values), np.nanmax(values)
    return MARGIN + (values[:, 0] - low) / ((high - low) or 1.0) * (PLOT - 2 * MARGIN)


def _meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
