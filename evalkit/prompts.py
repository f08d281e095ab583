"""Own prompts for the arena, from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.store.rows import Item

COLUMNS = ("id", "prompt", "messages", "system", "verify", "reference", "tags")


def read_prompts(path: Path, limit: int | None = None) -> list[Item]:
    """Reads prompts.

    Args:
        path: JSONL: an object a line, or CSV with a header. `prompt` (text) or `messages` (a conversation that
            ends with the user's turn); optionally `id`, `system`, `verify` (a verifier's spec), `reference`, `tags`
            (an object). In CSV the objects are JSON text.
        limit: The first so many.

    Raises:
        UserError: A line is broken; names file, line and field.
    """
    rows = _csv_rows(path) if path.suffix == ".csv" else _json_rows(path)
    items: list[Item] = []
    seen: dict[str, int] = {}
    for line, row in rows:
        where = f"{path} line {line}"
        unknown = [key for key in row if key not in COLUMNS]
        if unknown:
            raise UserError(f"{where}: unknown field {unknown[0]!r}; allowed: {', '.join(COLUMNS)}", code=2)
        name = str(row.get("id") or line)
        if name in seen:
            raise UserError(f"{where}: the id {name!r} stands on line {seen[name]} already", code=2)
        seen[name] = line
        tags, verify = row.get("tags") or {}, row.get("verify")
        for field, value in (("tags", tags), ("verify", verify or {})):
            if not isinstance(value, dict):
                raise UserError(f"{where}: field {field} must be an object, not {value!r}", code=2)
        if verify:
            from evalkit.verify import verify as check  # many patterns to compile, for prompts that have verifiers

            try:
                check(verify, "")
            except UserError as error:
                raise UserError(f"{where}: field verify: {error}", code=2) from error
        reference = {k: row[k] for k in ("verify", "reference") if row.get(k) is not None}
        items.append(Item(_messages(row, where), reference or None, tags, name))
    if not items:
        raise UserError(f"{path}: there is no prompt in it", code=2)
    return items[:limit]


def _messages(row: dict[str, Any], where: str) -> tuple[dict[str, Any], ...]:
    if ("prompt" in row) == ("messages" in row):
        raise UserError(f"{where}: give either prompt or messages", code=2)
    head = ({"role": "system", "content": str(row["system"])},) if row.get("system") else ()
    if "prompt" in row:
        if not isinstance(row["prompt"], str) or not row["prompt"].strip():
            raise UserError(f"{where}: field prompt must be a text that is not empty", code=2)
        return (*head, {"role": "user", "content": row["prompt"]})
    turns = row["messages"]
    good = (
        isinstance(turns, list)
        and turns
        and all(isinstance(t, dict) and {"role", "content"} <= t.keys() for t in turns)
    )
    if not good or turns[-1]["role"] != "user":
        raise UserError(f"{where}: field messages must be a list of role and content that ends with the user's", code=2)
    return (*head, *turns)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"{path} line {line}: not UTF-8 text (byte {error.start})", code=2) from error
    except OSError as error:
        raise UserError(f"{path}: the prompts cannot be read: {error.strerror}", code=2) from error


def _json_rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    rows = []
    for line, text in enumerate(_text(path).split("\n"), 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except ValueError as error:
            raise UserError(f"{path} line {line}: not JSON: {error}", code=2) from error
        if not isinstance(row, dict):
            raise UserError(f"{path} line {line}: a prompt is an object with the field prompt", code=2)
        rows.append((line, row))
    return rows


def _csv_rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    import csv
    import io

    reader = csv.DictReader(io.StringIO(_text(path)), strict=True)
    rows = []
    try:
        for row in reader:
            where = f"{path} line {reader.line_num}"
            if None in row:
                raise UserError(f"{where}: it has more cells than the header; quote cells that hold commas", code=2)
            given: dict[str, Any] = {k: v for k, v in row.items() if v}
            for key in ("messages", "verify", "tags"):
                if key in given:
                    given[key] = _json_cell(given[key], f"{where}: field {key}")
            rows.append((reader.line_num, given))
    except csv.Error as error:
        raise UserError(f"{path} line {reader.line_num}: {error}", code=2) from error
    return rows


def _json_cell(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{where}: not JSON: {error}", code=2) from error
