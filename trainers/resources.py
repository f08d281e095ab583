"""Whether memory and disk suffice for a training, said before it starts."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.errors import UserError

if TYPE_CHECKING:
    from trainers.methods.common import Job

PROGRAM_BYTES = 1.2e9
"""Python with torch, transformers and TRL loaded, on a CPU."""
ACTIVATIONS = {"sft": 1, "cpt": 1, "dpo": 2, "ipo": 2, "kto": 2, "reward": 2, "grpo": 1, "rloo": 1}
"""Sequences that are computed at once for one row of a batch."""
WITH_REFERENCE = ("dpo", "ipo", "kto")
KEPT_CHECKPOINTS = 3  # two stay, and the next one is written beside them


@dataclass(frozen=True, slots=True)
class Needs:
    """An estimate, in bytes; activations are rough."""

    memory: float
    disk: float


def estimate(job: Job) -> Needs:
    """Estimates what a training needs at most.

    Weights: 4 bytes for each (2 where frozen in bfloat16, 0.7 in four bits); trained weights 12 more (gradient and
    AdamW's two moments); a reference model of its own only where all weights are trained. Activations for each token of
    a batch: 34 numbers of the hidden size in each layer and 2 of the feed-forward layer's size, and the logits twice.
    """
    config: dict[str, Any] = json.loads((job.base / "config.json").read_text())
    config = config.get("text_config") or config
    weights, n = _weights(job.base)
    hidden, layers = config.get("hidden_size", 1024), config.get("num_hidden_layers", 24)
    inner, vocabulary = config.get("intermediate_size", 4 * hidden), config.get("vocab_size", 50_000)
    # A low-rank pair for each linear layer: four of the attention, three of the feed-forward layer.
    low_rank = layers * job.settings.lora_r * (8 * hidden + 3 * (hidden + inner))
    trained = n if job.adapter == "full" else low_rank
    held = n * (0.7 if job.adapter == "qlora" else 4)
    reference = 4 * n if job.adapter == "full" and job.method in WITH_REFERENCE else 0
    settings = job.settings
    tokens = settings.per_device_train_batch_size * min(settings.max_length, longest(job)) * ACTIVATIONS[job.method]
    layer = (34 * hidden + 2 * inner) / 2
    kept = layer + layers * hidden if settings.gradient_checkpointing else layers * layer
    logits = 0 if job.method == "reward" else 2 * vocabulary
    activations = tokens * 4 * (kept + logits)
    checkpoint = 4 * (n if job.adapter == "full" else 0) + 12 * trained
    adapter = 0 if job.adapter == "full" else 4 * trained
    return Needs(
        memory=held + 12 * trained + reference + activations, disk=KEPT_CHECKPOINTS * checkpoint + weights + adapter
    )


def longest(job: Job) -> int:
    """Guesses the tokens of the longest row: three characters each, and twenty of the template for a message."""
    most = 1
    for row in job.rows:
        if row.kind == "text":
            return job.settings.max_length  # long texts are cut into pieces of that length
        prompt = sum(len(str(m.get("content") or "")) for m in row.content["prompt"])
        answers = [row.content[name] for name in ("completion", "chosen", "rejected") if name in row.content]
        answer = max((sum(len(str(m.get("content") or "")) for m in messages) for messages in answers), default=0)
        most = max(most, (prompt + answer) // 3 + 20 * (len(row.content["prompt"]) + 1))
    return most + int(getattr(job.settings, "max_completion_length", 0))


def _weights(folder: Path) -> tuple[int, int]:
    """Returns the bytes and the number of a checkpoint's weights, from the headers of its files."""
    from safetensors import safe_open

    size = count = 0
    for file in folder.glob("*.safetensors"):
        size += file.stat().st_size
        with safe_open(str(file), framework="np") as opened:
            for name in opened.keys():  # noqa: SIM118 (no dictionary)
                numbers = 1
                for extent in opened.get_slice(name).get_shape():
                    numbers *= extent
                count += numbers
    return size, count


def free_memory() -> tuple[float, str]:
    """Returns the free bytes of the place that trains, and its name: a GPU, or this machine or container."""
    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.mem_get_info()[0]), "the GPU"
    import psutil

    free = float(psutil.virtual_memory().available)
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and (said := limit.read_text().strip()).isdigit():
        free = min(free, float(said) - float(used.read_text()))
    return free, "memory"


def check_room(job: Job) -> None:
    """Refuses to start what cannot end.

    Raises:
        UserError: Memory or disk do not suffice; says how much is needed, how much is free, and what needs less.
    """
    needs = estimate(job)
    free, place = free_memory()
    needed = needs.memory + (PROGRAM_BYTES if place == "memory" else 0)
    if needed > free:
        smaller = "a smaller per_device_train_batch_size (with gradient_accumulation_steps) or max_length"
        less = f"adapter lora, {smaller}" if job.adapter == "full" else smaller
        raise UserError(
            f"training needs about {needed / 1e9:.1f} GB of {place}, and {free / 1e9:.1f} GB are free; less is needed "
            f"with {less}, or gradient_checkpointing"
        )
    disk = shutil.disk_usage(job.work if job.work.exists() else job.out.parent).free
    if needs.disk > disk:
        raise UserError(
            f"{job.out}: training needs about {needs.disk / 1e9:.1f} GB of disk for checkpoints and the model, and "
            f"{disk / 1e9:.1f} GB are free; make room, or name a folder on another disk"
        )
