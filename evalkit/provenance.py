"""Where results come from: digests of code and task files, versions, machine; stored with each run."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalkit import __version__


def code_version() -> str:
    """Returns the version with a digest of code and data, so that two results say whether they compare."""
    total = hashlib.sha256()
    root = Path(__file__).parent.parent
    for room in ("evalkit", "benchmarks", "judges"):
        for file in sorted((root / room).rglob("*")):
            if file.suffix in (".py", ".yaml", ".jsonl"):
                total.update(f"{file.relative_to(root)}\n".encode() + file.read_bytes())
    return f"{__version__}+{total.hexdigest()[:12]}"


def _version(package: str) -> str:
    """Returns an installed package's version; `importlib.metadata.version` parses its whole README to find it."""
    found = importlib.metadata.distribution(package)
    line = re.search(r"^Version: *(\S+)", found.read_text("METADATA") or "", re.MULTILINE)
    return line[1] if line else found.version


def environment() -> dict[str, Any]:
    """Returns what a run ran on: versions of what decides results, Python and machine."""
    packages = {}
    for name in ("torch", "transformers", "vllm", "lm-eval", "datasets", "openai", "numpy", "scipy"):
        try:
            packages[name] = _version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"python": sys.version.split()[0], "machine": platform.platform(), "packages": packages}


def digest_of(folders: Sequence[Path], tasks: Sequence[str]) -> str:
    """Returns a digest of the user's own task files, so that an edited one is not taken for done."""
    files = [f for folder in folders for f in sorted(folder.rglob("*")) if f.is_file()]
    files += [Path(t) for t in tasks if t.endswith((".yaml", ".yml")) and Path(t).is_file()]
    total = hashlib.sha256()
    for file in files:
        total.update(str(file).encode() + b"\n" + file.read_bytes())
    return total.hexdigest()
