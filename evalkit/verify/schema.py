"""Structured output: JSON against a schema and expected values, Markdown and CSV tables against columns and cells."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from typing import Any

from evalkit.errors import UserError
from evalkit.verify.spec import Check, field, one_of, only, strings, verdict

FENCE = re.compile(r"^[ \t]*```[ \t]*(\w*)[ \t]*\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)
MISSING = object()


def _no_constants(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constants)


def extract_json(text: str) -> Any:
    """Return the JSON value in a response.

    The whole response, else the last fenced block that is JSON, else the first object or array in the prose.

    Raises:
        ValueError: If there is none.
    """
    blocks = [body for _, body in FENCE.findall(text)]
    for candidate in [text, *reversed(blocks)]:
        try:
            return _DECODER.decode(candidate.strip())
        except (ValueError, RecursionError):
            continue
    for match in re.finditer(r"[{\[]", text):
        try:
            return _DECODER.raw_decode(text, match.start())[0]
        except (ValueError, RecursionError):
            continue
    raise ValueError("no JSON in the response")


def same(left: Any, right: Any) -> bool:
    """Compare two JSON values: 1 equals 1.0, true does not equal 1, texts are compared trimmed."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, str) and isinstance(right, str):
        return left.strip() == right.strip()
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def check_json_schema(spec: Mapping[str, Any], text: str) -> Check:
    """Check the JSON of a response.

    Args:
        spec: `schema`: a JSON schema (draft 2020-12; references to other documents are not followed). `expected`: exact
            values of top-level keys. `strict`: the response must be JSON and nothing else (default false).
        text: The response.

    Returns:
        passed = valid with all expected values; score = 0 if invalid, else the share of expected values that are right.

    Raises:
        UserError: If the spec or its schema is malformed.
    """
    import jsonschema
    import referencing
    import referencing.exceptions

    only(spec, ("verifier", "schema", "expected", "strict"))
    schema = field(spec, "schema", dict)
    expected = field(spec, "expected", dict, {})
    strict = field(spec, "strict", bool, False)
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise UserError(f"verify spec: field 'schema' is not a valid JSON schema: {error.message}") from error
    try:
        value = _DECODER.decode(text.strip()) if strict else extract_json(text)
    except (ValueError, RecursionError):
        return verdict(False, "the response is not JSON alone" if strict else "no JSON in the response")
    # An empty registry: a schema must never make this fetch anything
    validator = jsonschema.Draft202012Validator(schema, registry=referencing.Registry())
    try:
        broken = next(iter(validator.iter_errors(value)), None)
    except referencing.exceptions.Unresolvable as error:
        raise UserError(f"verify spec: field 'schema' refers to {error.ref!r}, which is not in it") from error
    if broken is not None:
        return verdict(False, f"against the schema: {broken.message[:200]} at {broken.json_path}")
    if not expected:
        return verdict(True, "valid")
    found = value if isinstance(value, dict) else {}
    wrong = [key for key, gold in expected.items() if not same(found.get(key, MISSING), gold)]
    if not wrong:
        return verdict(True, "valid, all expected values right")
    return Check(False, 1 - len(wrong) / len(expected), f"valid, but wrong values for: {', '.join(wrong)}")


def markdown_table(text: str) -> list[list[str]] | None:
    """Return the cells of the first Markdown table in a text, header row first, or None."""
    rows: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        stripped = line.strip()
        if "|" in stripped:
            inner = stripped.removeprefix("|").removesuffix("|")
            rows.append([cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", inner)])
        else:
            if len(rows) >= 2 and all(re.fullmatch(r":?-+:?", cell) for cell in rows[1]):
                return [rows[0], *rows[2:]]
            rows = []
    return None


def csv_table(text: str) -> list[list[str]] | None:
    """Return the cells of the CSV in a text (its first fenced block, else all of it), or None if it has no comma."""
    fenced = FENCE.search(text)
    body = (fenced[2] if fenced else text).strip()
    if "," not in body:
        return None
    try:
        return [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(body), strict=True) if row]
    except csv.Error:
        return None


def check_table(spec: Mapping[str, Any], text: str) -> Check:
    """Check a table.

    Args:
        spec: `format`: "markdown" or "csv". `columns`: the header's texts in order (case ignored). `rows`: the cells
            expected, a list of lists of texts (case ignored). `ordered`: whether the order of rows matters (default
            true). `row_count`: the number of rows, where `rows` is not given.
        text: The response.

    Returns:
        passed = header, number of rows and all cells right; score = 0 without a table with that header, else the rows
        that are right over the larger of the numbers of rows expected and found.

    Raises:
        UserError: If the spec is malformed.
    """
    only(spec, ("verifier", "format", "columns", "rows", "ordered", "row_count"))
    form = one_of(spec, "format", ("markdown", "csv"))
    columns = strings(spec, "columns")
    rows: list[Any] = field(spec, "rows", list, [])
    if not all(isinstance(row, list) and len(row) == len(columns) for row in rows):
        raise UserError(f"verify spec: every row in field 'rows' must be a list of {len(columns)} cells, one a column")
    row_count = field(spec, "row_count", int, len(rows))
    ordered = field(spec, "ordered", bool, True)
    table = markdown_table(text) if form == "markdown" else csv_table(text)
    if not table:
        return verdict(False, f"no {form} table in the response")
    header, *found = [[" ".join(cell.split()) for cell in row] for row in table]
    if [cell.casefold() for cell in header] != [column.casefold() for column in columns]:
        return verdict(False, f"the header is {header}, expected {columns}")
    if any(len(row) != len(columns) for row in found):
        return Check(False, 0.0, f"a row has not {len(columns)} cells")
    if len(found) != row_count and not rows:
        return verdict(False, f"{len(found)} rows, expected {row_count}")
    expected = [[str(cell).casefold() for cell in row] for row in rows]
    found = [[cell.casefold() for cell in row] for row in found]
    if ordered:
        right = sum(a == b for a, b in zip(found, expected, strict=False))
    else:
        right = sum(row in found for row in expected)
    if right == len(expected) and len(found) == row_count:
        return verdict(True, "header and all rows right")
    score = right / max(len(expected), len(found))
    return Check(False, score, f"{right} of {len(expected)} rows right, {len(found)} found")
