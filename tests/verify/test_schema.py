"""JSON and tables: tolerant extraction, exact comparison, partial scores."""

from __future__ import annotations

import pytest

from evalkit.verify import verify

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
JSON = {"verifier": "json_schema", "schema": SCHEMA, "expected": {"name": "Ida", "age": 9}}
GOLD = '{"name": "Ida", "age": 9}'
TABLE = "| Name | Age |\n|---|:-:|\n| Ida | 9 |\n| Bo | 7 |"
ROWS = [["Ida", "9"], ["Bo", "7"]]


@pytest.mark.parametrize(
    "text",
    [
        GOLD,
        f"```json\n{GOLD}\n```",
        f"Here it is:\n```\n{GOLD}\n```\nAnything else?",
        f"Sure: {GOLD} Done.",
        '{"age": 9.0, "name": " Ida"}',
    ],
)
def test_json_is_found(text: str) -> None:
    assert verify(JSON, text).passed is True


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"name": "Ida", "age": 8}', 0.5),
        ('{"name": "Ida", "age": "9"}', 0.0),
        ('{"name": "Ida"}', 0.0),
        ('{"name": "Ida", "age": 9, "x": 1}', 0.0),
        ("{'name': 'Ida', 'age': 9}", 0.0),
        ('{"name": "Ida", "age": 9', 0.0),
        ('{"name": "Ida", "age": NaN}', 0.0),
        ("Ida is 9.", 0.0),
    ],
)
def test_wrong_json_fails(text: str, score: float) -> None:
    check = verify(JSON, text)
    assert (check.passed, check.score) == (False, score), check.reason


def test_strict_wants_json_and_nothing_else() -> None:
    assert verify({**JSON, "strict": True}, f" {GOLD}\n").passed is True
    assert verify({**JSON, "strict": True}, f"```json\n{GOLD}\n```").passed is False


def test_true_is_not_one() -> None:
    spec = {"verifier": "json_schema", "schema": {}, "expected": {"a": True, "b": [1, {"c": None}]}}
    assert verify(spec, '{"a": true, "b": [1.0, {"c": null}]}').passed is True
    assert verify(spec, '{"a": 1, "b": [1, {"c": null}]}').score == 0.5


def test_markdown_table() -> None:
    spec = {"verifier": "table", "format": "markdown", "columns": ["Name", "Age"], "rows": ROWS}
    assert verify(spec, f"Here:\n\n{TABLE}\n\nDone.").passed is True
    assert verify(spec, TABLE.replace("| Bo | 7 |", "| Bo | 8 |")).score == 0.5
    assert verify(spec, TABLE.replace("Ida", "IDA").replace("Name", "name")).passed is True
    assert verify(spec, TABLE.replace("|---|:-:|\n", "")).score == 0
    assert verify(spec, TABLE + "\n| Cy | 5 |").passed is False
    assert verify(spec, TABLE.replace("Age", "Years")).passed is False
    assert verify(spec, "| Name | Age |\n|---|---|\n| Bo | 7 |\n| Ida | 9 |").passed is False
    assert verify({**spec, "ordered": False}, "Name | Age\n--- | ---\nBo | 7\nIda | 9").passed is True


def test_csv() -> None:
    spec = {"verifier": "table", "format": "csv", "columns": ["name", "age"], "rows": ROWS}
    assert verify(spec, "name,age\nIda,9\nBo,7").passed is True
    assert verify(spec, '```csv\nname, age\n"Ida",9\nBo, 7\n```').passed is True
    assert verify(spec, "name;age\nIda;9\nBo;7").passed is False
    assert verify(spec, "name,age\nIda,9").passed is False
    assert verify(spec, "name,age\nIda,9,1\nBo,7").passed is False


def test_a_table_may_be_checked_for_its_shape_alone() -> None:
    spec = {"verifier": "table", "format": "csv", "columns": ["a", "b"], "row_count": 2}
    assert verify(spec, "a,b\n1,2\n3,4").passed is True
    assert verify(spec, "a,b\n1,2").passed is False
