"""The difference of two answers, word by word, as HTML that holds nothing of theirs but text."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from difflib import SequenceMatcher

from app import answers

WORDS = 3_000
"""Of each text that are compared: comparing grows with the square."""
STYLE = """
<style>
.evalkit-difference { max-height: min(62vh, 46rem); overflow-y: auto; white-space: pre-wrap;
  overflow-wrap: anywhere; unicode-bidi: plaintext; line-height: 1.6; }
.evalkit-difference :is(ins, del) { color: inherit; border-radius: 3px; padding: 0 1px; text-decoration-thickness: 2px;
  text-underline-offset: 3px; box-decoration-break: clone; }
.evalkit-difference del { background: rgb(213 94 0 / 22%); text-decoration: underline wavy rgb(213 94 0 / 70%) 1px; }
.evalkit-difference ins { background: rgb(0 114 178 / 22%); text-decoration: underline solid rgb(0 114 178 / 80%); }
</style>
"""
"""Told apart by the line as well as by the colour."""

_TOKEN = re.compile(r"\s*(?:\w+|[^\w\s])")


@dataclass(frozen=True, slots=True)
class Difference:
    """Two texts beside each other.

    Attributes:
        left, right: HTML: what only the left has is `del`, what only the right has is `ins`.
        shared: Share of the words of both that they have in common, in the same order.
        cut: Whether either is longer than what was compared.
    """

    left: str
    right: str
    shared: float
    cut: bool


def difference(left: str, right: str) -> Difference:
    """Compares two texts by words.

    The longest common subsequence in the manner of Ratcliff and Obershelp (`difflib`), spaces left aside; `shared` is
    2 M / T, M words in common of T in both.
    """
    tokens = [_TOKEN.findall(answers.clean(text.strip())) for text in (left, right)]
    cut = any(len(side) > WORDS for side in tokens)
    a, b = (side[:WORDS] for side in tokens)
    matcher = SequenceMatcher(None, [word.strip() for word in a], [word.strip() for word in b], autojunk=False)
    sides: tuple[list[str], list[str]] = ([], [])
    shared = 0
    for kind, i, j, k, m in matcher.get_opcodes():
        for side, part, mark in ((sides[0], a[i:j], "del"), (sides[1], b[k:m], "ins")):
            text = "".join(part)
            words = text.lstrip()
            space, words = html.escape(text[: len(text) - len(words)]), html.escape(words)
            side.append(space + (words if kind == "equal" or not words else f"<{mark}>{words}</{mark}>"))
        if kind == "equal":
            shared += j - i
    total = len(a) + len(b)
    return Difference("".join(sides[0]), "".join(sides[1]), 2 * shared / total if total else 1.0, cut)


def framed(text: str) -> str:
    """Returns one side as a block of HTML, for `st.html`."""
    return f'<div class="evalkit-difference">{text}</div>'
