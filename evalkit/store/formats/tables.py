"""CSV, JSONL and Parquet as rows, both ways; what is wrong in a file is said with file, line and column."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from evalkit.errors import UserError

_SEPARATOR = re.compile(r"[\s,]*")
_ESCAPED = re.compile(r"[\udc80-\udcff]")
LARGEST = 2**53  # larger whole numbers are not exact in a file's floating-point numbers
KINDS = (".csv", ".jsonl", ".parquet")
LISTS = (*KINDS, ".json")
"""What is read of foreign formats."""
Columns = Mapping[str, type]
"""Names and types (str, int, float, or list for the messages of a conversation) of the columns to write."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a file, and where it stands: `line` is the line, in Parquet the row, counted from 1."""

    path: Path
    line: int
    values: Mapping[str, Any]

    def fault(self, column: str, problem: str) -> UserError:
        """Returns the error that names the file, line and column."""
        unit = "row" if self.path.suffix == ".parquet" else "line"
        return UserError(f"{self.path}, {unit} {self.line}, column {column!r}: {problem}")

    def text(self, column: str, default: str | None = None) -> str:
        """Returns a value as text; without a default it may not be empty."""
        value = self.values.get(column)
        found = "" if value is None or value != value else str(value)
        if default is None and not found.strip():
            raise self.fault(column, "it is empty; every row needs one")
        return found or default or ""

    def choice(self, column: str, allowed: Sequence[str], default: str | None = None) -> str:
        """Returns one of the allowed words."""
        found = self.text(column, default)
        if found not in allowed and found != default:
            words = ", ".join(repr(word) for word in allowed)
            raise self.fault(column, f"{found!r} is not allowed; allowed are {words}")
        return found

    def number(self, column: str, low: float = -math.inf, high: float = math.inf) -> float | None:
        """Returns a finite number within limits, None if the cell is empty."""
        found = self.text(column, "")
        if not found:
            return None
        try:
            number = float(found)
        except ValueError:
            raise self.fault(column, f"{found!r} is not a number") from None
        if not math.isfinite(number) or not low <= number <= high:
            limits = f" between {low:g} and {high:g}" if math.isfinite(high) else f" of at least {low:g}"
            limits = limits if math.isfinite(low) else ""
            raise self.fault(column, f"{found!r} is not a finite number{limits}")
        return number

    def integer(self, column: str, default: int | None, low: int = 0) -> int | None:
        """Returns a whole number of at least `low`, the default if the cell is empty."""
        number = self.number(column, low)
        if number is None:
            return default
        if number != int(number) or number > LARGEST:
            raise self.fault(column, f"{number:g} is not a whole number up to {LARGEST}")
        return int(number)

    def time(self, column: str) -> str | None:
        """Returns a time as ISO 8601 in UTC; one without a zone is taken as UTC, a number as seconds since 1970."""
        found = self.text(column, "")
        if not found:
            return None
        try:
            moment = datetime.fromtimestamp(float(found), UTC)
        except (ValueError, OverflowError, OSError):
            try:
                moment = datetime.fromisoformat(found)
            except ValueError:
                raise self.fault(column, f"{found!r} is no time; write it as 2026-01-31T12:00:00Z") from None
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def json(self, column: str) -> dict[str, Any]:
        """Returns an object, given as one or as its JSON text; {} if the cell is empty."""
        value = self.values.get(column)
        if isinstance(value, str):
            try:
                value = json.loads(value) if value.strip() else None
            except json.JSONDecodeError as error:
                raise self.fault(column, f"not JSON ({error}); write an object such as {{}}") from None
        if value is None or value != value:
            return {}
        if not isinstance(value, Mapping):
            raise self.fault(column, f"{value!r} is not an object; write one such as {{}}")
        return {name: inner for name, inner in value.items() if inner is not None}


def unique(rows: Iterable[Row], column: str, key: Callable[[Row], Any], advice: str) -> None:
    """Checks that no two rows have the same key.

    Raises:
        UserError: Two have; names both lines.
    """
    seen: dict[Any, int] = {}
    for row in rows:
        first = seen.setdefault(key(row), row.line)
        if first != row.line:
            raise row.fault(column, f"{row.text(column, '')!r} is there already, in line {first}; {advice}")


def read_table(path: Path, required: Collection[str]) -> list[Row]:
    """Reads a whole file.

    Raises:
        UserError: It cannot be read, is not what its extension says, is not UTF-8, or lacks a column.
    """
    if path.suffix not in LISTS:
        raise UserError(f"{path}: unknown kind of file {path.suffix!r}; allowed are {', '.join(LISTS)}")
    try:
        if path.suffix == ".parquet":
            return _read_parquet(path, required)
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        place = f"{path}, line {line}{_column_of_bad_bytes(path, data)}"
        raise UserError(
            f"{place}: byte {data[error.start]:#04x} is not UTF-8; save the file with encoding UTF-8"
        ) from None
    if path.suffix == ".json" and text.lstrip()[:1] == "[":
        return _read_json(path, text, required)
    return (_read_csv if path.suffix == ".csv" else _read_jsonl)(path, text, required)


def _column_of_bad_bytes(path: Path, data: bytes) -> str:
    """Names the column of the first bytes that are not UTF-8, where the file can be parsed around them."""
    text = data.decode("utf-8-sig", "surrogateescape")  # bad bytes become code points that no text has
    try:
        if path.suffix == ".csv":
            reader = csv.reader(io.StringIO(text, newline=""))
            header = next(reader, [])
            cells = ((name, cell) for row in reader for name, cell in zip(header, row, strict=False))
        else:
            objects = (json.loads(line) for line in text.split("\n") if _ESCAPED.search(line))
            cells = ((str(name), str(cell)) for one in objects for name, cell in one.items())
        found = next((name for name, cell in cells if _ESCAPED.search(cell)), "")
    except (csv.Error, json.JSONDecodeError, AttributeError):
        found = ""
    return f", column {found!r}" if found else ""


def _need(path: Path, line: int, found: Collection[str], required: Collection[str]) -> None:
    missing = [name for name in required if name not in found]
    if missing:
        names = ", ".join(required)
        raise UserError(f"{path}, line {line}: the column {missing[0]!r} is missing; needed are {names}")


def _read_csv(path: Path, text: str, required: Collection[str]) -> list[Row]:
    csv.field_size_limit(2**31 - 1)  # an answer may be longer than the default of 128 KiB
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = []
    try:
        header = next(reader, [])
        if not header:
            raise UserError(f"{path}, line 1: the file is empty; needed are the columns {', '.join(required)}")
        _need(path, 1, header, required)
        twice = [name for name, count in Counter(header).items() if count > 1]
        if twice:
            raise UserError(f"{path}, line 1, column {twice[0]!r}: the header names it twice; name every column once")
        line = reader.line_num + 1
        for cells in reader:
            if cells and len(cells) != len(header):
                place = repr(header[len(cells)]) if len(cells) < len(header) else f"{header[-1]!r} and more"
                problem = f"the line has {len(cells)} cells, the header {len(header)}; quote cells that hold commas"
                raise UserError(f"{path}, line {line}, column {place}: {problem}")
            if cells:
                rows.append(Row(path, line, dict(zip(header, cells, strict=True))))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not CSV: {error}") from error
    return rows


def _read_jsonl(path: Path, text: str, required: Collection[str]) -> list[Row]:
    rows = []
    for line, source in enumerate(text.split("\n"), 1):
        if not source.strip():
            continue
        try:
            values = json.loads(source)
        except json.JSONDecodeError as error:
            place = f"{path}, line {line}, column {error.colno}"
            raise UserError(f"{place}: not JSON ({error.msg}); write one object a line") from None
        if not isinstance(values, dict):
            raise UserError(f"{path}, line {line}: not an object; write one object a line")
        _need(path, line, values, required)
        rows.append(Row(path, line, values))
    return rows


def _read_json(path: Path, text: str, required: Collection[str]) -> list[Row]:
    """Reads a list of objects one by one, so that each knows the line it begins in."""
    rows: list[Row] = []
    decoder = json.JSONDecoder()
    place, line, counted = text.index("[") + 1, 1, 0
    while True:
        place = _SEPARATOR.match(text, place).end()  # type: ignore[union-attr]  # it matches nothing, too
        line += text.count("\n", counted, place)
        counted = place
        if text[place : place + 1] == "]":
            return rows
        try:
            values, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            where = f"{path}, line {error.lineno}, column {error.colno}"
            raise UserError(f"{where}: not JSON ({error.msg}); the file is a list of objects") from None
        if not isinstance(values, dict):
            raise UserError(f"{path}, line {line}: not an object; the file is a list of objects")
        _need(path, line, values, required)
        rows.append(Row(path, line, values))


def _read_parquet(path: Path, required: Collection[str]) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
        raise UserError(f"{path} is not a Parquet file: {str(error).splitlines()[0]}") from error
    _need(path, 1, table.column_names, required)
    try:
        return [Row(path, line, values) for line, values in enumerate(table.to_pylist(), 1)]
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: a text in it is not UTF-8: {error}") from error


def write_table(path: Path, columns: Columns, pages: Iterable[Sequence[Sequence[Any]]]) -> int:
    """Writes pages of rows; the file appears only when it is whole.

    Returns:
        The number of rows.

    Raises:
        UserError: The file cannot be written.
    """
    if path.suffix not in KINDS:
        raise UserError(f"{path}: unknown kind of file {path.suffix!r}; allowed are {', '.join(KINDS)}")
    with _whole(path) as part:
        if path.suffix == ".parquet":
            return _write_parquet(part, columns, pages)
        with part.open("w", encoding="utf-8", newline="") as file:
            return (_write_csv if path.suffix == ".csv" else _write_jsonl)(file, columns, pages)


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Gives a file to write that takes its name only when it is whole."""
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


def write_objects(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Writes objects as a JSON list or as JSONL, by the file's ending; what is None in an object is left out.

    Returns:
        The number of objects.

    Raises:
        UserError: The file cannot be written, or has another ending.
    """
    if path.suffix not in (".json", ".jsonl"):
        raise UserError(f"{path}: this format is written as .json or .jsonl", code=2)
    listed, count = path.suffix == ".json", 0
    with _whole(path) as part, part.open("w", encoding="utf-8") as file:
        for row in rows:
            text = json.dumps({name: value for name, value in row.items() if value is not None}, ensure_ascii=False)
            file.write(f"{',' if count else '['}\n{text}" if listed else f"{text}\n")
            count += 1
        if listed:
            file.write("\n]\n" if count else "[]\n")
    return count


def _write_csv(file: TextIO, columns: Columns, pages: Iterable[Sequence[Sequence[Any]]]) -> int:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    count = 0
    for page in pages:
        writer.writerows([_flat(cell) for cell in row] for row in page)
        count += len(page)
    return count


def _flat(cell: Any) -> Any:
    return json.dumps(cell, ensure_ascii=False) if isinstance(cell, list) else cell


def _write_jsonl(file: TextIO, columns: Columns, pages: Iterable[Sequence[Sequence[Any]]]) -> int:
    count = 0
    for page in pages:
        for row in page:
            file.write(json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) + "\n")
        count += len(page)
    return count


def _write_parquet(path: Path, columns: Columns, pages: Iterable[Sequence[Sequence[Any]]]) -> int:
    import pyarrow
    import pyarrow.parquet

    message = pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])
    kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    kinds[list] = pyarrow.list_(message)
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in columns.items()])
    count = 0
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for page in pages:
            cells = list(zip(*page, strict=True)) or [()] * len(columns)
            writer.write_table(pyarrow.table([list(cell) for cell in cells], schema=schema))
            count += len(page)
    return count
