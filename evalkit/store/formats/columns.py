"""Files as DataFrames without a ledger: read and checked column by column, at the speed of Arrow.

A file that passes is right. Any other is read again row by row, and the rows' own checks, those of an import, say what
is wrong and where; so both ways of reading have one set of rules and sentences.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.errors import UserError
from evalkit.store.formats.tables import Row, read_table, unique

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


ISO_8601 = r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?(Z|[+-]\d\d:?\d\d)?"


class Doubt(Exception):
    """The columns may hold a fault, or a spelling that only the row checks know.

    Args:
        row: The row to check first, counted from 0, where one is known.
    """

    def __init__(self, row: int | None = None) -> None:
        super().__init__(row)
        self.row = row


@dataclass(frozen=True)
class Layout:
    """The columns of a format.

    Attributes:
        required: Must be there; text that may not be empty, unless it is in one of the others below.
        texts: Text, with what an empty cell means (None: missing).
        choices: The words allowed; "" among them where the cell may be empty (missing).
        numbers: Lowest and highest value of finite numbers.
        whole: Columns of `numbers` that hold whole numbers.
        times: Times, ISO 8601 or seconds since 1970.
        unless_failed: Column that is empty exactly where `error` is not.
    """

    required: tuple[str, ...]
    texts: Mapping[str, str | None] = field(default_factory=dict)
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    numbers: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    whole: Mapping[str, int | None] = field(default_factory=dict)
    times: tuple[str, ...] = ()
    unless_failed: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """All names."""
        return tuple(dict.fromkeys((*self.required, *self.texts, *self.choices, *self.numbers, *self.times)))


def read_frame(
    path: Path,
    layout: Layout,
    check: Callable[[Row], Mapping[str, Any]],
    *,
    need: Collection[str] = (),
    numeric: Collection[str] = (),
) -> pd.DataFrame:
    """Reads a file of one format.

    Args:
        check: Checks a row as an import does, and returns the values of the format's columns.
        need: Further columns that must be there, text unless they are in `numeric`.
        numeric: Further columns of finite numbers, where empty cells are missing.

    Returns:
        The format's columns that the file has, and the further ones.

    Raises:
        UserError: Something is wrong in the file, or it has no rows.
    """
    required = tuple(dict.fromkeys((*layout.required, *need, *numeric)))
    more = [name for name in required if name not in layout.columns]
    try:
        frame = _by_column(path, layout, required, more, numeric)
        if len(frame):
            return frame
        suspect = None
    except Doubt as doubt:
        suspect = doubt.row
    return _by_row(path, layout, check, required, more, numeric, suspect)


def _by_row(
    path: Path,
    layout: Layout,
    check: Callable[[Row], Mapping[str, Any]],
    required: Collection[str],
    more: Sequence[str],
    numeric: Collection[str],
    suspect: int | None,
) -> pd.DataFrame:
    import pandas as pd

    rows = read_table(path, required)
    if not rows:
        line, unit = (2, "line") if path.suffix == ".csv" else (1, "row" if path.suffix == ".parquet" else "line")
        raise UserError(f"{path}, {unit} {line}: there are no rows; needed are {', '.join(required)}")
    if suspect is not None and suspect < len(rows):
        check(rows[suspect])  # of a million rows the one at fault is found at once
    if "id" in rows[0].values:
        unique(rows, "id", lambda row: row.text("id"), "every row has an id of its own")
    there = {name for row in rows for name in row.values}
    known = [name for name in layout.columns if name in there]
    checked = []
    for row in rows:
        values = check(row)
        further = {name: row.number(name) if name in numeric else (row.text(name, "") or None) for name in more}
        checked.append({name: values[name] for name in known} | further)
    frame = pd.DataFrame(checked, columns=[*known, *more])
    for name in frame.columns:
        if name in layout.times:
            frame[name] = pd.to_datetime(frame[name], format="ISO8601", utc=True)
        elif name in layout.numbers or name in numeric:
            whole = layout.whole.get(name) is not None
            frame[name] = frame[name].astype("int64") if whole else frame[name].astype("float64")
        else:
            frame[name] = frame[name].astype("str")
    return frame


# -- by column ----------------------------------------------------------------------------------------------------


def _by_column(
    path: Path, layout: Layout, required: Collection[str], more: Sequence[str], numeric: Collection[str]
) -> pd.DataFrame:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        table = _table(path, {*layout.columns, *more, "id"})
        if not set(required) <= set(table.column_names):
            raise Doubt
        error = _blank_as_null(_text(table["error"])) if "error" in table.column_names else None
        columns: dict[str, Any] = {}
        for name in (*layout.columns, *more):
            if name not in table.column_names:
                continue
            column = table[name]
            if name in layout.numbers or name in numeric:
                low, high = layout.numbers.get(name, (float("-inf"), float("inf")))
                values = _numbers(column, low, high)
                whole = name in layout.whole
                if whole:
                    _all(pc.equal(values, pc.round(values)))
                default = layout.whole.get(name)
                if default is not None:
                    values = pc.fill_null(values, default).cast(pa.int64())
            elif name in layout.times:
                values = _text(column)
            else:
                values = _blank_as_null(_text(column))
                if name in layout.choices:
                    _all(pc.is_in(values, pa.array([*layout.choices[name], None], pa.string())))
                default_text = layout.texts.get(name)
                if default_text is not None:
                    values = pc.fill_null(values, default_text)
            if name == layout.unless_failed:
                failed = pa.scalar(False) if error is None else pc.is_valid(error)
                _all(pc.not_equal(pc.is_null(values), pc.invert(failed)))
            elif _needed(name, layout):
                _all(pc.is_valid(values))
            columns[name] = values
        if "id" in table.column_names:
            ids = _blank_as_null(_text(table["id"]))
            if ids.null_count or pc.count_distinct(ids).as_py() < len(ids):
                raise Doubt
        frame = pa.table(columns).to_pandas()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, UnicodeDecodeError, OSError) as error_:
        raise Doubt from error_
    for name in layout.times:
        if name in frame.columns:
            frame[name] = _times(frame[name])
    return pd.DataFrame(frame)


def _needed(name: str, layout: Layout) -> bool:
    """Whether no cell of a column may be empty."""
    if name in layout.choices:
        return "" not in layout.choices[name]
    return name in layout.required and name not in layout.texts and name not in layout.numbers


def _table(path: Path, wanted: Collection[str]) -> pa.Table:
    import pyarrow as pa

    if path.suffix == ".csv":
        from pyarrow import csv as arrow_csv

        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
        data = path.read_bytes()
        if len(set(header)) < len(header) or not header or not _quoted_well(data):
            raise Doubt
        keep = [name for name in header if name in wanted]
        return arrow_csv.read_csv(
            pa.BufferReader(data),
            parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=keep, column_types=dict.fromkeys(keep, pa.string()), strings_can_be_null=False
            ),
        )
    if path.suffix == ".jsonl":
        from pyarrow import json as arrow_json

        table = arrow_json.read_json(path)
        with path.open("rb") as file:
            if sum(not line.isspace() for line in file) != table.num_rows:
                raise Doubt  # an object over several lines, or several on one
    elif path.suffix == ".parquet":
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(path)
    else:
        raise Doubt
    table = table.select([name for name in table.column_names if name in wanted])
    table.validate(full=True)  # text that is not UTF-8
    return table


def _quoted_well(data: bytes) -> bool:
    """Whether as many cells begin with a quote as end with one; Arrow lets an open or a doubtful quote pass."""
    if b'"' not in data:
        return True
    opened = data.count(b',"') + data.count(b'\n"') + data.startswith(b'"')
    closed = data.count(b'",') + data.count(b'"\n') + data.count(b'"\r') + data.endswith(b'"')
    return opened == closed and data.count(b'"') % 2 == 0


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    plain = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)
    if not plain and column.null_count < len(column):
        raise Doubt
    return column.cast(pa.string())


def _blank_as_null(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    _all(pc.invert(pc.utf8_is_space(column)))
    empty = pc.equal(column, "")
    return pc.if_else(empty, pa.scalar(None, pa.string()), column) if pc.any(empty, min_count=0).as_py() else column


def _numbers(column: pa.ChunkedArray, low: float, high: float) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_floating(column.type):
        values = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column).cast(pa.float64())
    elif pa.types.is_integer(column.type):
        values = column.cast(pa.float64())
    else:
        text = _blank_as_null(_text(column))
        try:
            values = text.cast(pa.float64())
        except pa.ArrowInvalid as error:
            import pandas as pd

            unread = pd.to_numeric(text.to_pandas(), errors="coerce").isna().to_numpy()
            _all(pa.array(~unread | pc.is_null(text).to_numpy()))
            raise Doubt from error
    right = pc.and_(pc.is_finite(values), pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high)))
    _all(right)
    return values


def _all(right: pa.ChunkedArray) -> None:
    """Raises the doubt about the first row that is not right; a missing answer is right."""
    import pyarrow.compute as pc

    wrong = pc.index(right, False).as_py()
    if wrong >= 0:
        raise Doubt(wrong)


def _times(column: pd.Series[Any]) -> pd.Series[Any]:
    import pandas as pd

    text = column.mask(column == "")
    seconds = pd.to_numeric(text, errors="coerce")
    spelled = text[seconds.isna() & text.notna()]
    odd = ~spelled.str.fullmatch(ISO_8601).astype(bool)
    if odd.any():
        raise Doubt(int(odd.index[odd][0]))
    written = pd.to_datetime(text.where(seconds.isna()), format="ISO8601", utc=True, errors="coerce")
    moment = written.fillna(pd.to_datetime(seconds, unit="s", utc=True, errors="coerce"))
    if (moment.isna() & text.notna()).any():
        raise Doubt
    return moment
