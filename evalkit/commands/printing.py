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
    import pandas as pd
    from rich.console import Console

SHORTEST_COLUMN = 5  # characters; a table that needs narrower ones is left to break as it may
NAMES_IN_A_NOTE = 3
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


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns a frame's rows as JSON data."""
    return [plain(row) for row in frame.to_dict("records")]


def print_json(value: Any) -> None:
    """Prints one JSON object to standard output."""
    sys.stdout.write(json.dumps(plain(value), ensure_ascii=False, indent=1) + "\n")


def print_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], title: str = "") -> None:
    """Prints rows as a table; numbers to the right, empty cells for None.

    Where it is wider than the terminal it loses its lines, and text is broken, first between words.

    Args:
        rows: Plain rows.
        columns: Key to heading; a heading may end in a format after a colon, as in "rating:.0f".
        title: Above the table.
    """
    if not rows:
        say(f"{title}: none." if title else "Nothing found.")
        return
    from rich import box
    from rich.table import Table

    out, cells = console(), _columns(rows, columns)
    squeezed: dict[str, Any] = {}
    widths: dict[str, int] = {}
    if not fits(rows, columns):
        squeezed = {"box": box.SIMPLE_HEAD, "show_edge": False, "padding": (0, 1, 0, 0)}
        widths = _squeeze(rows, cells, out.width)
    table = Table(title=title or None, title_justify="left", title_style="bold", header_style="bold", **squeezed)
    for key, (heading, *_) in cells.items():
        numeric = _is_numeric(rows, key)
        table.add_column(
            heading,
            justify="right" if numeric else "left",
            overflow="fold",
            width=widths.get(key),
            no_wrap=numeric and not squeezed,
        )
    for row in zip(*(texts[1:] for texts in cells.values()), strict=True):
        table.add_row(*row)
    out.print(table)


def fits(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> bool:
    """Returns whether a table of these rows is no wider than the terminal, each row on one line."""
    from rich.cells import cell_len

    cells = _columns(rows, columns).values()
    return sum(max(map(cell_len, texts)) for texts in cells) + 3 * len(columns) + 1 <= console().width


def _columns(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> dict[str, list[str]]:
    """Returns each column's heading and cells."""
    split = {key: heading.partition(":") for key, heading in columns.items()}
    return {key: [head, *(_cell(row.get(key), form) for row in rows)] for key, (head, _, form) in split.items()}


def _squeeze(rows: Sequence[Mapping[str, Any]], cells: Mapping[str, list[str]], width: int) -> dict[str, int]:
    """Returns column widths that break neither numbers nor, as far as the terminal allows, words."""
    from rich.cells import cell_len

    words = {key: max(cell_len(w) for text in texts for w in text.split() or [""]) for key, texts in cells.items()}
    texts = [key for key in cells if not _is_numeric(rows, key)]
    room = width - 2 * len(cells) - sum(words[key] for key in cells if key not in texts)
    for longest in range(max(words.values()), SHORTEST_COLUMN, -1):
        if sum(min(words[key], longest) for key in texts) <= room:
            break
    else:
        return {}
    widths = words | {key: min(words[key], longest) for key in texts}
    wanting = {key: max(map(cell_len, texts)) - widths[key] for key, texts in cells.items()}
    for _ in range(width - 2 * len(cells) - sum(widths.values())):
        neediest = max(wanting, key=lambda key: wanting[key])
        wanting[neediest] -= 1
        widths[neediest] += 1
    return widths


def _is_numeric(rows: Sequence[Mapping[str, Any]], key: str) -> bool:
    values = [row.get(key) for row in rows]
    return all(v is None or (isinstance(v, int | float) and not isinstance(v, bool)) for v in values)


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


def note(warnings: Sequence[str]) -> None:
    """Prints warnings; what is said of several things ("task: sentence") is said once, with their names."""
    about: dict[str, list[str]] = {}
    for warning in warnings:
        name, colon, sentence = warning.partition(": ")
        about.setdefault(sentence if colon else warning, []).append(name if colon else "")
    for sentence, names in about.items():
        shown = (
            names
            if len(names) <= NAMES_IN_A_NOTE
            else [*names[:NAMES_IN_A_NOTE], f"{len(names) - NAMES_IN_A_NOTE} more"]
        )
        start = "" if shown == [""] else f"{'; '.join(shown)}: "
        say(f"Note: {start}{sentence}")


def complain(error: UserError) -> None:
    """Prints an error's sentences to standard error."""
    from rich.console import Console

    Console(stderr=True, highlight=False, soft_wrap=True, markup=False).print(_harmless(f"Error: {error}"), style="red")


def _cell(value: Any, form: str) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return format(value, form) if form and not isinstance(value, str) else _harmless(str(value))


def _harmless(text: str) -> str:
    """Replaces control characters: what a model or a server said must not steer the user's terminal."""
    return _CONTROL.sub("\ufffd", text)
