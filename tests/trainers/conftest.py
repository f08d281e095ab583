"""What tests of training share: rows that a tiny model can learn in seconds."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from trainers.rows import Row, assistant, user

SETTINGS = {"learning_rate": 1e-2, "max_length": 128, "per_device_train_batch_size": 4, "lora_r": 8}
"""Quick on a tiny model."""


@pytest.fixture(scope="session", autouse=True)
def _offline() -> Iterator[None]:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    yield


@pytest.fixture(scope="session")
def sft_rows() -> list[Row]:
    return [
        Row("sft", {"prompt": user(f"How much is {i}?"), "completion": assistant("good")}, "test") for i in range(16)
    ]


@pytest.fixture(scope="session")
def pair_rows() -> list[Row]:
    return [
        Row(
            "preference",
            {"prompt": user(f"Say {i}."), "chosen": assistant("The answer."), "rejected": assistant("Question 好")},
            "test",
        )
        for i in range(16)
    ]


@pytest.fixture(scope="session")
def kto_rows(pair_rows: list[Row]) -> list[Row]:
    return [
        Row(
            "kto", {"prompt": row.content["prompt"], "completion": row.content[side], "label": side == "chosen"}, "test"
        )
        for row in pair_rows
        for side in ("chosen", "rejected")
    ]
