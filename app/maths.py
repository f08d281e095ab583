r"""Maths in Markdown: `$...$`, `$$...$$`, `\(...\)` and `\[...\]` as rules of the parser; money stays prose."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline

MATHS_CHARS = 2_000
"""Of one formula; longer ones are shown as code."""

# Commands that load, link, define (expansion can be made endless) or move ink out of their box.
_BARRED = re.compile(
    r"\\(?:href|url|includegraphics|html\w*|[egx]?def|let|futurelet|(?:re|provide)?newcommand|renewcommand"
    r"|providecommand|global|rule|kern|mkern|mskip|hskip|hspace|raisebox|smash|[rlc]lap|math[rlc]lap|rlap|char|tag)"
    r"(?![A-Za-z])\*?"
)
_WORDS = re.compile(r"(?<!\\)\b[A-Za-z]{2,}\b")
_OPERATOR = re.compile(r"[\\^_=+*<>{}|]")


def register(parser: MarkdownIt) -> None:
    """Adds the rules that make nodes `maths_inline` and `maths_block`, their content the formula."""
    parser.inline.ruler.before("escape", "maths_inline", _inline)
    ends = ["paragraph", "reference", "blockquote", "list"]
    parser.block.ruler.before("fence", "maths_block", _block, {"alt": ends})


def shown(formula: str) -> str | None:
    """Returns the formula as it may be typeset; None if it has to be shown as code."""
    formula = "\n".join(line.strip() for line in formula.split("\n") if line.strip())
    unsafe = _BARRED.search(formula) or "$" in formula.replace("\\$", "") or "`" in formula
    return None if not formula or unsafe or len(formula) > MATHS_CHARS or formula.count("{") > 300 else formula


def _inline(state: StateInline, silent: bool) -> bool:
    start, source = state.pos, state.src
    opening = next((mark for mark in ("$$", "$", "\\(", "\\[") if source.startswith(mark, start)), None)
    if opening is None:
        return False
    closing = {"\\(": "\\)", "\\[": "\\]"}.get(opening, opening)
    first = start + len(opening)
    end = _end(source, first, closing)
    if end < 0 or (opening == "$" and not _is_maths(source, start, first, end)):
        return False
    formula = shown(source[first:end])
    if not silent:
        token = state.push("maths_inline" if formula else "code_inline", "", 0)
        # On one line, and not beginning like a block: a formula's "=" or "-" at a line's start would be one.
        token.markup = opening
        token.content = (formula or source[start : end + len(closing)]).replace("\n", " ")
    state.pos = end + len(closing)
    return True


def _end(source: str, first: int, closing: str) -> int:
    """Returns where the closing mark stands; -1 if there is none."""
    place = source.find(closing, first, first + MATHS_CHARS + 200)
    while place > 0 and source[place - 1] == "\\" and closing[0] == "$":
        place = source.find(closing, place + 1, first + MATHS_CHARS + 200)
    return place if place > first else -1


def _is_maths(source: str, start: int, first: int, end: int) -> bool:
    """Tells a formula between single dollars from two amounts of money."""
    formula = source[first:end]
    before, after = source[start - 1 : start], source[end + 1 : end + 2]
    if before.isalnum() or before in ("\\", "$") or after.isdigit() or after == "$":
        return False
    if formula[0].isspace() or formula[-1].isspace() or "\n\n" in formula:
        return False
    # "$5 and 10$" and "$5-" begin like money; "$2x + 1$" or "$5$" do not.
    return not (formula[0].isdigit() and _WORDS.search(formula) and not _OPERATOR.search(formula))


def _block(state: StateBlock, start: int, last: int, silent: bool) -> bool:
    """A formula that begins a line with `$$` or `\\[` and ends one, before a blank line."""
    if state.is_code_block(start):
        return False
    line = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]]
    opening = next((mark for mark in ("$$", "\\[") if line.startswith(mark)), None)
    if opening is None:
        return False
    closing = "\\]" if opening == "\\[" else "$$"
    lines, at = [line[2:]], start
    while not lines[-1].rstrip().endswith(closing):
        at += 1
        if at >= last or state.isEmpty(at) or state.sCount[at] < state.blkIndent:
            return False
        lines.append(state.src[state.bMarks[at] + state.tShift[at] : state.eMarks[at]])
    text = "\n".join(lines).rstrip()[:-2]
    if closing in text:
        return False  # two formulas on one line: prose
    if silent:
        return True
    formula = shown(text)
    token = state.push("maths_block" if formula else "fence", "", 0)
    token.content, token.block, token.map = formula or text, True, [start, at + 1]
    state.line = at + 1
    return True
