"""A training that is killed goes on from its last whole checkpoint, and ends with the weights of an unbroken one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from evalkit.errors import UserError
from trainers.checkpoint import SEAL, Progress, clear_torn, is_training, last_whole, only_one, read_seal, seal
from trainers.methods import train
from trainers.recorder import Recorder
from trainers.rows import Row

ROOT = Path(__file__).resolve().parents[2]
SETTINGS: dict[str, Any] = {
    "max_length": 128, "per_device_train_batch_size": 4, "lora_r": 8, "learning_rate": 1e-2, "num_train_epochs": 5,
    "eval_steps": 4, "lora_dropout": 0.1,
}  # fmt: skip
WORKER = """
import json, sys, time
from pathlib import Path
from trainers.methods import train
from trainers.recorder import Recorder
from trainers.rows import Row

class Slow(Recorder):
    def record(self, step, metrics, **more):
        super().record(step, metrics, **more)
        time.sleep(0.25)

job = json.loads(Path(sys.argv[1]).read_text())
rows = [Row(**row) for row in job["rows"]]
train("sft", rows, rows[:4], Path(job["base"]), Path(job["out"]), job["settings"], recorder=Slow())
"""


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_killed_and_started_again_ends_with_the_same_weights(tiny: Path, sft_rows: list[Row], tmp_path: Path) -> None:
    import torch

    unbroken = train("sft", sft_rows, sft_rows[:4], tiny, tmp_path / "unbroken", SETTINGS)
    out = tmp_path / "killed"
    rows = [{"kind": row.kind, "content": row.content, "source": row.source} for row in sft_rows]
    (tmp_path / "job.json").write_text(
        json.dumps({"rows": rows, "base": str(tiny), "out": str(out), "settings": SETTINGS})
    )
    line = [sys.executable, "-c", WORKER, str(tmp_path / "job.json")]
    process = subprocess.Popen(line, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)
    work = tmp_path / "killed.partial"
    limit = time.monotonic() + 900  # importing alone takes minutes on a busy machine
    while not list(work.glob(f"checkpoint-*/{SEAL}")):
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.05)
    assert is_training(out)
    with pytest.raises(UserError, match="another process trains"):
        train("sft", sft_rows, sft_rows[:4], tiny, out, SETTINGS)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not is_training(out) and not out.exists()
    whole = last_whole(work)
    assert whole is not None
    # What a kill while a checkpoint is written leaves behind: newer, and torn.
    torn = work / "checkpoint-19"
    shutil.copytree(whole[0], torn)
    weights_file = torn / "adapter_model.safetensors"
    weights_file.write_bytes(weights_file.read_bytes()[:-100])
    assert last_whole(work) == whole

    recorder = Recorder()
    resumed = train("sft", sft_rows, sft_rows[:4], tiny, out, SETTINGS, recorder=recorder)
    assert min(step for _, step, _ in recorder.points) == whole[1].step + 1  # nothing is trained twice
    assert resumed.steps == unbroken.steps == 20
    assert resumed.losses == unbroken.losses and resumed.metrics["eval_loss"] == unbroken.metrics["eval_loss"]
    mine, other = weights(out), weights(tmp_path / "unbroken")
    assert mine.keys() == other.keys() and all(torch.equal(mine[name], other[name]) for name in mine)
    assert not work.exists()


def test_finished_or_only_unwritten_is_not_trained_again(tiny: Path, sft_rows: list[Row], tmp_path: Path) -> None:
    from unittest.mock import patch

    settings = {**SETTINGS, "num_train_epochs": 2}
    with patch("trainers.methods.run.write_model", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        train("sft", sft_rows, sft_rows[:4], tiny, tmp_path / "out", settings)  # killed before the model is written
    with pytest.raises(UserError, match="another training"):
        train("sft", sft_rows, sft_rows[:4], tiny, tmp_path / "out", settings, seed=1)
    recorder = Recorder()
    first = train("sft", sft_rows, sft_rows[:4], tiny, tmp_path / "out", settings, recorder=recorder)
    assert recorder.points == [] and first.steps == 8 and first.metrics["eval_loss"] > 0
    again = train("sft", sft_rows, sft_rows[:4], tiny, tmp_path / "out", settings, recorder=recorder)
    assert recorder.points == []
    assert (again.steps, again.losses, again.stopped) == (first.steps, first.losses, first.stopped)
    with pytest.raises(UserError, match="not the result of this training"):
        train("sft", sft_rows, sft_rows[:4], tiny, tmp_path / "out", settings, seed=1)


def test_the_seed_decides_the_weights(tiny: Path, sft_rows: list[Row], tmp_path: Path) -> None:
    settings = {**SETTINGS, "max_steps": 3}
    runs = [
        train("sft", sft_rows, [], tiny, tmp_path / str(n), settings, seed=seed) for n, seed in enumerate((3, 3, 4))
    ]
    assert runs[0].losses == runs[1].losses != runs[2].losses
    assert (runs[0].folder / "model.safetensors").read_bytes() == (runs[1].folder / "model.safetensors").read_bytes()


def test_it_stops_early_and_keeps_the_best_weights(tiny: Path, sft_rows: list[Row], tmp_path: Path) -> None:
    from trainers.rows import assistant

    other = [Row("sft", {**row.content, "completion": assistant("Ünïcode")}, "test") for row in sft_rows[:4]]
    settings = {**SETTINGS, "num_train_epochs": 20, "early_stopping_patience": 2, "lora_dropout": 0.0}
    recorder = Recorder()
    trained = train("sft", sft_rows, other, tiny, tmp_path / "out", settings, recorder=recorder)
    assert trained.stopped == "early_stop" and trained.steps < 80
    evals = [value for name, _, value in recorder.points if name == "eval_loss"]
    assert trained.metrics["eval_loss"] == min(evals) < evals[-1]
    assert "overfits" in " ".join(trained.warnings)


def test_it_stops_when_the_minutes_are_over(tiny: Path, sft_rows: list[Row], tmp_path: Path) -> None:
    trained = train("sft", sft_rows, [], tiny, tmp_path / "out", {**SETTINGS, "num_train_epochs": 500}, minutes=0.03)
    assert trained.stopped == "minutes" and 0 < trained.steps < 2000
    assert (trained.folder / "model.safetensors").exists()


def test_a_loss_that_is_no_number_ends_in_a_sentence(tiny: Path, sft_rows: list[Row], tmp_path: Path) -> None:
    settings = {**SETTINGS, "learning_rate": 1e30, "max_grad_norm": 1e30, "warmup_steps": 0}
    with pytest.raises(UserError, match="the loss is not a number"):
        train("sft", sft_rows, [], tiny, tmp_path / "out", settings, adapter="full")
    assert not (tmp_path / "out").exists()


def test_only_sealed_checkpoints_count(tmp_path: Path) -> None:
    for step in (2, 10):
        checkpoint = tmp_path / f"checkpoint-{step}"
        checkpoint.mkdir()
        (checkpoint / "weights").write_bytes(b"x" * step)
        seal(checkpoint, Progress(step, 1.5))
    assert last_whole(tmp_path) == (tmp_path / "checkpoint-10", Progress(10, 1.5))
    (tmp_path / "checkpoint-10" / "weights").write_bytes(b"y" * 10)  # changed after it was sealed
    (tmp_path / "checkpoint-30").mkdir()  # never sealed
    assert read_seal(tmp_path / "checkpoint-10") is None
    assert last_whole(tmp_path) == (tmp_path / "checkpoint-2", Progress(2, 1.5))
    assert clear_torn(tmp_path) == ["checkpoint-10", "checkpoint-30"]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert not is_training(out)
    with only_one(out):
        assert is_training(out)
    assert not is_training(out)
