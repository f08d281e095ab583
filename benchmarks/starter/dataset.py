"""How lm-eval gets a starter task's items: read from the JSONL beside this file, whatever the working directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evalkit.errors import UserError

DATA = Path(__file__).with_name("data")
SPLITS = ("dev", "test")


def read_items(name: str) -> list[dict[str, Any]]:
    """Return the items of a starter data file.

    Args:
        name: File name without suffix, such as "arithmetic_de".

    Raises:
        UserError: If there is no such file.
    """
    path = DATA / f"{name}.jsonl"
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in DATA.glob("*.jsonl")))
        raise UserError(f"the starter suite has no data file {name!r}; there are {known}")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def load(data_file: str, **_metadata: Any) -> dict[str, Any]:
    """Return a task's splits as Hugging Face datasets (lm-eval's `custom_dataset`).

    Args:
        data_file: File name without suffix, from `dataset_kwargs` in the task's YAML.
        **_metadata: lm-eval passes the task's metadata too; nothing here depends on it.

    Returns:
        Split name -> dataset. `verify` and `tags` differ from item to item, so they are JSON columns.
    """
    import datasets

    items = read_items(data_file)
    text = datasets.Value("string")
    columns: dict[str, Any] = {column: text for column in ("id", "question", "answer", "split")}
    if "choices" in items[0]:
        columns["choices"] = datasets.List(text)
    features = datasets.Features({**columns, "verify": datasets.Json(), "tags": datasets.Json()})
    return {
        split: datasets.Dataset.from_list([item for item in items if item["split"] == split], features=features)
        for split in SPLITS
    }
