"""Training sets as files: JSONL and Parquet in TRL's columns, and a folder for axolotl."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from evalkit.errors import UserError
from evalkit.store.formats.tables import write_objects, write_table
from trainers.rows import Row, RowKind
from trainers.training_set import TrainingSet

Form = Literal["trl", "axolotl"]
ENDINGS = (".jsonl", ".json", ".parquet")
COLUMNS: dict[RowKind, dict[str, type]] = {
    "sft": {"prompt": list, "completion": list},
    "preference": {"prompt": list, "chosen": list, "rejected": list, "margin": float},
    "kto": {"prompt": list, "completion": list, "label": bool},
    "grpo": {"prompt": list, "verify": str},
    "text": {"text": str},
}
"""TRL's columns; of `grpo` the check is JSON text, as its fields differ from row to row."""


def export(training_set: TrainingSet, path: Path, form: Form = "trl") -> int:
    """Writes a training set.

    Args:
        training_set: With its rows.
        path: For trl a file that ends in .jsonl, .json or .parquet; for axolotl a folder.
        form: trl has TRL's columns; axolotl gets `train.jsonl` and `axolotl.yaml`.

    Returns:
        The number of rows written.

    Raises:
        UserError: The file cannot be written, its ending is another, or rows are of several kinds.
    """
    rows = training_set.rows
    kinds = {row.kind for row in rows}
    if len(kinds) != 1:
        raise UserError(
            f"training set {training_set.id} has rows of {len(kinds)} kinds; one file holds one kind", code=2
        )
    kind = kinds.pop()
    if form == "axolotl":
        return _axolotl(training_set, kind, path)
    if path.suffix not in ENDINGS:
        raise UserError(f"{path}: a training set is written as {', '.join(ENDINGS)}", code=2)
    if path.suffix == ".parquet":
        cells = [[_cell(row.content.get(name), of) for name, of in COLUMNS[kind].items()] for row in rows]
        return write_table(path, COLUMNS[kind], [cells])
    return write_objects(path, [{name: row.content.get(name) for name in COLUMNS[kind]} for row in rows])


def _cell(value: Any, kind: type) -> Any:
    return json.dumps(value, ensure_ascii=False) if kind is str and not isinstance(value, str) else value


def _axolotl(training_set: TrainingSet, kind: RowKind, folder: Path) -> int:
    if kind == "grpo":
        raise UserError(
            "axolotl takes reward functions as Python code, which a training set does not hold; write it for TRL",
            code=2,
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: the folder cannot be made: {error.strerror}") from error
    n = write_objects(folder / "train.jsonl", [_axolotl_row(row) for row in training_set.rows])
    config = _axolotl_config(kind, str(training_set.recipe.get("base", "")))
    text = (
        f"# Training set {training_set.id} ({training_set.name}) for axolotl: set base_model to its hub id or folder.\n"
    )
    try:
        (folder / "axolotl.yaml").write_text(text + yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder}: axolotl.yaml cannot be written: {error.strerror}") from error
    return n


def _axolotl_row(row: Row) -> Mapping[str, Any]:
    content = row.content
    if row.kind == "text":
        return {"text": content["text"]}
    if row.kind == "sft":
        return {"messages": [*content["prompt"], *content["completion"]]}
    if row.kind == "kto":
        return {"messages": content["prompt"], "completion": content["completion"][0], "label": content["label"]}
    return {"messages": content["prompt"], "chosen": content["chosen"][0], "rejected": content["rejected"][0]}


def _axolotl_config(kind: RowKind, base: str) -> Mapping[str, Any]:
    """Returns the parts of an axolotl configuration that follow from the rows: names and types of its documentation."""
    data: dict[str, Any] = {"path": "train.jsonl", "ds_type": "json", "split": "train"}
    more: dict[str, Any] = {}
    if kind == "text":
        data["type"] = "completion"
    elif kind == "sft":
        data |= {"type": "chat_template", "field_messages": "messages", "roles_to_train": ["assistant"]}
    elif kind == "preference":
        data |= {"type": "chat_template.default", "field_messages": "messages", "field_chosen": "chosen",
                 "field_rejected": "rejected"}  # fmt: skip
        more["rl"] = "dpo"
    else:
        data |= {"type": "chat_template.default", "field_messages": "messages", "field_completion": "completion",
                 "field_label": "label"}  # fmt: skip
        more["rl"] = "kto"
    name = base.partition("/")[2] or base
    settings = {"adapter": "lora", "lora_r": 16, "lora_alpha": 32, "lora_target_linear": True, "micro_batch_size": 8,
                "gradient_accumulation_steps": 1, "num_epochs": 1, "learning_rate": 2e-4, "sequence_len": 1024,
                "output_dir": "out"}  # fmt: skip
    return {"base_model": name, **more, "datasets": [data], **settings}
