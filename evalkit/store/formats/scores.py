"""Scores: a wide table, one row a model, one column a benchmark; empty cells allowed."""

from __future__ import annotations

from pathlib import Path

from evalkit.errors import UserError
from evalkit.store import frames
from evalkit.store.formats.names import IMPORTED, import_run, models_by_name
from evalkit.store.formats.tables import read_table, unique, write_table
from evalkit.store.ledger import Ledger
from evalkit.store.rows import ScoreRow


def import_scores(ledger: Ledger, path: Path) -> int:
    """Reads a score table; a column is a dataset, or `dataset:metric`, and otherwise its metric is "score".

    Returns:
        The number of models.

    Raises:
        UserError: Something is wrong in the file; nothing was written.
    """
    rows = read_table(path, ("model",))
    unique(rows, "model", lambda row: row.text("model"), "every model has one row")
    columns = list(dict.fromkeys(name for row in rows for name in row.values if name != "model"))
    if not columns or not all(columns):
        raise UserError(f"{path}, line 1: a score table needs a column for each benchmark, with a name")
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
