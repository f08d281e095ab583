"""Hyper-parameter search with Optuna: within a budget, judged on the validation rows, never on a held-out slice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from trainers.checkpoint import write_atomically
from trainers.export import write_card
from trainers.methods.common import Adapter, LossBroke, Reward, Trained, read_settings
from trainers.methods.run import config_of, train
from trainers.plan import Method
from trainers.recorder import Recorder
from trainers.rows import Row

Space = Mapping[str, Sequence[Any]]
"""By setting: two floats (lowest, highest; drawn on a logarithmic scale), or choices (any other sequence)."""
TRIALS = "trials.json"


@dataclass(frozen=True, slots=True)
class Trial:
    """Settings that were tried.

    Attributes:
        score: Validation loss (lower is better), or reward for online RL (higher is better); None if it failed.
        message: Why it failed.
    """

    number: int
    settings: Mapping[str, Any]
    score: float | None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a search: the best trial's model and settings, and all trials."""

    trained: Trained
    settings: Mapping[str, Any]
    trials: tuple[Trial, ...]


def usual_space(method: Method, adapter: Adapter) -> dict[str, Sequence[Any]]:
    """Returns what is searched by default: the learning rate within a factor of five, and the adapter's rank."""
    rate = config_of(method)().rate(adapter)
    ranks: dict[str, Sequence[Any]] = {} if adapter == "full" else {"lora_r": (8, 16, 32)}
    return {"learning_rate": (rate / 5, rate * 5), **ranks}


def search(
    method: Method,
    rows: Sequence[Row],
    validation: Sequence[Row],
    base: Path,
    out: Path,
    settings: Mapping[str, Any],
    *,
    trials: int,
    space: Space | None = None,
    adapter: Adapter = "lora",
    seed: int = 0,
    minutes: float | None = None,
    recorder: Recorder | None = None,
    rewards: Sequence[Reward] = (),
) -> Found:
    """Trains with several settings and keeps the model that does best on the validation rows.

    The first trial has the settings given, so that the result is never worse than without a search; the others are
    drawn by TPE (Bergstra et al. 2011) from what was found so far. Killed and called again, trials that ended stand,
    and the one that ran goes on from its checkpoint.

    Args:
        validation: Judge the trials. Never rows of a held-out slice: the winner fits them.
        out: Folder of the best model; `out.search` holds the trials until then.
        trials: How many.
        space: See `Space`; by default `usual_space`.
        minutes: Of all trials together; each gets the same share, or the comparison would not be fair.

    Raises:
        UserError: There are no validation rows, a setting is unknown, or every trial failed.
    """
    if not validation:
        raise UserError("budget: trials need validation rows to be judged by", code=2)
    recorder = recorder or Recorder()
    given = dict(space) if space is not None else usual_space(method, adapter)
    read_settings(config_of(method), {**settings, **{name: values[0] for name, values in given.items()}})
    folder = out.with_name(out.name + ".search")
    folder.mkdir(parents=True, exist_ok=True)
    done = _read(folder / TRIALS)
    higher = method in ("grpo", "rloo")
    while len(done) < trials:
        number = len(done)
        tried = dict(settings) if number == 0 else {**settings, **_ask(folder, number, done, given, seed, higher)}
        recorder.tell(f"Trial {number + 1} of {trials}: {_said(tried, given)}.")
        place = folder / f"trial-{number}"
        share = minutes / trials if minutes else None
        followed = Recorder(say=recorder.tell, shown=recorder.shown, label=f"Trial {number + 1} of {trials}")
        try:
            trained = train(
                method,
                rows,
                validation,
                base,
                place,
                tried,
                adapter=adapter,
                seed=seed,
                minutes=share,
                recorder=followed,
                rewards=rewards,
            )
            score = trained.metrics["eval_reward" if higher else "eval_loss"]
            trial = Trial(number, tried, score)
            recorder.record(number + 1, {"eval_reward" if higher else "eval_loss": score})
        except LossBroke as error:
            trial = Trial(number, tried, None, str(error))
            recorder.warn(f"trial {number + 1}: {error}")
            shutil.rmtree(place.with_name(place.name + ".partial"), ignore_errors=True)
        finally:
            followed.finish("done")  # it only ends the bar
        done.append(trial)
        write_atomically(folder / TRIALS, json.dumps([_told(one) for one in done], indent=1))
        _keep_best(folder, done, higher)
    best = _best(done, higher)
    if best is None:
        raise UserError(f"all {trials} trials failed; the first: {done[0].message}")
    place = folder / f"trial-{best.number}"
    if not out.exists():
        place.rename(out)
    write_card(out)
    trained = train(method, rows, validation, base, out, best.settings, adapter=adapter, seed=seed,
                    minutes=minutes / trials if minutes else None, rewards=rewards)  # fmt: skip
    write_atomically(out / TRIALS, json.dumps([_told(one) for one in done], indent=1))
    shutil.rmtree(folder)
    return Found(trained, best.settings, tuple(done))


def _ask(folder: Path, number: int, done: Sequence[Trial], space: Space, seed: int, higher: bool) -> dict[str, Any]:
    """Draws a trial's settings from those that ended; the draw depends on them and the seed alone."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ranges: dict[str, Any] = {name: _range(values) for name, values in space.items()}
    study = optuna.create_study(
        direction="maximize" if higher else "minimize",
        sampler=optuna.samplers.TPESampler(seed=seed + number, n_startup_trials=4),
    )
    for trial in done:
        tried = {name: trial.settings[name] for name in ranges if name in trial.settings}
        if (
            trial.score is not None
            and set(tried) == set(ranges)
            and all(_within(ranges[n], v) for n, v in tried.items())
        ):
            study.add_trial(optuna.trial.create_trial(params=tried, distributions=ranges, values=[trial.score]))
    return dict(study.ask(ranges).params)


def _range(values: Sequence[Any]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if len(values) == 2 and all(isinstance(value, float) for value in values):
        return FloatDistribution(values[0], values[1], log=True)
    return CategoricalDistribution(list(values))


def _within(distribution: Any, value: Any) -> bool:
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except ValueError:
        return False  # the settings given lie outside of what is searched


def _best(done: Sequence[Trial], higher: bool) -> Trial | None:
    scored = [(trial.score, trial) for trial in done if trial.score is not None]
    if not scored:
        return None
    return (max if higher else min)(scored, key=lambda pair: pair[0])[1]


def _keep_best(folder: Path, done: Sequence[Trial], higher: bool) -> None:
    """Deletes the models that are beaten: each takes the disk of a whole one."""
    best = _best(done, higher)
    for trial in done:
        if best is None or trial.number != best.number:
            shutil.rmtree(folder / f"trial-{trial.number}", ignore_errors=True)


def _said(settings: Mapping[str, Any], space: Space) -> str:
    drawn = {name: settings[name] for name in space if name in settings}
    return ", ".join(f"{n} {v:.3g}" if isinstance(v, float) else f"{n} {v}" for n, v in drawn.items()) or "as given"


def _told(trial: Trial) -> dict[str, Any]:
    return {
        "number": trial.number, "settings": dict(trial.settings), "score": trial.score, "message": trial.message,
    }  # fmt: skip


def _read(file: Path) -> list[Trial]:
    if not file.exists():
        return []
    return [Trial(**one) for one in json.loads(file.read_text(encoding="utf-8"))]
