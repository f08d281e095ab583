"""The search keeps the best trial, goes on after a kill, and asks for validation rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from evalkit.errors import UserError
from trainers.recorder import Recorder
from trainers.rows import Row
from trainers.search import search, usual_space

SETTINGS: dict[str, Any] = {
    "max_length": 128, "per_device_train_batch_size": 4, "lora_r": 4, "max_steps": 4, "eval_steps": 4,
    "learning_rate": 1e-5,
}  # fmt: skip
SPACE = {"learning_rate": (3e-3, 3e-2)}


def test_a_search_finds_better_settings_and_keeps_one_model(tiny: Path, sft_rows: list[Row], tmp_path: Path) -> None:
    out, given = tmp_path / "out", (sft_rows, sft_rows[:4], tiny, tmp_path / "out", SETTINGS)
    calls = 0

    def killed(*arguments: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return real(*arguments, **more)

    from trainers.search import train as real

    with patch("trainers.search.train", killed), pytest.raises(KeyboardInterrupt):
        search("sft", *given, trials=3, space=SPACE)
    assert len(json.loads((tmp_path / "out.search" / "trials.json").read_text())) == 2
    recorder = Recorder()
    found = search("sft", *given, trials=3, space=SPACE, recorder=recorder)
    assert [trial.number for trial in found.trials] == [0, 1, 2]
    assert len([1 for name, _, _ in recorder.points if name == "eval_loss"]) == 1  # the two that ended stand
    assert found.trials[0].settings["learning_rate"] == 1e-5  # the settings given come first
    scores = [trial.score for trial in found.trials if trial.score is not None]
    assert found.trained.metrics["eval_loss"] == min(scores) < scores[0]
    assert 3e-3 <= found.settings["learning_rate"] <= 3e-2
    assert out.is_dir() and not (tmp_path / "out.search").exists()
    assert (out / "README.md").read_text().split("# ", 2)[1].startswith("out")


def test_a_search_without_validation_rows_is_refused(tiny: Path, sft_rows: list[Row], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="need validation rows"):
        search("sft", sft_rows, [], tiny, tmp_path / "out", SETTINGS, trials=2)


def test_all_trials_failed(tiny: Path, sft_rows: list[Row], tmp_path: Path) -> None:
    broken = {**SETTINGS, "learning_rate": 1e30, "max_grad_norm": 1e30, "warmup_steps": 0}
    with pytest.raises(UserError, match="all 1 trials failed"):
        search("sft", sft_rows, sft_rows[:4], tiny, tmp_path / "out", broken, trials=1, space={}, adapter="full")


def test_the_usual_space_lies_around_the_methods_own_rate() -> None:
    space = usual_space("dpo", "lora")
    assert space == {"learning_rate": pytest.approx((4e-6, 1e-4)), "lora_r": (8, 16, 32)}
    assert list(usual_space("dpo", "full")) == ["learning_rate"]
