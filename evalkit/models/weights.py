"""Where the weights of a local model lie, and which weights they are."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import tempfile
from pathlib import Path

from evalkit.errors import UserError
from evalkit.models.embedded import cache_dir

_log = logging.getLogger(__name__)
WHAT_COUNTS = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")


def find_weights(name: str, revision: str | None) -> tuple[Path, str]:
    """Finds a model's folder or GGUF file, fetching it from the hub if it is neither.

    Args:
        name: Folder, GGUF file, or hub id.
        revision: Hub branch, tag or commit; a folder's revision is always its content.

    Returns:
        The path, and the revision that identifies the weights: a content hash, or the hub's commit.

    Raises:
        UserError: There is no such model, or the hub cannot be reached.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").exists():
            raise UserError(f"{name}: the folder has no config.json, so it is no Hugging Face model", code=2)
        if not any(path.glob("*.safetensors")):
            raise UserError(
                f"{name}: the folder has no *.safetensors; other weight formats can run code and are not opened"
            )
        files = sorted({f for pattern in WHAT_COUNTS for f in path.glob(pattern) if f.name != "evalkit.json"})
        return path, _digest(files)
    if path.is_file():
        if path.suffix != ".gguf":
            raise UserError(f"{name}: a model is a folder, a hub id or a .gguf file", code=2)
        return path, _digest([path])
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise UserError(f"{name}: no such folder, and not a hub id (OWNER/NAME) either", code=2)
    return _from_hub(name, revision)


def _from_hub(name: str, revision: str | None) -> tuple[Path, str]:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
    except ImportError as error:
        raise UserError('models from the hub need the extra local; type: pip install "evalkit[local]"') from error
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(WHAT_COUNTS)))
    except RepositoryNotFoundError as error:
        raise UserError(f"there is no folder {name} and no such model on the hub (or it is private)") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise UserError(
            f"there is no folder {name}, and the hub cannot be reached to look for a model of that name"
        ) from error
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"{name}: the hub has no safetensors for it; other weight formats can run code and are not opened"
        )
    return folder, folder.name  # the hub's cache names a snapshot's folder after its commit


def _digest(files: list[Path]) -> str:
    """Returns one SHA-256 over file names and contents (64 hex digits).

    A file's own hash is remembered by path, size and time of change: gigabytes are not read again at every start.
    """
    memory = cache_dir() / "hashes.json"
    try:
        remembered = json.loads(memory.read_text())
    except (OSError, ValueError):
        remembered = {}  # a missing or torn memory costs one reading of the weights, nothing else
    known: dict[str, str] = remembered if isinstance(remembered, dict) else {}
    total, fresh = hashlib.sha256(), False
    for file in files:
        stat = file.stat()
        key = f"{file.resolve()} {stat.st_size} {stat.st_mtime_ns}"
        if key not in known:
            with file.open("rb") as stream:
                known[key] = hashlib.file_digest(stream, "sha256").hexdigest()
            fresh = True
        total.update(f"{file.name} {known[key]}\n".encode())
    if fresh:
        try:
            memory.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=memory.parent, suffix=".tmp", delete=False) as temporary:
                json.dump(known, temporary)
            Path(temporary.name).replace(memory)
        except OSError as error:
            _log.info("%s cannot be written (%s): the weights are read again at the next start", memory, error.strerror)
    return total.hexdigest()
