"""What follows a training step by step: curves, time, stopping, and sealing checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.checkpoint import Progress, seal

if TYPE_CHECKING:
    from trainers.methods.common import Job

SAVE_EVERY_S = 600.0
"""A kill costs at most so many seconds of training, beside the checkpoints at evaluations."""


@dataclass
class State:
    """What a training's follower notes.

    Attributes:
        spent: Seconds of earlier pieces, before a kill.
        stopped: Why it stops: minutes, early_stop, or broken (the loss is no number); "" while it runs.
    """

    spent: float = 0.0
    stopped: str = ""
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return self.spent + time.monotonic() - self.started


def since_best(scores: Sequence[float], *, higher: bool) -> int:
    """Returns how many scores came after the first best one."""
    if not scores:
        return 0
    best = max(scores) if higher else min(scores)
    return len(scores) - 1 - scores.index(best)


def follower(job: Job, state: State) -> Any:
    """Returns the callback for TRL's trainers."""
    import torch
    from transformers import TrainerCallback

    def together(flag: bool) -> bool:
        """What one process decides, all must do, or they would wait for each other for ever."""
        if not torch.distributed.is_initialized():
            return flag
        place = "cuda" if torch.cuda.is_available() else "cpu"
        asked = torch.tensor([float(flag)], device=place)
        torch.distributed.all_reduce(asked, op=torch.distributed.ReduceOp.MAX)
        return bool(asked.item())

    class Follower(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.first: tuple[int, float] | None = None
            self.saved = time.monotonic()
            self.warned_of_time = False

        def on_train_begin(self, args: Any, at: Any, control: Any, **_: Any) -> Any:
            if at.is_world_process_zero:
                job.recorder.record(at.global_step, {}, total=at.max_steps)
            return control

        def on_step_end(self, args: Any, at: Any, control: Any, **_: Any) -> Any:
            if self.first is None:  # the first step warms up, and would spoil the estimate
                self.first = (at.global_step, time.monotonic())
            over = job.minutes is not None and state.seconds > 60 * job.minutes
            if together(over) and at.global_step < at.max_steps:
                state.stopped = "minutes"
                control.should_training_stop = control.should_save = control.should_log = True
                control.should_evaluate = args.load_best_model_at_end
            elif together(time.monotonic() - self.saved > SAVE_EVERY_S):
                control.should_save = True
            return control

        def left(self, at: Any) -> float | None:
            if self.first is None or at.global_step <= self.first[0]:
                return None
            pace = (time.monotonic() - self.first[1]) / (at.global_step - self.first[0])
            return float(pace * (at.max_steps - at.global_step))

        def on_log(self, args: Any, at: Any, control: Any, logs: Any = None, **_: Any) -> Any:
            if not at.is_world_process_zero or not logs or "train_runtime" in logs:
                return control
            left = self.left(at)
            job.recorder.record(at.global_step, logs, total=at.max_steps, left_s=left)
            if left and job.minutes and not self.warned_of_time and state.seconds + left > 60 * job.minutes:
                self.warned_of_time = True
                needed = (state.seconds + left) / 60
                job.recorder.warn(
                    f"All {at.max_steps} steps would take about {needed:.0f} minutes; the budget ends it after "
                    f"{job.minutes:g}."
                )
            loss = logs.get("loss")
            if loss is not None and not math.isfinite(loss):
                state.stopped = "broken"
                control.should_training_stop = True
                control.should_save = False
            return control

        def on_evaluate(self, args: Any, at: Any, control: Any, **_: Any) -> Any:
            patience = job.settings.early_stopping_patience
            if patience and not state.stopped and at.global_step < at.max_steps:
                # Read off the history, which a checkpoint restores: a counter of our own would begin anew after a kill.
                name = args.metric_for_best_model
                scores = [entry[name] for entry in at.log_history if name in entry]
                if since_best(scores, higher=bool(args.greater_is_better)) >= patience:
                    state.stopped = "early_stop"
                    control.should_training_stop = control.should_save = True
            return control

        def on_save(self, args: Any, at: Any, control: Any, **_: Any) -> Any:
            if torch.distributed.is_initialized():
                torch.distributed.barrier()  # other processes write their random states beside it
            self.saved = time.monotonic()
            if at.is_world_process_zero:
                job.recorder.flush()  # points before a checkpoint are not computed again after a kill
                ended = "done" if at.global_step >= at.max_steps else state.stopped
                best = Path(at.best_model_checkpoint).name if at.best_model_checkpoint else ""
                seal(job.work / f"checkpoint-{at.global_step}", Progress(at.global_step, state.seconds, ended, best))
            return control

    return Follower()
