"""Raw text for continued pre-training, and passages for back-translation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from evalkit.errors import UserError
from trainers.material import Material
from trainers.plan import SourcePlan
from trainers.rows import Row

ENDINGS = (".txt", ".md", ".jsonl")
WORDS = 200
"""Of a row of text, at most, if its paragraphs are not longer."""


def rows(material: Material, source: SourcePlan, n: int) -> list[Row]:
    """Returns passages of a file or folder as rows of raw text, in the files' order."""
    path = Path(source.path or "")
    return [Row("text", {"text": text}, source.kind, None, {"file": str(path.name)}) for text in passages(path)][:n]


def passages(path: Path, longest: int = WORDS) -> list[str]:
    """Returns the passages of a file or of a folder's files: whole paragraphs, joined up to a number of words.

    Args:
        path: .txt or .md (paragraphs parted by blank lines), .jsonl (objects with `text`), or a folder of these.
        longest: Words of a passage; a longer paragraph stays whole.

    Raises:
        UserError: There is no such file, no text in it, or a line is no object with `text`.
    """
    if not path.exists():
        raise UserError(f"path: there is no file or folder {str(path)!r}", code=2)
    files = sorted(f for f in path.rglob("*") if f.suffix in ENDINGS) if path.is_dir() else [path]
    found = [passage for file in files for text in _texts(file) for passage in _joined(text, longest)]
    if not found:
        raise UserError(f"path: {str(path)!r} holds no text; files must end in {', '.join(ENDINGS)}", code=2)
    return found


def _texts(file: Path) -> Iterator[str]:
    try:
        whole = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 text (byte {error.start})", code=2) from error
    except OSError as error:
        raise UserError(f"{file}: it cannot be read: {error.strerror}", code=2) from error
    if file.suffix != ".jsonl":
        yield whole
        return
    for line, row in enumerate(whole.splitlines(), 1):
        if not row.strip():
            continue
        try:
            yield json.loads(row)["text"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file}, line {line}: not an object with the field text", code=2) from error


def _joined(text: str, longest: int) -> Iterator[str]:
    part: list[str] = []
    words = 0
    for paragraph in filter(None, (p.strip() for p in text.replace("\r\n", "\n").split("\n\n"))):
        size = len(paragraph.split())
        if part and words + size > longest:
            yield "\n\n".join(part)
            part, words = [], 0
        part.append(paragraph)
        words += size
    if part:
        yield "\n\n".join(part)
