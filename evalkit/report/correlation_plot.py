"""A correlation matrix as one SVG picture: coefficient, interval and n in every cell."""

from __future__ import annotations

import math
import re
import textwrap
from html import escape

from evalkit.stats.correlation import CorrelationMatrix

CELL_WIDTH, CELL_HEIGHT, GAP = 108, 62, 3
_LETTER = 7.4  # mean width of a letter at 13 px
_LABEL_LETTERS = 30
# Blue for agreement, rust for the contrary: apart for every kind of colour vision, and in grey by the signs.
_NEGATIVE, _NEUTRAL, _POSITIVE = (0xB6, 0x4A, 0x06), (0xF4, 0xF2, 0xED), (0x0B, 0x62, 0xA8)
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_STYLE = """
.cm text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
.cm-paper { fill: #ffffff; } .cm-ink { fill: #1b2127; } .cm-soft { fill: #58626d; } .cm-none { fill: #eceae5; }
@media (prefers-color-scheme: dark) {
  .cm-paper { fill: #1a2027; } .cm-ink { fill: #e9e7e2; } .cm-soft { fill: #a3adb8; } .cm-none { fill: #2b333d; }
}"""


def correlation_svg(matrix: CorrelationMatrix) -> str:
    """Draw a correlation matrix: a lower triangle, or one column where all was correlated with one reference.

    Every cell shows the coefficient on a diverging scale from rust (-1) to blue (1), its interval, and the number of
    models. The picture needs nothing from outside, follows the reader's dark or light scheme, and holds its numbers
    as text for screen readers.

    Args:
        matrix: From `Correlations.matrix`.

    Returns:
        An SVG document, which may also stand inside an HTML page.
    """
    names = [str(name) for name in matrix.value.index]
    n = matrix.n.to_numpy()
    values, lowers, uppers = (table.to_numpy() for table in (matrix.value, matrix.lower, matrix.upper))
    done = [(i, j) for i in range(len(names)) for j in range(i) if n[i, j] > 0]
    common = set.intersection(*({*pair} for pair in done)) if done else set()
    if len(names) > 2 and len(common) == 1 and len(done) == len(names) - 1:
        centre = common.pop()
        rows, columns = [i for i in range(len(names)) if i != centre], [centre]
    else:
        rows, columns = list(range(1, len(names))), list(range(len(names) - 1))
    left = 16 + _LETTER * max((len(_short(names[i])) for i in rows), default=0)
    title = f"{matrix.method.capitalize()} correlation over models"
    parts, right, top = [], 0.0, 74.0
    for place, column in enumerate(columns):
        # In a triangle each column's name stands right above its first cell, where nothing is drawn.
        above = top + (0 if len(columns) == 1 else place) * CELL_HEIGHT
        x = left + place * CELL_WIDTH
        parts.append(_text(x + 2, above - 8, _short(names[column]), "cm-ink", 13, full=names[column]))
        right = max(right, x + 2 + _LETTER * len(_short(names[column])), x + CELL_WIDTH)
    spoken = []
    for line, row in enumerate(rows):
        middle = top + line * CELL_HEIGHT + CELL_HEIGHT / 2
        label = _text(left - 10, middle + 4, _short(names[row]), "cm-ink", 13, anchor="end", full=names[row])
        parts.append(label)
        for place, column in enumerate(columns):
            if len(columns) == 1 or column < row:
                at = row, column
                cell, sentence = _cell(values[at], lowers[at], uppers[at], int(n[at]), matrix.method)
                spoken.append(f"{names[row]} and {names[column]}: {sentence}")
                parts.append(
                    f'<g transform="translate({left + place * CELL_WIDTH:.1f} {top + line * CELL_HEIGHT:.1f})">'
                    f"<title>{_safe(spoken[-1])}</title>{cell}</g>"
                )
    bottom = top + len(rows) * CELL_HEIGHT + 22
    width = max(right + 16, left + 260, 16 + 8.6 * len(title))
    notes = textwrap.wrap(f"Interval: {matrix.interval}. n: models with both scores.", max(30, int(width / 6.1)))
    height = bottom + 44 + 16 * len(notes)
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="cm" role="img" aria-label="{_safe(title)}" '
        f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">',
        f"<title>{_safe(title)}</title><desc>{_safe('; '.join(spoken))}</desc><style>{_STYLE}</style>",
        f'<rect class="cm-paper" width="{width:.0f}" height="{height:.0f}" rx="6"/>',
        _text(16, 30, title, "cm-ink", 16, weight=650),
    ]
    foot = [_legend(left, bottom)]
    foot += [_text(16, bottom + 50 + 16 * k, line, "cm-soft", 12) for k, line in enumerate(notes)]
    return "\n".join([*head, *parts, *foot, "</svg>\n"])


def colour(value: float) -> str:
    """The fill for a coefficient from -1 to 1, as #rrggbb."""
    end, share = (_POSITIVE if value >= 0 else _NEGATIVE), min(abs(value), 1.0)
    mixed = (round(a + (b - a) * share) for a, b in zip(_NEUTRAL, end, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def text_colour(fill: str) -> str:
    """Black or white, whichever stands out more; always 4.5 : 1 or better (WCAG 2.2)."""
    parts = (int(fill[k : k + 2], 16) / 255 for k in (1, 3, 5))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"


def _cell(value: float, low: float, high: float, n: int, method: str) -> tuple[str, str]:
    """A cell's shapes and the same in words."""
    size = f'width="{CELL_WIDTH - GAP}" height="{CELL_HEIGHT - GAP}" rx="3"'
    centre = (CELL_WIDTH - GAP) / 2
    if math.isnan(value):
        what = f"undefined, n {n}" if n else "not computed"
        box = f'<rect class="cm-none" {size}/>'
        return box + _text(centre, 35, what, "cm-soft", 12, anchor="middle"), what
    ink = text_colour(colour(value))
    limits = "no interval" if math.isnan(low) or math.isnan(high) else f"[{_number(low)}, {_number(high)}]"
    lines = [(_number(value), 23, 16, 650), (limits, 39, 12, 400), (f"n {n}", 52, 12, 400)]
    shapes = [f'<rect fill="{colour(value)}" {size}/>']
    shapes += [
        _text(centre, y, text, "", points, anchor="middle", weight=weight, fill=ink)
        for text, y, points, weight in lines
    ]
    return "".join(shapes), f"{method} {_number(value)}, {limits}, {n} models"


def _legend(x: float, y: float) -> str:
    steps = [k / 10 for k in range(-10, 11)]
    boxes = [
        f'<rect x="{x + 10 * k:.1f}" y="{y:.1f}" width="10.5" height="10" fill="{colour(value)}"/>'
        for k, value in enumerate(steps)
    ]
    marks = [
        _text(x + place, y + 24, text, "cm-soft", 12, anchor="middle")
        for place, text in ((5, "−1"), (105, "0"), (205, "1"))
    ]
    return "".join([*boxes, *marks])


def _text(
    x: float,
    y: float,
    text: str,
    style: str,
    points: int,
    *,
    anchor: str = "start",
    weight: int = 400,
    fill: str = "",
    full: str = "",
) -> str:
    paint = f'fill="{fill}"' if fill else f'class="{style}"'
    more = f"<title>{_safe(full)}</title>" if full and full != text else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" {paint} font-size="{points}" font-weight="{weight}" text-anchor="{anchor}">'
        f"{_safe(text)}{more}</text>"
    )


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")


def _short(name: str) -> str:
    return name if len(name) <= _LABEL_LETTERS else name[: _LABEL_LETTERS - 1] + "…"


def _safe(text: str) -> str:
    """Escaped, and without what XML does not allow."""
    return escape(_UNPRINTABLE.sub("\ufffd", text))
