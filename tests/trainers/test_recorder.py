"""Curves reach the ledger once, status is true after a kill, and warnings are said in words."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from evalkit.engine import progress
from evalkit.engine.progress import RichProgress
from evalkit.errors import UserError
from evalkit.models.base import ModelSettings
from evalkit.store import Ledger
from evalkit.store.frames_training import curve_points, training_runs
from evalkit.store.write_training_runs import add_curve_points, finish_training_run, start_training_run
from trainers.checkpoint import only_one
from trainers.recorder import Recorder, mark_died, seconds_in_words
from trainers.watch import Watch


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(str(tmp_path / "ledger.db")) as opened:
        yield opened


def start(ledger: Ledger, out: Path, **config: object) -> tuple[int, str, str]:
    parent = ledger.add_models([ModelSettings("hf", "base", "r1")])[0]
    return start_training_run(
        ledger, parent_id=parent, training_set_id=None, method="sft", config=config, checkpoint=str(out)
    )


def test_the_same_training_is_one_row_and_goes_on_unless_done(ledger: Ledger, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    first = start(ledger, tmp_path / "out", seed=0)
    assert first == (1, "running", out) == start(ledger, tmp_path / "out", seed=0)
    assert start(ledger, tmp_path / "out", seed=1) == (2, "running", out)
    finish_training_run(ledger, 1, "failed", message="memory")
    assert start(ledger, tmp_path / "out", seed=0) == (1, "running", out)
    finish_training_run(ledger, 1, "done")
    assert start(ledger, tmp_path / "of another plan", seed=0) == (1, "done", out), "trained once, whatever its name"
    frame = training_runs(ledger).set_index("training_run_id")
    assert frame.loc[1, "status"] == "done" and frame.loc[2, "status"] == "running"


def test_curves_are_stored_once_and_a_step_trained_again_replaces_its_points(ledger: Ledger, tmp_path: Path) -> None:
    key, *_ = start(ledger, tmp_path / "out")
    recorder = Recorder(ledger, key)
    recorder.record(1, {"loss": 2.0, "grad_norm": 1.0, "rewards/margins": 0.5, "epoch": 0.1, "eval_loss": 3.0})
    recorder.record(2, {"loss": math.nan}, total=10, left_s=400)
    recorder.flush()
    recorder.flush()
    add_curve_points(ledger, key, [("loss", 1, 1.5), ("loss", 1, 1.25)])
    frame = curve_points(ledger, key)
    points = {(metric, step): value for metric, step, value in frame.itertuples(index=False)}
    assert points[("loss", 1)] == 1.25 and math.isnan(points[("loss", 2)])
    assert {metric for metric, _ in points} == {"loss", "grad_norm", "margin", "eval_loss"}
    assert training_runs(ledger)["message"][0] == "step 2 of 10, about 7 min left"
    recorder.finish("done")
    row = training_runs(ledger).iloc[0]
    assert row["status"] == "done" and "loss is not a number" in row["message"] and row["finished_at"]


def test_a_training_whose_process_is_gone_is_marked_as_died(ledger: Ledger, tmp_path: Path) -> None:
    out = tmp_path / "out"
    start(ledger, out)
    assert mark_died(ledger) == []  # it has no work folder here: not begun, or on another machine
    with only_one(out):
        assert mark_died(ledger) == []
    assert mark_died(ledger) == [1]
    assert training_runs(ledger)["status"][0] == "died"
    assert start(ledger, out) == (1, "running", str(out))


def test_tensorboard_gets_the_curves_too(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    recorder = Recorder()
    recorder.report_to(("tensorboard",), tmp_path / "board")
    recorder.record(1, {"loss": 2.0})
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    assert [event.value for event in events.Scalars("loss")] == [2.0]


def test_a_bar_shows_the_steps_and_the_newest_losses_and_starts_where_a_training_goes_on() -> None:
    told = io.StringIO()
    shown = RichProgress(Console(file=told, force_terminal=True, width=120, no_color=True))
    recorder = Recorder(say=lambda sentence: pytest.fail(sentence), shown=shown)
    recorder.record(40, {}, total=60)
    recorder.record(41, {"loss": 2.0}, total=60)
    recorder.record(41, {"eval_loss": 2.5}, total=60)
    recorder.record(50, {"loss": math.nan}, total=60)
    recorder.finish("failed")
    last = told.getvalue().rpartition("Training")[2]
    assert "50/60" in last and "loss nan, validation 2.5" in last
    assert "Warning: Step 50: the loss is not a number" in told.getvalue()
    assert len(recorder.warnings) == 1


def test_a_log_file_gets_lines_whose_estimate_leaves_out_what_was_trained_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told, clock = io.StringIO(), [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    recorder = Recorder(shown=RichProgress(Console(file=told, width=120)))
    recorder.record(90, {}, total=100)
    for step in (91, 92, 93):
        clock[0] += 20.0
        recorder.record(step, {"loss": 4.0 - step / 30}, total=100)
    recorder.finish("done")
    assert told.getvalue().splitlines() == [
        "Training: 92/100 in 40.0 s, about 160 s left loss 0.933",
        "Training: 93/100 in 60.0 s loss 0.9",
    ]


def test_an_unknown_tracker_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'wandb' is not known; allowed: tensorboard, trackio"):
        Recorder().report_to(("wandb",), tmp_path)


def test_a_jump_of_the_loss_is_told_once_and_noise_is_not() -> None:
    watch = Watch()
    said = [sentence for step in range(40) for sentence in watch.read(step, {"loss": 1 + 0.1 * math.sin(step)})]
    assert said == []
    assert "jumped to 4 from about 1" in watch.read(41, {"loss": 4.0})[0]
    assert watch.read(42, {"loss": 5.0}) == []


def test_overfitting_is_told_after_two_worse_evaluations_while_the_training_loss_falls() -> None:
    watch = Watch()
    told = []
    for step, (loss, held) in enumerate([(2.0, 2.0), (1.5, 1.6), (1.0, 1.8), (0.5, 1.9), (0.3, 2.2)]):
        told += watch.read(step, {"loss": loss})
        told += watch.read(step, {"eval_loss": held})
    assert len(told) == 1 and "it overfits: the validation loss is 1.9 after 1.6 at step 1" in told[0]
    stuck = Watch()  # both rise: that is divergence, not overfitting
    assert [
        s for n in range(9) for s in stuck.read(n, {"loss": 1.0 + n / 9}) + stuck.read(n, {"eval_loss": 1.0 + n})
    ] == []


def test_rewards_that_teach_nothing_are_told() -> None:
    watch = Watch()
    told = [sentence for step in range(20) for sentence in watch.read(step, {"frac_reward_zero_std": 1.0})]
    assert len(told) == 1 and "same reward" in told[0]
    assert watch.read(21, {"completions/clipped_ratio": 1.0}) == [
        "Step 21: nearly all answers are cut off: raise max_completion_length."
    ]


@pytest.mark.parametrize(("seconds", "words"), [(5, "5 s"), (300, "5 min"), (9000, "2.5 h")])
def test_times_in_words(seconds: float, words: str) -> None:
    assert seconds_in_words(seconds) == words
