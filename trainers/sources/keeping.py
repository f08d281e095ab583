"""A plain answer changed until it keeps constraints: cut, put into a form, its case and its ends set."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.verify.constraints import ABBREVIATIONS, WORD

Constraint = Mapping[str, Any]
SENTENCE = re.compile(r".+?(?:[.!?…]+[\"'”)]*(?=\s|$)|$)", re.DOTALL)
POINT = "\u2024"  # stands for the point of an abbreviation, which ends no sentence
ORDER = (
    *("max_sentences", "exact_sentences", "max_words", "exact_bullets", "exact_numbered", "exact_paragraphs"),
    *("exact_sections", "no_digits", "no_commas", "must_include", "exact_highlights", "lowercase", "uppercase"),
    *("exact_capital_words", "starts_with", "title", "postscript", "ends_with", "quoted", "json_object"),
)
"""The kinds that an answer can be made to keep, in the order in which that is done: cuts first, wrappings last."""


def sentences(text: str) -> list[str]:
    """Returns the sentences of a text, without marks of lists."""
    plain = re.sub(r"^[ \t]*(?:[-*+•]|\d+[.)])[ \t]+", "", text, flags=re.MULTILINE).replace("*", "")
    plain = ABBREVIATIONS.sub(lambda match: match.group().replace(".", POINT), " ".join(plain.split()))
    parts = (match.group().strip().replace(POINT, ".") for match in SENTENCE.finditer(plain))
    return [part for part in parts if part]


def keep(text: str, constraints: Sequence[Constraint], topic: str = "") -> str | None:
    """Changes an answer so that it may keep constraints; whether it does is for `verify` to say.

    Args:
        text: A plain answer.
        constraints: As `evalkit.verify.constraints` has them.
        topic: What the answer is about, for titles and headings.

    Returns:
        None if one is of a kind that no change is known for.
    """
    kinds = {str(one["kind"]): one for one in constraints}
    if not set(kinds) <= set(ORDER):
        return None
    for kind in ORDER:
        if kind in kinds and text:
            text = _change(kind, kinds[kind], text, topic)
    return text or None


def _change(kind: str, constraint: Constraint, text: str, topic: str) -> str:
    value = int(constraint.get("value") or 0)
    if kind in _COUNTED:
        return _COUNTED[kind](text, value, topic)
    if kind == "no_digits":
        return "" if re.search(r"\d", text) else text
    if kind == "no_commas":
        return re.sub(r",(?=\S)|\s*,", "", text)
    if kind == "must_include":
        word = str(constraint["keyword"])
        return text if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) else ""
    if kind in ("lowercase", "uppercase"):
        return text.lower() if kind == "lowercase" else text.upper()
    if kind == "starts_with":
        phrase = str(constraint["phrase"])
        return text if text.casefold().startswith(phrase.casefold()) else f"{phrase} {_uncapital(text)}"
    if kind == "ends_with":
        phrase = str(constraint["phrase"])
        return text if text.casefold().endswith(phrase.casefold()) else f"{text} {phrase}"
    if kind == "title":
        return f"<<{topic.capitalize() or 'Answer'}>>\n{text}"
    if kind == "postscript":
        said, last = _parted(text)
        return f"{said}\n\n{constraint.get('marker', 'P.S.')} {last}" if said else ""
    if kind == "quoted":
        return '"{}"'.format(text.replace('"', "'"))
    return _as_json(text, constraint.get("keys") or ["answer"])


def _as_json(text: str, keys: Sequence[str]) -> str:
    parts = sentences(text)
    if len(parts) < len(keys):
        return ""
    # The last key takes what is left.
    values = [*parts[: len(keys) - 1], " ".join(parts[len(keys) - 1 :])]
    return json.dumps(dict(zip(keys, values, strict=True)), ensure_ascii=False)


def _uncapital(text: str) -> str:
    first = text.split(maxsplit=1)[0] if text.split() else ""
    return text if first in ("I", "I'm", "I've") or first[1:].lower() != first[1:] else text[:1].lower() + text[1:]


def _parted(text: str) -> tuple[str, str]:
    parts = sentences(text)
    return " ".join(parts[:-1]), parts[-1] if parts else ""


def _first(text: str, n: int, topic: str) -> str:
    return " ".join(sentences(text)[:n])


def _exactly(text: str, n: int, topic: str) -> str:
    parts = sentences(text)
    return " ".join(parts[:n]) if len(parts) >= n else ""


def _words(text: str, n: int, topic: str) -> str:
    kept: list[str] = []
    for sentence in sentences(text):
        if len(WORD.findall(" ".join([*kept, sentence]))) > n:
            break
        kept.append(sentence)
    return " ".join(kept)


def _listed(text: str, n: int, topic: str, mark: str = "-") -> str:
    parts = sentences(text)
    if len(parts) < n:
        return ""
    return "\n".join(f"{mark if mark == '-' else f'{place}.'} {part}" for place, part in enumerate(parts[:n], 1))


def _numbered(text: str, n: int, topic: str) -> str:
    return _listed(text, n, topic, "1.")


def _paragraphs(text: str, n: int, topic: str) -> str:
    parts = sentences(text)
    return "\n\n".join([*parts[: n - 1], " ".join(parts[n - 1 :])]) if len(parts) >= n else ""


def _sections(text: str, n: int, topic: str) -> str:
    parts = sentences(text)
    heads = [topic.capitalize() or "Answer", *(f"More on it, part {place}" for place in range(1, n))]
    return (
        "\n\n".join(f"# {head}\n\n{part}" for head, part in zip(heads, parts, strict=False)) if len(parts) >= n else ""
    )


def _highlights(text: str, n: int, topic: str) -> str:
    return _marked(text, n, lambda word: f"*{word}*")


def _capitals(text: str, n: int, topic: str) -> str:
    return _marked(text, n, str.upper)


def _marked(text: str, n: int, change: Any) -> str:
    """Changes the n longest words, each at its first place."""
    longest = sorted(set(re.findall(r"\b[a-z]{5,}\b", text)), key=lambda word: (-len(word), word))[:n]
    for word in longest:
        text = re.sub(rf"\b{word}\b", change(word), text, count=1)
    return text if len(longest) == n else ""


_COUNTED = {
    "max_sentences": _first,
    "exact_sentences": _exactly,
    "max_words": _words,
    "exact_bullets": _listed,
    "exact_numbered": _numbered,
    "exact_paragraphs": _paragraphs,
    "exact_sections": _sections,
    "exact_highlights": _highlights,
    "exact_capital_words": _capitals,
}
