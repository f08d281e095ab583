"""Scores: a wide table, one row a model, one column a benchmark; empty cells allowed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.errors import UserError
from evalkit.store import frames
from evalkit.store.formats.names import IMPORTED, import_run, models_by_name
from evalkit.store.formats.tables import Row, read_table, unique, write_table
from evalkit.store.ledger import Ledger
from evalkit.store.rows import ScoreRow

if TYPE_CHECKING:
    import pandas as pd

LIMITS = ("rating", "lower", "upper")


def _read(path: Path) -> tuple[list[Row], list[str]]:
    rows = read_table(path, ("model",))
    if not rows:
        raise UserError(f"{path}, line {_first_row(path)}: there are no rows; a score table has one a model")
    unique(rows, "model", lambda row: row.text("model"), "every model has one row")
    columns = list(dict.fromkeys(name for row in rows for name in row.values if name != "model"))
    if not columns or not all(columns):
        raise UserError(f"{path}, line 1: a score table needs a column for each benchmark, with a name")
    return rows, columns


def _first_row(path: Path) -> int:
    return 2 if path.suffix == ".csv" else 1


def read_scores(path: Path) -> pd.DataFrame:
    """Reads a score table without a ledger, checked as `import_scores` does.

    Returns:
        model, and every other column as numbers, missing where a cell is empty.

    Raises:
        UserError: Something is wrong in the file, or it has no rows.
    """
    import pandas as pd

    rows, columns = _read(path)
    table = {name: [row.number(name) for row in rows] for name in columns}
    return pd.DataFrame({"model": [row.text("model") for row in rows]} | table).astype(dict.fromkeys(columns, float))


def read_board(path: Path) -> pd.DataFrame:
    """Reads a leaderboard, as `evalkit leaderboard` computes it.

    Returns:
        model, rating, lower, upper; missing where a cell is empty (a model not rated, or no interval).

    Raises:
        UserError: Something is wrong in the file, or it has no rows.
    """
    import pandas as pd

    rows = read_table(path, ("model", *LIMITS))
    unique(rows, "model", lambda row: row.text("model"), "every model has one row")
    if not rows:
        raise UserError(f"{path}, line {_first_row(path)}: there are no rows; a board has one a model")
    found = []
    for row in rows:
        rating, lower, upper = (row.number(name) for name in LIMITS)
        for column, limit, outside in (("lower", lower, 1), ("upper", upper, -1)):
            if rating is not None and limit is not None and outside * (limit - rating) > 0:
                raise row.fault(column, f"{limit:g} puts the rating {rating:g} outside its limits")
        found.append((row.text("model"), rating, lower, upper))
    return pd.DataFrame(found, columns=["model", *LIMITS]).astype(dict.fromkeys(LIMITS, float))


def import_scores(ledger: Ledger, path: Path) -> int:
    """Reads a score table; a column is a dataset, or `dataset:metric`, and otherwise its metric is "score".

    Returns:
        The number of models.

    Raises:
        UserError: Something is wrong in the file; nothing was written.
    """
    rows, columns = _read(path)
    cells = {(row.text("model"), name): row.number(name) for row in rows for name in columns}
    models = models_by_name(ledger, [row.text("model") for row in rows])
    with import_run(ledger, "scores", path) as run_id:
        scores = []
        for name in columns:
            dataset, _, metric = name.partition(":")
            dataset_id, _ = ledger.add_dataset(dataset, [], IMPORTED)
            scores += [
                ScoreRow(models[model], dataset_id, metric or "score", value, None, None)
                for (model, column), value in cells.items()
                if column == name and value is not None
            ]
        ledger.set_scores(run_id, scores)
    return len(rows)


def export_scores(ledger: Ledger, path: Path) -> int:
    """Writes the newest value of every model, dataset and metric.

    Returns:
        The number of models.

    Raises:
        UserError: The file cannot be written.
    """
    table = frames.scores(ledger, wide=True)
    columns: dict[str, type] = {"model": str, **dict.fromkeys(table.columns[1:], float)}
    rows = [[None if cell != cell else cell for cell in row] for row in table.itertuples(index=False)]
    return write_table(path, columns, [rows])
