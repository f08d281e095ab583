"""Tables for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evalkit.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def plain(value: Any) -> Any:
    """Returns JSON data: dataclasses as objects, NaN and infinity as null, NumPy scalars as numbers."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def print_json(value: Any) -> None:
    """Prints one JSON object to standard output."""
    sys.stdout.write(json.dumps(plain(value), ensure_ascii=False, indent=1) + "\n")


def print_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], title: str = "") -> None:
    """Prints rows as a table; numbers to the right, empty cells for None.

    Args:
        rows: Plain rows.
        columns: Key to heading; a heading may end in a format after a colon, as in "rating:.0f".
        title: Above the table.
    """
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", title_style="bold", header_style="bold")
    formats = {}
    for key, heading in columns.items():
        name, _, formats[key] = heading.partition(":")
        numeric = all(isinstance(row.get(key), int | float) or row.get(key) is None for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=numeric)
    for row in rows:
        table.add_row(*(_cell(row.get(key), formats[key]) for key in columns))
    console().print(table)


def show(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, as_json: bool, **more: Any) -> None:
    """Prints rows as a table, or as one JSON object with `rows` and what else is given."""
    if as_json:
        print_json({"rows": rows, **more})
    else:
        print_table(rows, columns)


def console() -> Console:
    """Returns standard output; wide enough for a table when it is not a terminal."""
    from rich.console import Console

    out = Console(highlight=False, markup=False)
    return out if out.is_terminal else Console(highlight=False, markup=False, width=160)


def say(text: str) -> None:
    """Prints a line to standard output."""
    console().print(_harmless(text), soft_wrap=True)


def complain(error: UserError) -> None:
    """Prints an error's sentences to standard error."""
    from rich.console import Console

    Console(stderr=True, highlight=False, soft_wrap=True, markup=False).print(_harmless(f"Error: {error}"), style="red")


def _cell(value: Any, form: str) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return format(value, form) if form else _harmless(str(value))


def _harmless(text: str) -> str:
    """Replaces control characters: what a model or a server said must not steer the user's terminal."""
    return _CONTROL.sub("\ufffd", text)
