"""The live record of a training: its curves and status in the ledger, a bar for people, and other trackers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.errors import UserError
from evalkit.store.write_training_runs import Point, add_curve_points, finish_training_run
from trainers.watch import Watch

if TYPE_CHECKING:
    from evalkit.engine.progress import Progress
    from evalkit.store import Ledger

FLUSH_S = 2.0
TRACKERS = ("tensorboard", "trackio")
RENAMED = {"rewards/margins": "margin", "rewards/accuracies": "accuracy"}
KEPT = (
    *(
        "loss",
        "grad_norm",
        "learning_rate",
        "reward",
        "reward_std",
        "frac_reward_zero_std",
        "kl",
        "entropy",
        "accuracy",
    ),
    *("margin", "mean_token_accuracy", "completions/mean_length", "completions/clipped_ratio", "rewards/chosen"),
    *("rewards/rejected",),
)
"""Metrics of trainers that are recorded, with "eval_" before them too."""
SHOWN = {"loss": "loss", "eval_loss": "validation", "margin": "margin", "reward": "reward"}
"""What stands behind the bar, under these names."""


def seconds_in_words(seconds: float) -> str:
    """Returns a time as people say it: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Recorder:
    """Takes a training's metrics, and passes them on in batches.

    Args:
        ledger: Where the curves go; None keeps them in `points` alone (tests, trials of a search).
        training_run_id: Of `start_training_run`.
        say: Gets sentences: warnings, and what was found of an earlier start.
        shown: Gets a bar of the steps with the newest losses behind it, and the warnings.
        label: The bar's name.

    Attributes:
        points: Every point.
        warnings: Sentences on jumps of the loss, overfitting, rewards that teach nothing.

    Example:
        >>> recorder = Recorder(ledger, training_run_id, say=progress.say, shown=progress)
        >>> recorder.record(1, {"loss": 2.3}, total=100)
    """

    def __init__(
        self,
        ledger: Ledger | None = None,
        training_run_id: int | None = None,
        *,
        say: Callable[[str], None] | None = None,
        shown: Progress | None = None,
        label: str = "Training",
    ) -> None:
        self.points: list[Point] = []
        self.warnings: list[str] = []
        self.progress = ""
        self._ledger, self._run = ledger, training_run_id
        self._say = say
        self.shown, self._label = shown, label
        self._bar: Any = None
        self._step = 0
        self._newest: dict[str, float] = {}
        self._watch = Watch()
        self._unsent: list[Point] = []
        self._flushed = time.monotonic()
        self._trackers: list[Callable[[int, Mapping[str, float]], None]] = []

    def report_to(self, trackers: Sequence[str], folder: Path) -> None:
        """Sends the curves to other trackers too: "tensorboard", "trackio" (packages of their own).

        Args:
            folder: Where TensorBoard's files go; its name is the run's.

        Raises:
            UserError: A tracker is unknown or not installed.
        """
        if unknown := sorted(set(trackers) - set(TRACKERS)):
            raise UserError(f"report_to: {unknown[0]!r} is not known; allowed: {', '.join(TRACKERS)}", code=2)
        self._trackers = [_tracker(name, folder) for name in trackers]

    def record(self, step: int, metrics: Mapping[str, Any], *, total: int = 0, left_s: float | None = None) -> None:
        """Takes the metrics of a step.

        Args:
            step: Of the optimizer, from 1.
            metrics: By the trainer's names; those not in `KEPT` are dropped. None at the start.
            total: Steps in all.
            left_s: Estimate of the seconds left.
        """
        kept = kept_of(metrics)
        fresh: list[Point] = [(name, step, value) for name, value in kept.items()]
        self.points += fresh
        self._unsent += fresh
        for tracker in self._trackers:
            tracker(step, kept)
        for sentence in self._watch.read(step, kept):
            self.warn(sentence)
        if total:
            left = f", about {seconds_in_words(left_s)} left" if left_s is not None else ""
            self.progress = f"step {step} of {total}{left}"
            self._show(step, kept, total)
        if time.monotonic() - self._flushed > FLUSH_S:
            self.flush()

    def _show(self, step: int, kept: Mapping[str, float], total: int) -> None:
        if self.shown is None:
            return
        if self._bar is None:
            self._bar = self.shown.start(self._label, total, done=step)
            self._step = step
        self._newest |= kept
        values = [f"{word} {self._newest[name]:.3g}" for name, word in SHOWN.items() if name in self._newest]
        self.shown.advance(self._bar, step - self._step, note=", ".join(values))
        self._step = step

    def warn(self, sentence: str) -> None:
        """Takes a warning, and says it."""
        self.warnings.append(sentence)
        if self.shown is not None:
            self.shown.warn(sentence)
        else:
            self.tell(f"Warning: {sentence}")

    def tell(self, sentence: str) -> None:
        """Says something to who is watching."""
        if self._say is not None:
            self._say(sentence)

    def flush(self) -> None:
        """Sends what was not sent yet."""
        if self._ledger is not None and self._run is not None:
            add_curve_points(self._ledger, self._run, self._unsent, message=self.progress)
        self._unsent = []
        self._flushed = time.monotonic()

    def finish(self, status: str, message: str = "") -> None:
        """Ends the record: status done or failed; the warnings stand in the run's message."""
        if self.shown is not None and self._bar is not None:
            self.shown.finish(self._bar)
            self._bar = None
        self.flush()
        if self._ledger is not None and self._run is not None:
            said = " ".join(filter(None, [message, *self.warnings]))
            finish_training_run(self._ledger, self._run, "done" if status == "done" else "failed", message=said)


def kept_of(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Returns the metrics that are recorded, by our names."""
    kept = {}
    for name, value in metrics.items():
        side, bare = ("eval_", name[5:]) if name.startswith("eval_") else ("", name)
        bare = RENAMED.get(bare, bare)
        if bare in KEPT and isinstance(value, int | float):
            kept[side + bare] = float(value)
    return kept


def mark_died(ledger: Ledger) -> list[int]:
    """Marks trainings as died whose process is gone; returns their ids.

    A training holds a lock of its work folder, which the system lets go of when its process ends. Those whose work
    folder does not lie on this machine are left as they are.
    """
    import sqlalchemy as sa

    from evalkit.store.schema import TrainingRun
    from trainers.checkpoint import is_training, work_folder

    with ledger.engine.connect() as connection:
        running = connection.execute(
            sa.select(TrainingRun.id, TrainingRun.checkpoint).where(TrainingRun.status == "running")
        ).all()
    died = []
    for key, checkpoint in running:
        out = Path(checkpoint) if checkpoint else None
        if out is not None and work_folder(out).exists() and not is_training(out):
            message = "The process ended in the middle; the same command goes on from the last checkpoint."
            finish_training_run(ledger, key, "died", message=message)
            died.append(key)
    return died


def _tracker(name: str, folder: Path) -> Callable[[int, Mapping[str, float]], None]:
    """Returns a function that sends a step's metrics to a tracker.

    Raises:
        UserError: Its package is not installed.
    """
    try:
        if name == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            writer = SummaryWriter(str(folder))

            def to_tensorboard(step: int, metrics: Mapping[str, float]) -> None:
                for metric, value in metrics.items():
                    writer.add_scalar(metric, value, step)
                writer.flush()

            return to_tensorboard
        import trackio
    except ImportError as error:
        raise UserError(f"report_to: {name} is not installed; type: pip install {name}") from error
    # Its own local store: nothing is sent anywhere.
    trackio.init(project="evalkit", name=folder.name)
    return lambda step, metrics: trackio.log(dict(metrics), step=step)
