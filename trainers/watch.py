"""What curves warn of, in words: jumps of the loss, overfitting, rewards that teach nothing."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from statistics import median

WINDOW = 20
MIN_POINTS = 10
SPIKE_MADS = 8.0
SPIKE_RATIO = 1.5
OVERFIT_EVALS = 2
OVERFIT_SHARE = 0.02
FLAT_SHARE = 0.9
FLAT_STEPS = 10


class Watch:
    """Reads a training's metrics as they come and says each warning once.

    Rules. Jump: a loss above 1.5 times the median of the last 20, and more than 8 median absolute deviations (scaled by
    1.4826, so as to estimate a standard deviation) above it, with 10 points at least. Overfitting: the validation loss
    is over its best by 2 % in two evaluations in a row, while the training loss fell. Flat rewards: in 10 steps, 9 of
    10 groups had one and the same reward, so no answer was better than another.
    """

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._zero: deque[float] = deque(maxlen=FLAT_STEPS)
        self._best: tuple[float, int, float] | None = None
        self._worse = 0
        self._said: set[str] = set()

    def read(self, step: int, metrics: Mapping[str, float]) -> list[str]:
        """Takes the metrics of a step, and returns what they warn of (nothing, as a rule)."""
        found = []
        if "loss" in metrics:
            found.append(self._spike(step, metrics["loss"]))
        if "eval_loss" in metrics:
            found.append(self._overfit(step, metrics["eval_loss"]))
        if "frac_reward_zero_std" in metrics:
            found.append(self._flat(step, metrics["frac_reward_zero_std"]))
        if metrics.get("completions/clipped_ratio", 0.0) > FLAT_SHARE:
            found.append(
                self._once("cut", f"Step {step}: nearly all answers are cut off: raise max_completion_length.")
            )
        return [sentence for sentence in found if sentence]

    def _once(self, kind: str, sentence: str) -> str:
        if kind in self._said:
            return ""
        self._said.add(kind)
        return sentence

    def _spike(self, step: int, loss: float) -> str:
        if not math.isfinite(loss):
            return self._once("nan", f"Step {step}: the loss is not a number: lower learning_rate or max_grad_norm.")
        usual = median(self._losses) if len(self._losses) >= MIN_POINTS else math.inf
        spread = 1.4826 * median(abs(x - usual) for x in self._losses) if math.isfinite(usual) else 0.0
        # Losses of preference methods lie near zero, where a ratio alone would call any noise a jump.
        jumped = loss > usual + SPIKE_MADS * spread and loss > SPIKE_RATIO * abs(usual) + 0.1
        self._losses.append(loss)
        if not jumped:
            return ""
        return self._once(
            "spike",
            f"Step {step}: the loss jumped to {loss:.3g} from about {usual:.3g}; if it stays there, a lower "
            "learning_rate or max_grad_norm helps.",
        )

    def _overfit(self, step: int, loss: float) -> str:
        now = median(self._losses) if self._losses else math.nan
        if self._best is None or loss < self._best[0]:
            self._best, self._worse = (loss, step, now), 0
            return ""
        best, at, then = self._best
        self._worse = self._worse + 1 if loss > best * (1 + OVERFIT_SHARE) else 0
        if self._worse < OVERFIT_EVALS or not now < then:
            return ""
        return self._once(
            "overfit",
            f"Step {step}: it overfits: the validation loss is {loss:.3g} after {best:.3g} at step {at}, while the "
            "training loss still falls; fewer epochs, more rows or a lower learning_rate help.",
        )

    def _flat(self, step: int, zero: float) -> str:
        self._zero.append(zero)
        if len(self._zero) < FLAT_STEPS or sum(self._zero) / FLAT_STEPS < FLAT_SHARE:
            return ""
        return self._once(
            "flat",
            f"Step {step}: in nearly all groups every answer got the same reward, which teaches nothing: choose "
            "prompts that the model answers well now and then, or raise num_generations or temperature.",
        )
