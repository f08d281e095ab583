"""Exact match after normalisation, and the extraction of short answers (last number, choice letter) from prose."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from evalkit.verify.spec import Check, field, one_of, only, strings, verdict

ARTICLES = re.compile(r"^(?:the|an?|der|die|das|dem|den|eine?[nrm]?)\s+(?=\S)")
EDGES = " \t\n\r.,;:!?\"'`*_()[]<>«»„“”‚‘’。，、；：！？「」『』《》（）【】"
MARKER = re.compile(
    r"(?:(?i:\b(?:answer|antwort|lösung)[*_]*\s*(?:is\b|ist\b|lautet\b|[:：=]))|答案[*_]*(?:是|为|[:：]))[\s*_]*[:：]?[\s*_]*"
)
# A number: sign, grouped or plain digits, decimals. Groups are of three digits, so "1, 2, 3" stays three numbers.
NUMBER = re.compile(
    r"(?<![\w.,])[-+−]?(?:\d{1,3}(?:(?P<sep>[,.'’\u00a0\u202f\u2009])\d{3})(?:(?P=sep)\d{3})*(?!\d)|\d+)(?:[.,]\d+)?"
    r"|(?<![\d.,])[-+−]?[.]\d+"
    r"|\d+(?:[.,]\d+)*"
)
CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


def normalise(text: str) -> str:
    """Return a text in the form that answers are compared in.

    Unicode NFKC, case folded, white space collapsed, punctuation and Markdown emphasis stripped from both ends, one
    leading article (English, German) dropped.
    """
    text = " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(EDGES)
    return ARTICLES.sub("", text)


def answer_segment(text: str) -> str | None:
    r"""Return what follows the last "answer:" (or "answer is", "Antwort:", "答案是", "####") on its line, or None.

    Args:
        text: A response.
    """
    segments = [tail for line in text.splitlines() for tail in [*MARKER.split(line)[1:], *line.split("####")[1:]]]
    return next((segment.strip() for segment in reversed(segments) if segment.strip(EDGES)), None)


def last_number(text: str) -> str | None:
    """Return the last number written in digits in a text, as it stands there, or None."""
    found = [match.group() for match in NUMBER.finditer(unicodedata.normalize("NFKC", text))]
    return found[-1] if found else None


def choice_letter(text: str, letters: str = "ABCD") -> str | None:
    r"""Return the choice letter that a response gives, or None if it gives none or cannot be told.

    Tried in this order: the whole response is the letter; `\boxed{B}`; a letter after an answer marker; a letter at the
    start of a line followed by punctuation or nothing ("B.", "(B) Paris"); the only letter that stands alone.

    Args:
        text: A response.
        letters: The letters that are choices, capital.
    """
    text = unicodedata.normalize("NFKC", text).strip()
    one = f"[{re.escape(letters)}]"
    bare = text.strip(EDGES)
    if len(bare) == 1 and bare.upper() in letters:
        return bare.upper()
    boxed = re.findall(rf"\\boxed\{{\s*(?:\\text\{{)?\(?({one})\)?\}}?\s*\}}", text)
    if boxed:
        return str(boxed[-1])
    # "A" before a small letter is the article, unless that word joins it to another choice
    lone = rf"(?<![0-9A-Za-zÀ-ÿ'’])({one})(?![0-9A-Za-zÀ-ÿ'’])(?!(?<=[AI])\s+(?!(?:or|and|is|oder|und|ist)\b)[a-zäöü])"
    marked = re.findall(rf"{MARKER.pattern}(?i:option\s+|choice\s+|is\s+|选项)*[\s*_(\[\"']*{lone}", text)
    if marked:
        return str(marked[-1])
    led = re.findall(rf"^[\s*_(\[]*({one})(?:[).:,\]*_]|\s*$)", text, re.MULTILINE)
    if len(set(led)) == 1:
        return str(led[0])
    alone = set(re.findall(lone, text))
    return alone.pop() if len(alone) == 1 else None


def contains(text: str, phrase: str) -> bool:
    """Return whether a phrase stands in a text as whole words (CJK phrases: anywhere), both normalised."""
    haystack = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    needle = normalise(phrase)
    if not needle:
        return False
    if CJK.search(needle):
        return needle in haystack
    return re.search(rf"(?<!\w){re.escape(needle)}(?!\w)", haystack) is not None


def candidates(text: str) -> list[str]:
    """Return the normalised readings of a response: all of it, what follows its answer marker, its last line."""
    lines = [line for line in text.splitlines() if line.strip()]
    readings = [text, answer_segment(text) or "", lines[-1] if lines else ""]
    return [reading for reading in dict.fromkeys(normalise(reading) for reading in readings) if reading]


def check_exact(spec: Mapping[str, Any], text: str) -> Check:
    """Check a response against accepted answers.

    Args:
        spec: `answers`: the accepted answers. `match`: "full" (default: the whole response, what follows its answer
            marker, or its last line equals an answer) or "contains" (an answer stands in it as whole words).
            `options`: the possible answers; with it a response that names exactly one of them counts as that one.
            `max_words`: a longer response fails (so that repeating the text is no answer).
        text: The response.

    Raises:
        UserError: If the spec is malformed.
    """
    only(spec, ("verifier", "answers", "match", "options", "max_words"))
    answers = strings(spec, "answers")
    match = one_of(spec, "match", ("full", "contains"), "full")
    options = strings(spec, "options", [])
    limit = field(spec, "max_words", int, 0)
    size = len(text.split())
    if limit and size > limit:
        return verdict(False, f"{size} words, at most {limit} allowed")
    accepted = {normalise(answer) for answer in answers}
    if accepted & set(candidates(text)):
        return verdict(True, "equals an accepted answer")
    if match == "contains" and any(contains(text, answer) for answer in answers):
        return verdict(True, "contains an accepted answer")
    named = {normalise(option) for option in options if contains(text, option)}
    if len(named) == 1:
        return verdict(named <= accepted, f"names only {next(iter(named))!r}")
    return verdict(False, f"expected {answers[0]!r}")


def check_choice(spec: Mapping[str, Any], text: str) -> Check:
    """Check which choice a response picks.

    Args:
        spec: `answer`: the right letter. `choices`: the texts of the choices in order (A first), so that a response
            that gives a choice's text counts too. Without it the letters are A to D.
        text: The response.

    Raises:
        UserError: If the spec is malformed.
    """
    only(spec, ("verifier", "answer", "choices"))
    choices = strings(spec, "choices", [])
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(choices) or 4]
    answer = one_of(spec, "answer", list(letters))
    picked = choice_letter(text, letters)
    if picked is None:
        texts = {normalise(choice): letter for choice, letter in zip(choices, letters, strict=False)}
        picked = next((texts[reading] for reading in candidates(text) if reading in texts), None)
    if picked is None:
        return verdict(False, "no choice could be read from the response")
    return verdict(picked == answer, f"picked {picked}, the answer is {answer}")
