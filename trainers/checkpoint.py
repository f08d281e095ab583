"""Checkpoints of a training that may be killed at any moment: only whole ones are gone on from.

A checkpoint is whole once `seal` has written its last file: the hashes of all others. A torn one has no seal, or its
hashes do not agree. transformers stores the optimizer and random states with `torch.save`, which is a pickle, and reads
them with `weights_only=True`, which makes tensors and numbers but runs nothing. That is good enough here, as these
files never come from outside: they are written and read in this training's own work folder, the seal says that they are
the very files that were written, and the folder is deleted once the model is finished. What leaves is safetensors.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evalkit.errors import UserError

SEAL = "evalkit-seal.json"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a checkpoint is.

    Attributes:
        step: Of the optimizer.
        seconds: Trained in all, before a kill too.
        stopped: Why the training ended here: done, minutes, early_stop; "" while it goes on.
        best: Folder name of the checkpoint with the best validation score; "" without validation.
    """

    step: int
    seconds: float
    stopped: str = ""
    best: str = ""


def work_folder(out: Path) -> Path:
    """Returns where a training keeps its checkpoints until its result is finished."""
    return out.with_name(out.name + ".partial")


def seal(checkpoint: Path, progress: Progress) -> None:
    """Marks a checkpoint as whole; call it when all its files are written."""
    seal_file = {"files": _hashes(checkpoint), **asdict(progress)}
    write_atomically(checkpoint / SEAL, json.dumps(seal_file, indent=1))


def read_seal(checkpoint: Path) -> Progress | None:
    """Returns how far a whole checkpoint is; None if it is torn."""
    try:
        found = json.loads((checkpoint / SEAL).read_text())
        progress = Progress(found["step"], found["seconds"], found["stopped"], found["best"])
        return progress if found["files"] == _hashes(checkpoint) else None
    except (OSError, ValueError, KeyError):
        return None  # killed before or while it was written


def last_whole(folder: Path) -> tuple[Path, Progress] | None:
    """Returns the newest whole checkpoint of a work folder."""
    for checkpoint in reversed(_checkpoints(folder)):
        progress = read_seal(checkpoint)
        if progress is not None and (not progress.best or read_seal(folder / progress.best) is not None):
            return checkpoint, progress
    return None


def clear_torn(folder: Path) -> list[str]:
    """Deletes the torn checkpoints of a work folder, so that none is counted, kept or loaded; returns their names."""
    torn = [checkpoint for checkpoint in _checkpoints(folder) if read_seal(checkpoint) is None]
    for checkpoint in torn:
        shutil.rmtree(checkpoint)
    return [checkpoint.name for checkpoint in torn]


def write_atomically(file: Path, text: str) -> None:
    """Writes a file that is there as a whole or not at all, after a power cut too."""
    temporary = file.with_name(file.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)


def _checkpoints(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def _hashes(checkpoint: Path) -> dict[str, str]:
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and not path.name.startswith(SEAL))
    hashes = {}
    for file in files:
        with file.open("rb") as stream:
            hashes[str(file.relative_to(checkpoint))] = hashlib.file_digest(stream, "sha256").hexdigest()
    return hashes


@contextmanager
def only_one(out: Path) -> Iterator[None]:
    """Holds the lock of a result folder: two trainings into one folder would destroy each other's checkpoints.

    The system lets go of the lock when the process ends, however it ends.

    Raises:
        UserError: Another process trains into it.
    """
    held = _try_lock(out)
    if held is None:
        raise UserError(f"{out}: another process trains into this folder; wait for it, or name another folder")
    try:
        yield
    finally:
        held.close()


def is_training(out: Path) -> bool:
    """Whether a process of this machine trains into a result folder now."""
    if not _lock_file(out).exists():
        return False
    held = _try_lock(out)
    if held is not None:
        held.close()
    return held is None


def _lock_file(out: Path) -> Path:
    return work_folder(out) / "lock"


def _try_lock(out: Path) -> Any:
    import fcntl

    _lock_file(out).parent.mkdir(parents=True, exist_ok=True)
    stream = _lock_file(out).open("a")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        return None
    return stream
