"""Runs a training of any method: checks, trains or goes on after a kill, and leaves a finished model folder."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.models.base import sha256
from evalkit.models.weights import find_weights
from trainers.checkpoint import Progress, clear_torn, last_whole, only_one, write_atomically
from trainers.export import read_facts, write_model
from trainers.methods.common import Adapter, Job, LossBroke, Reward, Settings, Trained, read_settings
from trainers.methods.following import State, follower
from trainers.plan import ROWS_OF, Method
from trainers.recorder import Recorder, seconds_in_words
from trainers.resources import check_room
from trainers.rows import Row

MODULES: dict[str, str] = {
    "sft": "sft", "cpt": "cpt", "dpo": "preference", "ipo": "preference", "kto": "kto", "reward": "reward",
    "grpo": "online", "rloo": "online",
}  # fmt: skip


def config_of(method: Method) -> type[Settings]:
    """Returns the class of a method's settings."""
    module = importlib.import_module(f"trainers.methods.{MODULES[method]}")
    found: type[Settings] = module.ConfigRLOO if method == "rloo" else module.Config
    return found


def train(
    method: Method,
    rows: Sequence[Row],
    validation: Sequence[Row],
    base: Path,
    out: Path,
    settings: Mapping[str, Any],
    *,
    adapter: Adapter = "lora",
    seed: int = 0,
    minutes: float | None = None,
    recorder: Recorder | None = None,
    rewards: Sequence[Reward] = (),
    processes: int | None = None,
) -> Trained:
    """Trains a model, on the CPU, one GPU or many.

    Killed at any moment and called again with the same arguments, it goes on from the last whole checkpoint and ends
    with the same weights; called after it has finished, it returns the result without training. Rows, settings and seed
    decide the weights to the last bit on a CPU.

    Args:
        method: One of `trainers.plan.METHODS`.
        rows: Of the kind that the method takes (`trainers.plan.ROWS_OF`).
        validation: Rows of the same kind: they choose the best checkpoint and stop early, and are never learned. Never
            give rows of a held-out slice.
        base: Folder of the model: safetensors and tokenizer.
        out: Folder of the result. It appears when the model is finished; before, `out.partial` holds checkpoints.
        settings: By TRL's names, see the method's Config; and `reward_model` (folder) for online RL.
        adapter: lora and qlora train low-rank weights and merge them into the result; full trains all.
        seed: Of every draw.
        minutes: The training stops after so many, and keeps what it has learned.
        recorder: Takes curves, progress and warnings.
        rewards: For online RL: further rewards, such as a judge's; added to those of the rows' verifiers.
        processes: That train together, each on its share of every batch; by default one for each GPU. Within
            `accelerate launch` or `torchrun` it is theirs to say.

    Returns:
        The folder, and how the training went.

    Raises:
        UserError: A setting, row or folder is wrong, memory or disk do not suffice, or the loss became no number.
    """
    recorder = recorder or Recorder()
    module: Any = importlib.import_module(f"trainers.methods.{MODULES[method]}")
    checked = read_settings(config_of(method), settings)
    wanted = ROWS_OF[method]
    wrong = next((row for row in [*rows, *validation] if row.kind != wanted), None)
    if wrong is not None:
        raise UserError(f"method {method}: a row is of kind {wrong.kind!r}; it trains on rows of kind {wanted!r}")
    if not rows:
        raise UserError(f"method {method}: there are no rows to train on")
    if checked.early_stopping_patience and not validation:
        raise UserError("settings: early_stopping_patience needs validation rows", code=2)
    base, revision = find_weights(str(base), None)
    job = Job(method, rows, validation, base, Path(out), checked, adapter, seed, minutes, recorder, tuple(rewards))
    facts = {
        "method": method,
        "base": {"name": base.name, "revision": revision},
        "adapter": adapter,
        "settings": {
            **checked.model_dump(mode="json", exclude_unset=True, exclude={"report_to"}),
            "learning_rate": checked.rate(adapter),
        },
        "seed": seed,
        "rows": sha256([row.hash for row in rows]),
        "validation": sha256([row.hash for row in validation]),
        "rewards": len(rewards),
    }
    world = int(os.environ.get("WORLD_SIZE", "0")) or processes or _gpus()
    if world > 1:
        facts["processes"] = world
    facts["identity"] = sha256(facts)
    if job.out.exists():
        return _finished(job, facts)
    if world > 1 and "WORLD_SIZE" not in os.environ:
        return _launch(job, facts, settings, world)
    job.out.parent.mkdir(parents=True, exist_ok=True)
    if _rank() == 0 and checked.report_to:
        recorder.report_to(checked.report_to, job.out.parent / "tensorboard" / job.out.name)
    with only_one(job.out) if _rank() == 0 else _nothing():
        if job.out.exists():  # another process finished it between the check and the lock
            return _finished(job, facts)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of transformers and TRL to each other
            return _train(job, module, facts)


def _gpus() -> int:
    import torch

    return max(1, int(torch.cuda.device_count()))


def _launch(job: Job, facts: Mapping[str, Any], settings: Mapping[str, Any], processes: int) -> Trained:
    from trainers.launch import launch

    if job.rewards:
        raise UserError(
            "rewards that are passed in (a judge) need one training process; set CUDA_VISIBLE_DEVICES to one GPU"
        )
    arguments = {"method": job.method, "base": str(job.base), "out": str(job.out), "settings": dict(settings),
                 "adapter": job.adapter, "seed": job.seed, "minutes": job.minutes}  # fmt: skip
    launch(arguments, job.rows, job.validation, processes=processes, recorder=job.recorder)
    return _finished(job, facts)


def _nothing() -> Any:
    import contextlib

    return contextlib.nullcontext()


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _finished(job: Job, facts: Mapping[str, Any]) -> Trained:
    """Returns what stands in the folder, if it is the result of these very arguments."""
    known = read_facts(job.out)
    if known.get("identity") != facts["identity"]:
        raise UserError(
            f"{job.out}: the folder is there already, and is not the result of this training; name another folder"
        )
    shutil.rmtree(job.work, ignore_errors=True)  # killed after the result was moved into its place
    return Trained(
        job.out,
        known["steps"],
        tuple((step, loss) for step, loss in known["losses"]),
        known["seconds"],
        known["stopped"],
        known["metrics"],
        tuple(known["warnings"]),
    )


def _train(job: Job, module: Any, facts: dict[str, Any]) -> Trained:
    import torch
    from transformers import PrinterCallback

    _own_work_folder(job, facts)
    check_room(job)
    trainer = module.trainer(job)
    trainer.remove_callback(PrinterCallback)
    whole = last_whole(job.work)
    progress = whole[1] if whole else Progress(0, 0.0)
    state = State(spent=progress.seconds)
    if progress.stopped and whole:
        # Trained to its end before a kill: only the model is still to be written.
        kept = job.work / progress.best if progress.best else whole[0]
        trainer._load_from_checkpoint(str(kept))
        trainer.state = type(trainer.state).load_from_json(str(whole[0] / "trainer_state.json"))
        stopped = progress.stopped
    else:
        if whole:
            job.recorder.tell(
                f"Training goes on from step {progress.step}, after {seconds_in_words(progress.seconds)} of it."
            )
        trainer.add_callback(follower(job, state))
        trainer.train(resume_from_checkpoint=str(whole[0]) if whole else None)
        stopped = state.stopped or "done"
    if stopped == "broken":
        raise LossBroke(
            f"the loss is not a number after step {trainer.state.global_step}: lower learning_rate or max_grad_norm, "
            "or look for rows without text"
        )
    losses, metrics = _curves(trainer.state)
    trained = Trained(
        job.out,
        trainer.state.global_step,
        losses,
        round(state.seconds if not progress.stopped else progress.seconds, 3),
        stopped,
        metrics,
        tuple(job.recorder.warnings),
    )
    if trainer.is_world_process_zero():
        write_model(job, trainer, {**facts, **_told(trained)})
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    return trained


def _own_work_folder(job: Job, facts: Mapping[str, Any]) -> None:
    """Makes the work folder, or checks that the one that is there belongs to this very training."""
    file = job.work / "job.json"
    if file.exists():
        if json.loads(file.read_text()).get("identity") != facts["identity"]:
            raise UserError(
                f"{job.work}: another training (other rows, settings, base or seed) was interrupted here; delete the "
                "folder or name another one for the result"
            )
        if _rank() == 0:
            for name in clear_torn(job.work):
                job.recorder.tell(f"{name} was half-written when the training was killed, and is deleted.")
        return
    if _rank() == 0:
        job.work.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(facts, indent=1))


def _curves(state: Any) -> tuple[tuple[tuple[int, float], ...], dict[str, float]]:
    """Returns the training losses, and the validation metrics of the weights that were kept."""
    history = state.log_history
    losses = tuple((entry["step"], entry["loss"]) for entry in history if "loss" in entry)
    evaluated = [entry for entry in history if "eval_loss" in entry]
    best = [entry for entry in evaluated if entry["step"] == state.best_global_step] or evaluated[-1:]
    metrics = {name: float(value) for name, value in (best[0] if best else {}).items() if name.startswith("eval_")}
    return losses, metrics


def _told(trained: Trained) -> dict[str, Any]:
    from dataclasses import asdict

    told = asdict(replace(trained, folder=Path(".")))
    del told["folder"]
    return told
