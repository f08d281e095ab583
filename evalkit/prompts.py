"""Own prompts for the arena, from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.store.rows import Item

COLUMNS = ("id", "prompt", "messages", "turns", "system", "verify", "reference", "checklist", "tags")


def read_prompts(path: Path, limit: int | None = None) -> list[Item]:
    """Reads prompts.

    Args:
        path: JSONL: an object a line, or CSV with a header. `prompt` (text), `messages` (a conversation that ends
            with the user's turn) or `turns` (a list of the user's turns, asked one after the other); optionally `id`,
            `system`, `verify` (a verifier's spec), `reference`, `checklist` (yes/no questions for judges) and `tags`
            (an object). With `turns`, `reference` and `verify` are lists with an entry for each turn (null for a
            turn without a verifier). In CSV the lists and objects are JSON text.
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
        messages = _messages(row, where)
        tags, verify = row.get("tags") or {}, row.get("verify")
        if not isinstance(tags, dict):
            raise UserError(f"{where}: field tags must be an object, not {tags!r}", code=2)
        _check_verify(verify, row.get("turns"), where)
        reference = {k: row[k] for k in ("verify", "checklist") if row.get(k) is not None}
        if row.get("reference") is not None:
            reference |= _by_turn(row["reference"], row.get("turns"), where)
        _check_checklist(row.get("checklist"), where)
        items.append(Item(messages, reference or None, tags, name))
    if not items:
        raise UserError(f"{path}: there is no prompt in it", code=2)
    return items[:limit]


def _check_verify(verify: Any, turns: Any, where: str) -> None:
    if not verify:
        return
    if turns is not None and (not isinstance(verify, list) or len(verify) != len(turns)):
        raise UserError(f"{where}: field verify must be a list with a spec or null for each of the turns", code=2)
    from evalkit.verify import verify as check  # many patterns to compile, for prompts that have verifiers

    for spec in verify if turns is not None else [verify]:
        if spec is None:
            continue
        if not isinstance(spec, dict):
            raise UserError(f"{where}: field verify must be an object, not {spec!r}", code=2)
        try:
            check(spec, "")
        except UserError as error:
            raise UserError(f"{where}: field verify: {error}", code=2) from error


def _by_turn(reference: Any, turns: Any, where: str) -> dict[str, Any]:
    if turns is None:
        return {"reference": reference}
    fits = isinstance(reference, list) and len(reference) == len(turns)
    if not fits or not all(isinstance(answer, str) and answer.strip() for answer in reference):
        raise UserError(f"{where}: field reference must be a list with an answer for each of the turns", code=2)
    return {"turns": reference}


def _check_checklist(questions: Any, where: str) -> None:
    texts = isinstance(questions, list) and questions and all(isinstance(q, str) and q.strip() for q in questions)
    if questions is not None and not texts:
        raise UserError(f"{where}: field checklist must be a list of yes/no questions", code=2)


def _messages(row: dict[str, Any], where: str) -> tuple[dict[str, Any], ...]:
    if sum(key in row for key in ("prompt", "messages", "turns")) != 1:
        raise UserError(f"{where}: give one of prompt, messages and turns", code=2)
    head = ({"role": "system", "content": str(row["system"])},) if row.get("system") else ()
    if "prompt" in row:
        if not isinstance(row["prompt"], str) or not row["prompt"].strip():
            raise UserError(f"{where}: field prompt must be a text that is not empty", code=2)
        return (*head, {"role": "user", "content": row["prompt"]})
    if "turns" in row:
        said = row["turns"]
        if not isinstance(said, list) or not said or not all(isinstance(t, str) and t.strip() for t in said):
            raise UserError(
                f"{where}: field turns must be a list of the user's turns, texts that are not empty", code=2
            )
        return (*head, *({"role": "user", "content": turn} for turn in said))
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
            for key in (
                "messages",
                "turns",
                "verify",
                "checklist",
                "tags",
                *(["reference"] if "turns" in given else []),
            ):
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
