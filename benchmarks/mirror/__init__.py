"""Well-known data sets from a local folder instead of a hub, for lm-eval's own task definitions.

`EVALKIT_DATA` names the folder. A task whose definition asks for one of the hub data sets below gets its rows from
there, in the columns that the hub's version has; everything else of the definition stays lm-eval's.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.errors import UserError

Rows = list[dict[str, Any]]
VARIABLE = "EVALKIT_DATA"
# The mirror's copies of the competition problems carry this line; lm-eval's definitions of the same tasks do not.
INSTRUCTION = "\nPlease reason step by step, and put your final answer within \\boxed{}."


@dataclass(frozen=True, slots=True)
class Mirrored:
    """Files of one data set.

    Attributes:
        files: Split to path under the folder; `{name}` is the data set's configuration (an MMLU subject).
        convert: One row of the file to the hub's columns.
    """

    files: Mapping[str, str]
    convert: Callable[[dict[str, Any]], dict[str, Any]]


def _same(row: dict[str, Any]) -> dict[str, Any]:
    return row


def _mmlu(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "question": row["question"],
        "choices": [row[f"choice{i}"] for i in range(4)],
        "answer": int(row["answer"]),
    }


def _competition(row: dict[str, Any]) -> dict[str, Any]:
    return {"problem": row["problem"].removesuffix(INSTRUCTION), "answer": str(row["answer"])}


def _aime24(row: dict[str, Any]) -> dict[str, Any]:
    row = _competition(row)
    return {"Problem": row["problem"], "Answer": row["answer"]}


def _truthful(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k != "doc_id"}


MIRRORED: Mapping[tuple[str, str], Mirrored] = {
    ("openai/gsm8k", "main"): Mirrored({"train": "gsm8k/train.jsonl", "test": "gsm8k/test.jsonl"}, _same),
    ("google/IFEval", ""): Mirrored({"train": "ifeval/input_data.jsonl"}, _same),
    ("cais/mmlu", "*"): Mirrored({"dev": "mmlu/dev/{name}_dev.csv", "test": "mmlu/test/{name}_test.csv"}, _mmlu),
    ("HuggingFaceH4/MATH-500", ""): Mirrored({"test": "math/math500.jsonl"}, _competition),
    ("Maxwell-Jia/AIME_2024", ""): Mirrored({"train": "math/aime24.jsonl"}, _aime24),
    ("math-ai/aime25", ""): Mirrored({"test": "math/aime25.jsonl"}, _competition),
    ("truthfulqa/truthful_qa", "generation"): Mirrored(
        {"validation": "truthfulqa/truthfulqa_gen_validation.jsonl"}, _truthful
    ),
    ("truthfulqa/truthful_qa", "multiple_choice"): Mirrored(
        {"validation": "truthfulqa/truthfulqa_mc_validation.jsonl"}, _same
    ),
}


def folder() -> Path | None:
    """Returns the folder that `EVALKIT_DATA` names, or None if it is not set.

    Raises:
        UserError: It is not a folder.
    """
    value = os.environ.get(VARIABLE)
    if not value:
        return None
    path = Path(value).expanduser()
    if not path.is_dir():
        raise UserError(f"{VARIABLE} is {value!r}, which is not a folder; unset it or name the folder of the mirror")
    return path


def wanted_files(dataset_path: str, dataset_name: str | None) -> dict[str, str]:
    """Returns split to relative path of a hub data set's mirror; empty if the mirror does not know it."""
    entry = _entry(dataset_path, dataset_name)
    return {} if entry is None else {s: f.format(name=dataset_name or "") for s, f in entry.files.items()}


def find(dataset_path: str, dataset_name: str | None) -> tuple[Callable[..., Any], str] | None:
    """Looks a hub data set up in the mirror.

    Args:
        dataset_path: As in lm-eval's definition: "openai/gsm8k".
        dataset_name: Its configuration: "main".

    Returns:
        A loader for lm-eval's `custom_dataset` (gives a `datasets.DatasetDict`) and the source for the ledger:
        "mirror PATH sha256:HEX, ..."; None if there is no mirror or it lacks a file.
    """
    root, entry = folder(), _entry(dataset_path, dataset_name)
    if root is None or entry is None:
        return None
    paths = {split: _existing(root / f) for split, f in wanted_files(dataset_path, dataset_name).items()}
    found = {split: path for split, path in paths.items() if path is not None}
    if len(found) < len(paths):
        return None
    convert = entry.convert

    def load(**_: Any) -> Any:
        from datasets import Dataset, DatasetDict

        return DatasetDict({s: Dataset.from_list([convert(row) for row in _rows(path)]) for s, path in found.items()})

    hashes = [f"{p.relative_to(root).as_posix()} sha256:{_sha256(p)}" for p in found.values()]
    return load, "mirror " + ", ".join(hashes)


def _entry(dataset_path: str, dataset_name: str | None) -> Mirrored | None:
    return MIRRORED.get((dataset_path, dataset_name or "")) or MIRRORED.get((dataset_path, "*"))


def _existing(path: Path) -> Path | None:
    return next((p for p in (path, path.with_name(path.name + ".gz")) if p.is_file()), None)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    with io.TextIOWrapper(io.BytesIO(raw), "utf-8", newline="") as file:
        if ".csv" in path.suffixes:
            yield from csv.DictReader(file)
            return
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield json.loads(line)
                except json.JSONDecodeError as error:
                    raise UserError(f"{path}, line {number}: not a JSON object: {error.msg}") from error
