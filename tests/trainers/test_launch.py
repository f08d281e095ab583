"""Two processes train as one: the same code as with several GPUs, here on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.errors import UserError
from trainers.methods import train
from trainers.recorder import Recorder
from trainers.rows import Row


def test_two_processes_share_each_batch(tiny: Path, sft_rows: list[Row], tmp_path: Path) -> None:
    settings = {"max_length": 128, "lora_r": 4, "learning_rate": 1e-2, "lr_scheduler_type": "constant"}
    recorder = Recorder()
    two = train(
        "sft", sft_rows, sft_rows[:4], tiny, tmp_path / "two", {**settings, "per_device_train_batch_size": 4},
        processes=2, recorder=recorder,
    )  # fmt: skip
    one = train("sft", sft_rows, [], tiny, tmp_path / "one", {**settings, "per_device_train_batch_size": 8})
    assert two.steps == one.steps == 2
    assert two.losses[0][1] == pytest.approx(one.losses[0][1], rel=1e-2)
    assert {name for name, _, _ in recorder.points} >= {"loss", "eval_loss"}
    assert (two.folder / "model.safetensors").exists() and not (tmp_path / "two.partial").exists()
    with pytest.raises(UserError, match="raise max_length"):
        train("sft", sft_rows, [], tiny, tmp_path / "no", {"max_length": 2}, processes=2)
