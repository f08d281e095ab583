"""The estimate of memory grows with what is asked for, and too much is refused before the start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from evalkit.errors import UserError
from trainers.methods.common import Job
from trainers.methods.sft import Config
from trainers.recorder import Recorder
from trainers.resources import check_room, estimate
from trainers.rows import Row


@pytest.fixture
def job(tiny: Path, sft_rows: list[Row], tmp_path: Path) -> Job:
    return Job("sft", sft_rows, [], tiny, tmp_path / "out", Config(), "lora", 0, None, Recorder())


def test_more_weights_rows_and_methods_need_more(job: Job) -> None:
    one = estimate(job)
    full = estimate(replace(job, adapter="full"))
    assert full.memory > one.memory and full.disk > one.disk
    assert estimate(replace(job, method="dpo", adapter="full")).memory > full.memory
    assert estimate(replace(job, settings=Config(per_device_train_batch_size=64))).memory > one.memory
    assert estimate(replace(job, settings=Config(gradient_checkpointing=True))).memory < one.memory


@pytest.mark.parametrize(
    ("target", "value", "says"),
    [
        ("free_memory", lambda: (1e6, "memory"), r"needs about 1\.2 GB of memory, and 0\.0 GB are free"),
        ("free_memory", lambda: (1.0, "the GPU"), "of the GPU"),
        ("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})(), "GB of disk for checkpoints"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(job: Job, target: str, value: Any, says: str) -> None:
    with patch(f"trainers.resources.{target}", value), pytest.raises(UserError, match=says):
        check_room(job)
