"""Two processes train as one: the same code as with several GPUs, here on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.errors import UserError
from trainers.export import read_facts
from trainers.methods import train
from trainers.recorder import Recorder
from trainers.rows import Row, assistant, user


def test_two_processes_share_each_batch(tiny: Path, sft_rows: list[Row], tmp_path: Path) -> None:
    settings = {"max_length": 128, "lora_r": 4, "learning_rate": 1e-2, "lr_scheduler_type": "constant"}
    recorder = Recorder()
    long = Row("sft", {"prompt": user("No " * 200), "completion": assistant("good")}, "test")
    two = train(
        "sft", [*sft_rows, long], sft_rows[:4], tiny, tmp_path / "two", {**settings, "per_device_train_batch_size": 4},
        processes=2, recorder=recorder,
    )  # fmt: skip
    one = train("sft", sft_rows, [], tiny, tmp_path / "one", {**settings, "per_device_train_batch_size": 8})
    assert two.steps == one.steps == 2
    assert two.losses[0][1] == pytest.approx(one.losses[0][1], rel=1e-2)
    assert {name for name, _, _ in recorder.points} >= {"loss", "eval_loss"}
    [left_out] = recorder.warnings
    assert "1 of 17 rows are longer" in left_out
    assert two.warnings == tuple(read_facts(two.folder)["warnings"]) == (left_out,)
    assert (two.folder / "model.safetensors").exists() and not (tmp_path / "two.partial").exists()
    with pytest.raises(UserError, match="raise max_length"):
        train("sft", sft_rows, [], tiny, tmp_path / "no", {"max_length": 2}, processes=2)
