"""Sets on the Hugging Face hub, by name and pinned revision."""

from __future__ import annotations

import os
import re
from pathlib import Path

from evalkit.errors import UserError

COMMIT = re.compile(r"[0-9a-f]{40}")


def fetch(name: str, split: str, folder: Path) -> Path:
    """Fetches one split of a set on the hub at a pinned revision.

    Args:
        name: OWNER/NAME@REVISION.
        folder: Where the file is put.

    Raises:
        UserError: No revision is given, the hub cannot be reached, or it has no such set, revision or split.
    """
    repository, _, revision = name.partition("@")
    if not COMMIT.fullmatch(revision):
        raise UserError(
            f"{name}: there is no such file; a set on the hub needs a pinned revision, the 40 digits of a commit (a "
            f"branch or tag may move): {repository}@REVISION",
            code=2,
        )
    try:
        import datasets
    except ImportError as error:
        raise UserError("sets on the hub need the package datasets; type: pip install 'evalkit[bench]'") from error
    try:
        found = datasets.load_dataset(repository, revision=revision, split=split)
        path = folder / f"{repository.replace('/', '--')}.parquet"
        found.to_parquet(str(path))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
            why = "HF_HUB_OFFLINE is set, and the set is not in the cache; unset it, or give a local file"
        else:
            why = str(error).splitlines()[0]
        raise UserError(f"{name}, split {split}: cannot be read from the hub: {why}") from error
    return path
