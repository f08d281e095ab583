"""Merging: several models of one architecture become one, without training.

config = read_merge(Path("merge.yaml"))
merged = merge(config, Path("models/merged"))
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.errors import UserError
from evalkit.models.base import sha256
from trainers.merging_config import METHODS, RANDOM, MergeConfig, Span, parameters_of, read_merge, spans
from trainers.merging_files import (
    FLOATS,
    SHARD_BYTES,
    Checkpoint,
    Entry,
    check_alike,
    check_room,
    copy_files,
    layer_of,
    size_of,
    write_shards,
)
from trainers.merging_models import Source, find_sources

if TYPE_CHECKING:
    import torch

    from evalkit.engine.progress import Progress
    from evalkit.store.ledger import Ledger

__all__ = ["MergeConfig", "Merged", "merge", "read_merge"]
YAML_FILE = "mergekit_config.yml"
FIRST = re.compile(r"embed|\bwte\b|\bwpe\b")
"""Tensors outside of the layers that belong to the first slice; the others belong to the last."""


@dataclass(frozen=True)
class Merged:
    """A finished merge.

    Attributes:
        folder: The checkpoint.
        sources: What went in, the base first.
        tensors: How many.
        n_bytes: Of the weights.
        files: Of the weights.
    """

    folder: Path
    config: MergeConfig
    seed: int
    sources: tuple[Source, ...]
    tensors: int
    n_bytes: int
    files: int
    seconds: float


def merge(
    config: MergeConfig,
    folder: Path,
    *,
    seed: int = 0,
    ledger: Ledger | None = None,
    progress: Progress | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Merged:
    """Merges models into a new checkpoint folder: weights, config, tokenizer, model card and the YAML.

    Memory holds one file of the result, and of one tensor at a time what the method needs of each model. The folder
    gets its name when all is written; until then it is called `NAME.partial`, and one that a killed merge left is
    begun anew.

    Args:
        config: What to merge, and how.
        folder: Where to; must not be there yet.
        seed: Of the draws of DARE. A tensor's draw depends on it, the tensor's name and the model's place alone.
        ledger: Knows models by their labels.
        progress: Is told of each tensor.
        shard_bytes: Largest file of the result.

    Raises:
        UserError: The folder is there, a model is not found or does not fit the others, a parameter is missing for
            some tensor, or the disk is too small.
    """
    began = time.monotonic()
    if folder.exists():
        raise UserError(f"{folder}: is there already; name a new folder", code=2)
    sources = find_sources(config.references(), ledger)
    checkpoints = {source.reference: Checkpoint(source.folder, source.reference) for source in sources}
    check_alike(list(checkpoints.values()))
    donor = checkpoints[sources[0].reference]
    work = _Work(config, checkpoints, seed)
    n_bytes = sum(size_of(entry) for entry in work.planned.values())
    check_room(folder, n_bytes)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    bar = progress.start(f"merge {folder.name}", len(work.planned)) if progress else None

    def make(name: str) -> torch.Tensor:
        tensor = work.make(name)
        if progress:
            progress.advance(bar, 1)
        return tensor

    try:
        files = write_shards(partial, work.planned, make, shard_bytes=shard_bytes)
        tokenizer = config.tokenizer_source
        copy_files(donor.folder, partial)
        if tokenizer not in (None, "base", donor.name):
            copy_files(checkpoints[str(tokenizer)].folder, partial)
        (partial / YAML_FILE).write_text(config.to_yaml(), encoding="utf-8")
        (partial / "README.md").write_text(_card(folder.name, config, sources, seed), encoding="utf-8")
        # Last: without it no program takes the folder for a model.
        settings = {k: v for k, v in donor.config.items() if k not in ("torch_dtype", "_name_or_path")}
        settings["dtype"] = work.out_dtype
        (partial / "config.json").write_text(json.dumps(settings, indent=2, ensure_ascii=False), encoding="utf-8")
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    finally:
        if progress:
            progress.finish(bar)
    return Merged(folder, config, seed, sources, len(work.planned), n_bytes, len(files), time.monotonic() - began)


class _Work:
    """What is to be computed for each tensor, checked before anything is written."""

    def __init__(self, config: MergeConfig, checkpoints: dict[str, Checkpoint], seed: int) -> None:
        self.config, self.checkpoints, self.seed = config, checkpoints, seed
        self.entries = next(iter(checkpoints.values())).tensors
        layers = [layer for name in self.entries if (layer := layer_of(name)) is not None]
        self.spans = spans(config, max(layers, default=-1) + 1)
        names = sorted(self.entries, key=lambda name: (_place(name, layer_of(name)), name))
        self.parameters = {name: parameters_of(config, *self._span(name)) for name in names}
        self.planned = {
            name: Entry("", self.entries[name].shape, config.out_dtype or self._dtype(name))
            if self.entries[name].dtype in FLOATS
            else self.entries[name]
            for name in names
        }
        formats = [entry.dtype for entry in self.planned.values() if entry.dtype in FLOATS]
        self.out_dtype = max(dict.fromkeys(formats), key=formats.count, default="float32")

    def _span(self, name: str) -> tuple[Span, str, float]:
        layer = layer_of(name)
        if layer is None:
            return self.spans[0 if FIRST.search(name) else -1], name, 0.0
        span = next(s for s in self.spans if s.first <= layer < s.end)
        return span, name, (layer - span.first) / (span.end - span.first - 1) if span.end - span.first > 1 else 1.0

    def _dtype(self, name: str) -> str:
        """Returns the number format that a tensor is computed in: the one that can hold every model's values."""
        import torch

        if self.config.dtype:
            return self.config.dtype
        found = torch.bool
        for model in self._span(name)[0].models:
            dtype = getattr(torch, self.checkpoints[model.model].tensors[name].dtype)
            found = torch.promote_types(found, dtype)
        return str(found).removeprefix("torch.")

    def make(self, name: str) -> torch.Tensor:
        import torch

        from trainers.merging_math import merge_tensor

        span = self._span(name)[0]
        models = [model.model for model in span.models]
        dtype = self._dtype(name) if self.entries[name].dtype in FLOATS else self.entries[name].dtype
        reads = [partial(self.checkpoints[model].read, name, dtype) for model in models]
        if self.entries[name].dtype not in FLOATS:
            first, *others = (read() for read in reads)
            if any(not torch.equal(first, other) for other in others):
                raise UserError(f"{name}: holds whole numbers that differ between the models, which cannot be merged")
            return first
        base = models.index(self.config.base_model) if self.config.base_model in models else None
        shared, each = self.parameters[name]

        def generator(number: int) -> torch.Generator:
            digest = sha256({"seed": self.seed, "tensor": name, "model": number})
            return torch.Generator().manual_seed(int(digest[:15], 16))

        merged = merge_tensor(self.config.merge_method, reads, base, shared, each, generator)
        return merged.to(getattr(torch, self.planned[name].dtype))


def _place(name: str, layer: int | None) -> float:
    """Sorts embeddings before the layers and what is left behind them."""
    return float(layer) if layer is not None else -1.0 if FIRST.search(name) else float("inf")


def _card(name: str, config: MergeConfig, sources: Sequence[Source], seed: int) -> str:
    """Writes the model card: what went in, how, and the YAML to do it again."""
    import yaml

    from evalkit import __version__

    method = METHODS[config.merge_method]
    head: dict[str, Any] = {
        "base_model": [source.reference for source in sources],
        "library_name": "transformers",
        "tags": ["merge"],
    }
    rows = [
        f"| {source.reference} | {'base' if source.reference == config.base_model else 'merged'} | {source.revision} |"
        for source in sources
    ]
    drawn = f" The random draws have the seed {seed}." if config.merge_method in RANDOM else ""
    return "\n".join(
        (
            "---",
            yaml.safe_dump(head, sort_keys=False, allow_unicode=True).rstrip(),
            "---",
            f"# {name}",
            "",
            f"Made by merging, without training: {method.formula} (`{config.merge_method}`, {method.source}).{drawn}",
            "",
            "## Parents",
            "",
            "| model | part | revision |",
            "|---|---|---|",
            *rows,
            "",
            "A folder's revision is the SHA-256 of its content; that of a model from the hub is its commit.",
            "",
            "## Configuration",
            "",
            f"Made by evalkit {__version__}. To do it again: `evalkit merge {YAML_FILE} FOLDER"
            f"{f' --seed {seed}' if config.merge_method in RANDOM else ''}`.",
            "",
            "```yaml",
            config.to_yaml().rstrip(),
            "```",
            "",
        )
    )
