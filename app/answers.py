"""Shows what models wrote: Markdown, code and maths, and nothing that could act.

A model's text is parsed (CommonMark with tables), and what was understood is written anew as Markdown in which every
character of prose is escaped. So Streamlit can find nothing in it that the parse has not: no HTML, image, link,
directive (`:red[...]`), icon, emoji code, diagram or heading anchor, and no fence that swallows what comes after.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import TYPE_CHECKING, Literal

from app import maths

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.tree import SyntaxTreeNode

SHOWN_CHARS = 100_000
"""Of a text; of what is longer the rest is counted, not shown."""
HIGHLIGHTED_CHARS = 20_000
"""Of a code block; colouring longer ones would hold up the browser."""
URL_CHARS = 300
MARKS = 4
"""Combining marks on one character; stacks of more reach over the lines above and below."""

JOINER = "\u2060"
"""Has no width: parts what Streamlit would replace inside prose, such as `:smile:` or `->`."""
STYLE = """
[class*="st-key-answer-"] { overflow-wrap: anywhere; contain: paint; }
[class*="st-key-answer-"] :is(p, li, td, th, h3, h4, h5, h6, blockquote) { unicode-bidi: plaintext; text-align: start; }
[class*="st-key-answer-"] table { display: block; max-width: 100%; overflow-x: auto; }
[class*="st-key-answer-"] .katex-display { max-width: 100%; overflow: auto hidden; }
[class*="st-key-answer-"] :is(h3, h4) { font-size: 1.1rem; padding: 0.4rem 0 0.2rem; }
[class*="st-key-answer-"] :is(h5, h6) { font-size: 1rem; padding: 0.3rem 0 0.2rem; }
[class*="st-key-answer-scroll-"] { max-height: max(20rem, 100dvh - 34.5rem); overflow-y: auto; }
@media (max-width: 640px) { [class*="st-key-answer-scroll-"] { max-height: 58vh; } }
"""
"""Text runs in the direction of its own script, and what is wide or long scrolls in its box."""

_INTERRUPTING = ("bullet_list", "ordered_list", "fence", "code_block", "blockquote")
"""What ends a paragraph without a blank line, which would make a tight list a loose one."""
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_REPLACED = re.compile(
    r"(?P<code>:)(?=[\w+-]+:)"  # :smile:, :streamlit:
    r"|(?P<site>\bwww)(?=\.)|(?P<scheme>\b(?:https?|mailto|xmpp|ftp))(?=:)|(?P<mail>(?<=[\w.+-])@)(?=[\w-]+\.)"
    r"|(?P<arrow>(?<!\S)(?:<-|[->~<]))(?=[->=]+(?!\S))",
    re.IGNORECASE,
)
_URL = re.compile(r"""\bhttps?://[^\s<>"'`|\\^{}]+[^\s<>"'`|\\^{}.,;:!?)\]*_~]""", re.IGNORECASE)
_INVISIBLE = re.compile(  # bidirectional overrides, zero-width spaces, soft hyphens, fillers, tags
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)
_LONE_JOINER = re.compile("(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")


def show(text: str, key: str) -> None:
    """Writes a model's text into a container of its own, with `STYLE` somewhere on the page (see `style`).

    Args:
        text: As the model wrote it.
        key: Of the container, unique on the page; one beginning with `scroll-` gives a long text a box to scroll in.
    """
    import streamlit as st

    with st.container(key=f"answer-{key}", gap="small"):
        st.markdown(safe(text) or "*The answer is empty.*", anchors=False)


def style() -> None:
    """Puts the rules for shown texts on the page; once a page."""
    import streamlit as st

    st.html(f"<style>{STYLE}</style>")


def safe(text: str) -> str:
    """Returns Markdown that shows a model's text and can do nothing else."""
    from markdown_it.tree import SyntaxTreeNode

    rest = len(text) - SHOWN_CHARS
    tokens = _parser().parse(clean(text[:SHOWN_CHARS]))
    blocks = _blocks(SyntaxTreeNode(tokens).children)
    if rest > 0:
        blocks += ["", f"*\\[{rest:,} more characters are not shown\\]*"]
    return "\n".join(blocks).strip("\n")


def one_line(text: str) -> str:
    """Returns Markdown that shows a name, or other short text, as it is written."""
    return _prose(" ".join(clean(text).split()), "flat")


def clean(text: str) -> str:
    """Returns a text without invisible characters, and with control characters made visible.

    Zero-width joiners stay between other than ASCII characters, where scripts and emoji need them.
    """
    text = re.sub("\r\n?|[\x0b\x0c\x85\u2028\u2029]", "\n", text)
    text = _CONTROL.sub(lambda found: _picture(ord(found[0])), text)
    text = re.sub("[\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]", "\ufffd", text)
    text = _LONE_JOINER.sub("", _INVISIBLE.sub("", text))
    return text if text.isascii() else _without_stacks(text)


def _picture(code: int) -> str:
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else "\ufffd"


def _without_stacks(text: str) -> str:
    kept, marks = [], 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        if marks <= MARKS:
            kept.append(character)
    return "".join(kept)


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("js-default", {"html": False, "maxNesting": 20}).disable("reference")
    maths.register(parser)
    return parser


def _blocks(nodes: list[SyntaxTreeNode], *, tight: bool = False) -> list[str]:
    lines: list[str] = []
    before, bullet = "", "-"
    for node in nodes:
        if lines and not (tight and before == "paragraph" and node.type in _INTERRUPTING):
            lines.append("")
        # Two lists that follow each other are told apart by their bullets, as in the source.
        bullet = "*" if node.type == before == "bullet_list" and bullet == "-" else "-"
        before = node.type
        lines += _block(node, bullet)
    return lines


def _block(node: SyntaxTreeNode, bullet: str) -> list[str]:
    match node.type:
        case "heading":
            level = min(int(node.tag[1]) + 2, 6)  # the page's own headings stand above
            return [f"{'#' * level} {_inline(node, flat=True)}"]
        case "fence" | "code_block":
            return _fence(node.content, node.info if node.type == "fence" else "")
        case "maths_block":
            return ["$$", *node.content.split("\n"), "$$"]
        case "blockquote":
            return [f"> {line}".rstrip() for line in _blocks(node.children)]
        case "bullet_list":
            return _list(node, [bullet] * len(node.children))
        case "ordered_list":
            first, mark = int(node.attrs.get("start", 1)), node.children[0].markup
            return _list(node, [f"{min(first + i, 999_999_999)}{mark}" for i in range(len(node.children))])
        case "table":
            return _table(node)
        case "hr":
            return ["***"]
        case _:
            return _inline(node).split("\n")


def _list(node: SyntaxTreeNode, marks: list[str]) -> list[str]:
    tight = all(child.hidden for item in node.children for child in item.children if child.type == "paragraph")
    lines: list[str] = []
    for item, mark in zip(node.children, marks, strict=True):
        if lines and not tight:
            lines.append("")
        inside = _blocks(item.children, tight=tight) or [""]
        indent = " " * (len(mark) + 1)
        lines.append(f"{mark} {inside[0]}".rstrip())
        lines += [f"{indent}{line}".rstrip() for line in inside[1:]]
    return lines


def _table(node: SyntaxTreeNode) -> list[str]:
    rows = [row for part in node.children for row in part.children]
    cells = [[_inline(cell, flat=True, cell=True) for cell in row.children] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    marks = {"text-align:left": ":--", "text-align:right": "--:", "text-align:center": ":-:"}
    rule = [marks.get(str(cell.attrs.get("style", "")), "---") for cell in rows[0].children]
    return [lines[0], f"| {' | '.join(rule)} |", *lines[1:]]


def _fence(code: str, info: str) -> list[str]:
    language = info.split()[0] if info.split() else ""
    plain = not re.fullmatch(r"[A-Za-z][A-Za-z0-9+#-]{0,19}", language) or language.lower().startswith("mermaid")
    if plain or len(code) > HIGHLIGHTED_CHARS:
        language = "text"
    mark = "`" * max(3, _longest("`", code) + 1)
    return [f"{mark}{language}", *_unread(code).removesuffix("\n").split("\n"), mark]


def _unread(code: str) -> str:
    return code.replace(":material/", f":{JOINER}material/")  # replaced by Streamlit even inside code


def _longest(character: str, text: str) -> int:
    return max((len(run) for run in re.findall(f"{re.escape(character)}+", text)), default=0)


def _inline(node: SyntaxTreeNode, *, flat: bool = False, cell: bool = False) -> str:
    """Writes a node's text; flat: on one line."""
    text = "".join(_span(child, "cell" if cell else "flat" if flat else "prose") for child in node.children)
    return text.strip() if flat else re.sub(r"[ \t]*\n[ \t]*", "\n", text.strip())


def _span(node: SyntaxTreeNode, place: Literal["prose", "flat", "cell"]) -> str:
    inside = "".join(_span(child, place) for child in node.children) if node.type != "image" else ""
    match node.type:
        case "text":
            return _prose(node.content, place)
        case "code_inline":
            return _code(node.content, place)
        case "maths_inline":
            if place == "cell" and "|" in node.content:
                return _code(node.content, place)
            # Streamlit takes a closing dollar before a digit for money.
            return f"${node.content}$" + (JOINER if node.markup != "$" else "")
        case "softbreak" | "hardbreak":
            # A line's end is kept, as chats show it: in verse and addresses it is the text's.
            return " " if place != "prose" else "\\\n"
        case "strong":
            return f"**{inside}**" if inside.strip() else inside
        case "em":
            return f"*{inside}*" if inside.strip() else inside
        case "s":
            return f"~~{inside}~~" if inside.strip() else inside
        case "link":
            target = str(node.attrs.get("href", ""))
            return f"{inside} ({_url(target, place)})" if inside and node.markup != "autolink" else _url(target, place)
        case "image":
            label = _prose(node.content or "no description", place)
            return f"\\[image: {label}, {_url(str(node.attrs.get('src', '')), place)}\\]"
        case _:
            return inside or _prose(node.content, place)


def _url(url: str, place: Literal["prose", "flat", "cell"]) -> str:
    return _code(url if len(url) <= URL_CHARS else url[:URL_CHARS] + "…", place) if url else ""


def _prose(text: str, place: Literal["prose", "flat", "cell"]) -> str:
    parts, end = [], 0
    for found in _URL.finditer(text):
        parts += [_escape(text[end : found.start()]), _url(found[0], place)]
        end = found.end()
    return "".join([*parts, _escape(text[end:])])


def _escape(text: str) -> str:
    parted = _REPLACED.sub(lambda found: found[0] + JOINER, text)
    return _PUNCTUATION.sub(r"\\\1", parted.replace("\n", " "))


def _code(text: str, place: Literal["prose", "flat", "cell"]) -> str:
    text = _unread(text.replace("\n", " "))
    if place == "cell":
        text = text.replace("|", "\\|")
    mark = "`" * (_longest("`", text) + 1)
    pad = " " if not text.strip() or text[0] in "` " or text[-1] in "` " else ""
    return f"{mark}{pad}{text}{pad}{mark}" if text else ""
