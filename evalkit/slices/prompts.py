"""What a prompt is like, told from its text, reference and tags."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from evalkit.slices.answers import ItemFacts
from evalkit.slices.halves import prompt_text
from evalkit.slices.near import words
from evalkit.verify.spec import spec_of

YES = "yes"
BENCHMARK, LANGUAGE, FORMAT, CONSTRAINTS = "benchmark", "language", "format", "constraints"
_FORMATS = (
    ("json", r"\bjson\b"),
    ("table", r"\btable\b.*\b(columns?|rows?)\b|\bmarkdown table\b|\bcsv\b"),
    ("code", r"```|\b(python|javascript|java|sql|c\+\+)\b|\bwrite (a|the) (function|program|script|class)\b|^def "),
    ("letter", r"^\s*\(?A[.):] .*^\s*\(?B[.):] |\bA, B, C or D\b"),
    ("yes or no", r"\byes or no\b|\btrue or false\b"),
    ("number", r"\b(only|just) (the|a) (final )?number\b|\bnur (mit der|die) Zahl\b"),
    ("list", r"\bbullet|\bnumbered list\b|\b(as a|in a) list\b|\beach on its own line\b"),
    ("word", r"\b(one|a single|single) word\b"),
    ("sentence", r"\b(one|a single) sentence\b"),
)
_ASKED = tuple((name, re.compile(pattern, re.IGNORECASE | re.MULTILINE | re.DOTALL)) for name, pattern in _FORMATS)
_SCRIPTS = (
    ("ja", "\u3040-\u30ff"), ("ko", "\uac00-\ud7af"), ("zh", "\u3400-\u9fff"), ("Cyrillic script", "\u0400-\u04ff"),
    ("Arabic script", "\u0600-\u06ff"), ("Hebrew script", "\u0590-\u05ff"), ("Devanagari script", "\u0900-\u097f"),
    ("Greek script", "\u0370-\u03ff"), ("Thai script", "\u0e00-\u0e7f"),
)  # fmt: skip
_WRITTEN = tuple((name, re.compile(f"[{signs}]")) for name, signs in _SCRIPTS)
_COMMON = {
    "en": "the and of to is in that for with what how are was who why this you your which does will have has not only "
    "use from there when where than then they write answer",
    "de": "der die das und ist nicht mit ein eine wie was den von zu für auf sind welche",
    "fr": "le la les et est une des que dans pour avec qui sur pas quel quelle",
    "es": "el los las y es una que con para por como del qué cuál",
    "it": "il di che è per con una gli della sono come quale",
    "pt": "o os e é uma que com para não do da como qual",
    "nl": "de het een en van is dat met voor niet hoe wat welke",
}
COMMON_WORDS = {language: frozenset(text.split()) for language, text in _COMMON.items()}
_SCRIPT_SHARE = 0.15


def prompt_features(item: ItemFacts, benchmark: str) -> dict[str, str]:
    """Returns a prompt's features by name: its tags, benchmark, language, the format asked, constraints.

    A tag's own word goes before a guess from the text. A tag with several values, and each kind of constraint, is a
    feature of its own that is "yes".
    """
    text = prompt_text(item.messages)
    found = {BENCHMARK: benchmark}
    for tag, value in item.tags.items():
        if str(tag) != BENCHMARK:
            found.update(_tag(str(tag), value))
    kinds = constraint_kinds(item)
    if kinds:
        found.setdefault(CONSTRAINTS, str(len(kinds)))
    found.update({f"constraint {kind}": YES for kind in kinds})
    found.setdefault(FORMAT, asked_format(text))
    found.setdefault(LANGUAGE, guess_language(text))
    return found


def _tag(tag: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for single in value:
            if isinstance(single, str | int):
                yield f"{tag} {single}", YES
    elif isinstance(value, bool):
        yield tag, YES if value else "no"
    elif isinstance(value, str | int | float):
        yield tag, str(value)


def constraint_kinds(item: ItemFacts) -> list[str]:
    """Returns the kinds of constraint that an item's check looks for, IFEval's instruction ids among them."""
    spec = spec_of(item.reference)
    kinds = [str(one.get("kind")) for one in (spec or {}).get("constraints") or [] if isinstance(one, Mapping)]
    if not kinds and isinstance(item.reference, Mapping):
        doc = item.reference.get("doc")
        kinds = [str(one) for one in (doc if isinstance(doc, Mapping) else {}).get("instruction_id_list") or []]
    return kinds


def asked_format(text: str) -> str:
    """Returns the form of answer that a prompt asks for, by its words; "free" where none is recognised."""
    return next((name for name, pattern in _ASKED if pattern.search(text)), "free")


def guess_language(text: str) -> str:
    """Returns a text's language by its script, or by the commonest words of seven languages; "unknown" otherwise."""
    letters = sum(one.isalpha() for one in text)
    for name, pattern in _WRITTEN:
        if letters and len(pattern.findall(text)) >= _SCRIPT_SHARE * letters:
            return name
    said = words(text)
    hits = {language: sum(word in common for word in said) for language, common in COMMON_WORDS.items()}
    best = max(hits, key=lambda language: hits[language])
    return best if hits[best] and hits[best] >= 0.05 * len(said) else "unknown"
