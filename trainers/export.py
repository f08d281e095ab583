"""From trained weights to a model folder: adapter merged, tokenizer beside it, a model card, in its place at once."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.errors import UserError
from trainers.merging_files import CARRIED, copy_files

if TYPE_CHECKING:
    from trainers.methods.common import Job

FACTS = "evalkit.json"
"""How the model was made; like the card no part of its identity."""


def read_facts(folder: Path) -> dict[str, Any]:
    """Reads how a model of ours was made; {} for another's."""
    try:
        found = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # a model folder from elsewhere
    return found if isinstance(found, dict) else {}


def write_model(job: Job, trainer: Any, facts: Mapping[str, Any]) -> None:
    """Writes the finished model beside the work folder's checkpoints, moves it into its place, and clears up.

    Killed before the move, the next call writes it again; killed after, it only clears up.
    """
    place = job.work / "model"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    model = trainer.accelerator.unwrap_model(trainer.model)
    if job.adapter != "full":
        model.save_pretrained(str(place / "adapter"))
        (place / "adapter" / "README.md").unlink(missing_ok=True)  # PEFT's empty form; the card is one level up
        model = _merged(job, model, place / "adapter")
    _save(job, model, place)
    sources = Counter(row.source for row in job.rows)
    told = {**facts, "n": len(job.rows), "n_validation": len(job.validation), "sources": dict(sources)}
    (place / FACTS).write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")
    write_card(place, name=job.out.name)
    for file in place.rglob("*"):
        if file.is_file():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
    place.rename(job.out)
    shutil.rmtree(job.work)


def _merged(job: Job, model: Any, adapter: Path) -> Any:
    if job.adapter == "lora":
        return model.merge_and_unload()
    # Four-bit weights are too coarse to be merged into: the adapter goes onto the base's own.
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    kind: Any = AutoModelForSequenceClassification if job.method == "reward" else AutoModelForCausalLM
    more = {"num_labels": 1} if job.method == "reward" else {}
    base = kind.from_pretrained(str(job.base), dtype=torch.float32, use_safetensors=True, **more)
    return PeftModel.from_pretrained(base, str(adapter)).merge_and_unload()


def _save(job: Job, model: Any, place: Path) -> None:
    """Saves weights in the base's own number format, with its tokenizer, template and settings unchanged."""
    import torch

    config = json.loads((job.base / "config.json").read_text(encoding="utf-8"))
    dtype = config.get("dtype") or config.get("torch_dtype") or "float32"
    model.to(getattr(torch, dtype)).save_pretrained(str(place))
    copy_files(job.base, place, CARRIED)
    if job.method != "reward":  # trainers change the copy in memory: padding, caching
        shutil.copyfile(job.base / "config.json", place / "config.json")


def write_card(
    folder: Path, *, name: str = "", scores: Sequence[tuple[str, str, float, float]] = (), parents: Sequence[str] = ()
) -> None:
    """Writes a model's card (README.md): lineage, data, how it was trained, scores.

    Args:
        folder: Of a model that `train` wrote.
        name: By default the folder's.
        scores: Dataset, metric, the parent's score, this model's; once they are known.
        parents: Labels of the models it comes from; by default the base's name.

    Raises:
        UserError: The folder is not the result of a training.
    """
    facts = read_facts(folder)
    if "method" not in facts:
        raise UserError(f"{folder}: there is no {FACTS} of a training, so there is nothing to write a card from")
    name = name or folder.name
    base = facts["base"]
    tags = ["evalkit", facts["method"], *(["reward-model"] if facts["method"] == "reward" else [])]
    lines = [
        "---", "library_name: transformers", f"base_model: {base['name']}", f"tags: [{', '.join(tags)}]", "---", "",
        f"# {name}", "",
        f"{', '.join(parents) or base['name']}, trained further by evalkit.", "",
        "## Lineage", "",
        f"- base: {base['name']}, weights sha256 `{base['revision']}`",
        f"- method: {facts['method']}, adapter: {facts['adapter']}, seed: {facts['seed']}",
        f"- settings: {', '.join(f'{key} {value}' for key, value in sorted(facts['settings'].items()))}", "",
        "## Data", "",
        f"- {facts['n']} rows, sha256 `{facts['rows']}`: "
        + ", ".join(f"{count} {source}" for source, count in sorted(facts["sources"].items())),
        f"- {facts['n_validation']} validation rows, never learned", "",
        "## Training", "",
        f"- {facts['steps']} steps in {facts['seconds']:.0f} s; ended by: {facts['stopped']}",
    ]  # fmt: skip
    if facts["losses"]:
        lines.append(f"- loss: {facts['losses'][0][1]:.4g} at first, {facts['losses'][-1][1]:.4g} at last")
    lines += [f"- {metric}: {value:.4g}" for metric, value in facts["metrics"].items() if not _of_speed(metric)]
    lines += [f"- warning: {sentence}" for sentence in facts["warnings"]]
    lines += ["", "## Scores", ""]
    if scores:
        lines += ["| dataset | metric | parent | this model |", "|---|---|---|---|"]
        lines += [f"| {dataset} | {metric} | {old:.4g} | {new:.4g} |" for dataset, metric, old, new in scores]
    else:
        lines.append("Not evaluated yet.")
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _of_speed(metric: str) -> bool:
    return metric.endswith(("runtime", "per_second", "num_tokens"))
