"""Checkpoint folders: read tensor by tensor, held against each other, and written shard by shard."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.errors import UserError

if TYPE_CHECKING:
    import torch

SHARD_BYTES = 2 * 10**9
INDEX = "model.safetensors.index.json"
CARRIED = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "tokenizer.model", "chat_template.jinja", "chat_template.json", "generation_config.json",
)  # fmt: skip
"""What a merge takes over from its base."""
SAME = ("architectures", "model_type", "num_attention_heads", "num_key_value_heads", "head_dim", "tie_word_embeddings")
"""What two models' config.json must agree in beside the tensors' names and shapes, which do not show it."""
_LAYER = re.compile(r"\.(\d+)\.")
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
           "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}  # fmt: skip
FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class Entry:
    """A tensor in a file: its shape, and its number format by torch's name."""

    file: str
    shape: tuple[int, ...]
    dtype: str


class Checkpoint:
    """A folder of safetensors whose headers were read; tensors are read when asked for.

    Args:
        folder: With config.json, weights and tokenizer.
        name: What messages call it.

    Attributes:
        config: What config.json says.
        tensors: By name; without an output layer that is tied to the embeddings, as not every writer stores it.

    Raises:
        UserError: It is an adapter, is quantized, or a file is missing or damaged.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        if (folder / "adapter_config.json").exists():
            raise UserError(
                f"{name}: this is a LoRA adapter; merge it into its base model first (peft: merge_and_unload, then "
                "save_pretrained) and give the folder that this makes"
            )
        self.config = self._json("config.json")
        if "quantization_config" in self.config:
            raise UserError(f"{name}: its weights are quantized; merge the model before it is quantized")
        self._open: dict[str, Any] = {}
        self.tensors = self._headers()
        if self.config.get("tie_word_embeddings"):
            self.tensors.pop("lm_head.weight", None)

    def _json(self, file: str) -> dict[str, Any]:
        try:
            found = json.loads((self.folder / file).read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{self.name}: {file} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise UserError(f"{self.name}: {file} is not JSON") from error
        if not isinstance(found, dict):
            raise UserError(f"{self.name}: {file} must hold a JSON object")
        return found

    def _headers(self) -> dict[str, Entry]:
        files = ["model.safetensors"]
        if (self.folder / INDEX).exists():
            places = self._json(INDEX).get("weight_map")
            if not isinstance(places, dict) or any(Path(str(f)).name != f for f in places.values()):
                raise UserError(f"{self.name}: {INDEX} has no weight_map of tensors to files of the folder")
            files = sorted(set(places.values()))
        found = {}
        for file in files:
            handle = self._file(file)
            for name in handle.keys():  # noqa: SIM118, no mapping
                part = handle.get_slice(name)
                dtype = _DTYPES.get(part.get_dtype())
                if dtype is None:
                    raise UserError(
                        f"{self.name}: {name} has the number format {part.get_dtype()}, which cannot be merged"
                    )
                found[name] = Entry(file, tuple(part.get_shape()), dtype)
        return found

    def _file(self, file: str) -> Any:
        from safetensors import SafetensorError, safe_open

        if file not in self._open:
            try:
                # Mapped pages would count as this process's memory; these reads do not.
                self._open[file] = safe_open(self.folder / file, framework="pt", backend="pread")
            except (OSError, SafetensorError) as error:
                raise UserError(f"{self.name}: {file} is missing or damaged ({error})") from error
        return self._open[file]

    def read(self, name: str, dtype: str) -> torch.Tensor:
        """Reads a tensor into memory of its own, in a number format."""
        import torch

        tensor: torch.Tensor = self._file(self.tensors[name].file).get_tensor(name)
        return tensor.to(getattr(torch, dtype))

    def tokenizer(self) -> Any:
        """Returns what token ids mean: comparable, whatever version of the library wrote it.

        Raises:
            UserError: There is no tokenizer.
        """
        if (self.folder / "tokenizer.json").exists():
            whole = self._json("tokenizer.json")
            model = whole.get("model") or {}
            merges = [" ".join(m) if isinstance(m, list) else m for m in model.get("merges") or []]
            added = {token["content"]: token["id"] for token in whole.get("added_tokens") or []}
            return model.get("vocab"), merges, added
        if (self.folder / "tokenizer.model").exists():
            return (self.folder / "tokenizer.model").read_bytes()
        raise UserError(f"{self.name}: the folder has no tokenizer (tokenizer.json or tokenizer.model)")


def layer_of(tensor: str) -> int | None:
    """Returns the number of the layer that a tensor belongs to; None outside of the layers."""
    found = _LAYER.search(tensor)
    return int(found[1]) if found else None


def check_alike(checkpoints: Sequence[Checkpoint]) -> None:
    """Refuses models that do not fit together.

    Raises:
        UserError: Architecture, tensors or tokenizer of one differ from those of the first; says which, and how.
    """
    first, *others = checkpoints
    meaning = first.tokenizer()
    for other in others:
        both = f"{first.name} and {other.name}"
        for key in SAME:
            here, there = first.config.get(key), other.config.get(key)
            if here != there and not (key == "head_dim" and None in (here, there)):
                raise UserError(f"{both} have different architectures: {key} is {_short(here)} and {_short(there)}")
        for mine, its in ((first, other), (other, first)):
            if missing := sorted(set(mine.tensors) - set(its.tensors)):
                raise UserError(
                    f"{both} have different architectures: {its.name} has no {missing[0]}"
                    f"{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}"
                )
        for name, entry in first.tensors.items():
            if entry.shape != other.tensors[name].shape:
                shapes = " and ".join("x".join(map(str, c.tensors[name].shape)) for c in (first, other))
                raise UserError(f"{both} have different architectures: {name} is {shapes}")
        if other.tokenizer() != meaning:
            raise UserError(f"{both} have different tokenizers, so their embeddings do not mean the same tokens")


def _short(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else "not given" if value is None else str(value)


def cut(sizes: Mapping[str, int], shard_bytes: int) -> list[list[str]]:
    """Deals tensors out to files, in order; a file holds at most `shard_bytes`, or one tensor.

    Args:
        sizes: Bytes by name.
    """
    shards: list[list[str]] = []
    room = 0
    for name, size in sizes.items():
        if not shards or size > room:
            shards.append([])
            room = shard_bytes
        shards[-1].append(name)
        room -= size
    return shards


def write_shards(
    folder: Path, planned: Mapping[str, Entry], make: Callable[[str], torch.Tensor], *, shard_bytes: int
) -> list[str]:
    """Makes tensors one by one and writes each file as soon as it is full, then the index.

    Args:
        planned: Names with the shapes and number formats they will have.
        make: Makes a tensor.

    Returns:
        The files' names.
    """
    from safetensors.torch import save_file

    sizes = {name: size_of(entry) for name, entry in planned.items()}
    shards = cut(sizes, shard_bytes)
    files = (
        [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
        if len(shards) > 1
        else ["model.safetensors"]
    )
    for names, file in zip(shards, files, strict=True):
        save_file({name: make(name).contiguous() for name in names}, folder / file, metadata={"format": "pt"})
    if len(shards) > 1:
        places = {name: file for names, file in zip(shards, files, strict=True) for name in names}
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": places}
        (folder / INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")
    return files


def size_of(entry: Entry) -> int:
    """Returns a tensor's bytes."""
    import torch

    return math.prod(entry.shape) * int(getattr(torch, entry.dtype).itemsize)


def check_room(folder: Path, needed: int) -> None:
    """Refuses to start what the disk cannot hold.

    Raises:
        UserError: There are fewer free bytes where `folder` will lie.
    """
    place = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise UserError(f"{folder}: the merge needs {needed / 1e9:.1f} GB of disk, and {free / 1e9:.1f} GB are free")


def copy_files(source: Path, target: Path, names: Iterable[str] = CARRIED) -> None:
    """Copies those of the files that are there."""
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
