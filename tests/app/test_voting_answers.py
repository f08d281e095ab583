"""What models write is shown and can do nothing: as Markdown, and in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from app_process import streamlit_run

from app.answers import JOINER, SHOWN_CHARS, clean, one_line, safe

MARK = "endofthis"
HOSTILE: dict[str, str] = {
    "script": "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">",
    "svg": "<svg onload=\"document.title='owned'\"><style>*{display:none}</style></svg><iframe src='http://evil.test'>",
    "image": "![cat](http://evil.test/cat.png) ![ref][x]\n\n[x]: http://evil.test/ref.png",
    "data": "![d](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9YWxlcnQoMSk+)",
    "links": "[me](javascript:document.title='owned') [ok](https://evil.test/a_b) <https://evil.test/auto>",
    "bare": "see https://evil.test/x, www.evil.test and me@evil.test or mailto:me@evil.test.",
    "fence": "```python\nprint('never closed')",
    "tildes": "~~~~\n```\n~~~\nstill code",
    "mermaid": "```mermaid\ngraph TD; A-->B\n```\n\n```Mermaid {x}\ngraph TD; A-->B\n```",
    "directive": ':red[alarm] :blue-badge[b] :shimmer[s] :color[c]{foreground="red"} :small[s] :help[h]\n\n'
    "::leaf[x]\n\n:::note\nin\n:::",
    "icons": ":material/home: :streamlit: :tada: `:material/home:` and a -> b <- c -- d >= e",
    "money": "It costs $5 and then $10, in all $15; US$ 20 or 5$ each.",
    "katex": r"$\href{javascript:document.title='owned'}{x}$ $$\includegraphics{http://evil.test/k.png}$$ "
    r"\(\htmlClass{a}{b}\)",
    "bomb": r"$\def\a{\a\a}\a$ and $\rule{99999em}{99999em}$",
    "footnote": "text[^1]\n\n[^1]: http://evil.test/foot",
    "table": "| a | b |\n|---|---|\n| <b>x</b> | ![i](http://evil.test/t.png) |",
    "deep": ">" * 500 + " quoted\n\n" + "- " * 300 + "nested",
    "wide": "x" * 5000 + "\n\n```text\n" + "y" * 5000 + "\n```\n\n|" + "z|" * 60 + "\n|" + "-|" * 60,
    "invisible": "a\u200bb\u202ec\u2066d\x00e\x1b[31mf\ufeffg\u00adh\U000e0041i\ud800j",
    "zalgo": "z" + "\u0300" * 400 + "!",
    "rtl": "\u0634\u0643\u0631\u0627 (abc) 123.\n\nplain",
    "heading": "# root\n\nSetext\n===\n\n###### six",
    "html_entities": "&lt;script&gt; &#60;img src=x&#62; &amp;",
    "clobber": '<form id="root"><input name="attributes"></form><base href="http://evil.test/">',
    "formfeed": "a\x0cb\x0bc\u2028d",
}

SCRIPT = """
import json, os
import streamlit as st
from app import answers
answers.style()
for name, text in json.load(open(os.environ["HOSTILE"])).items():
    with st.container(border=True, width=380, key=f"case-{name}"):
        answers.show(text, f"scroll-{name}")
        st.caption("endofthis")
st.title("All shown")
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """All hostile texts on one page of a real app in a real browser, with what the browser asked the network for."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
    chromium = next((path for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if Path(path).exists()), None)
    folder = tmp_path_factory.mktemp("answers")
    (folder / "texts.json").write_text(json.dumps(HOSTILE))
    (folder / "main.py").write_text(SCRIPT)
    texts = str(folder / "texts.json")
    with (
        streamlit_run(folder / "main.py", "--server.fileWatcherType=none", HOSTILE=texts) as server,
        sync_api.sync_playwright() as playwright,
    ):
        try:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"no Chromium for Playwright: {str(error).splitlines()[0]}")
        shown = browser.new_page(viewport={"width": 390, "height": 844})
        asked: list[str] = []
        shown.on("request", lambda request: asked.append(request.url))
        shown.on("dialog", lambda dialog: asked.append(f"dialog {dialog.message}"))
        shown.goto(f"{server.url}/")
        shown.get_by_role("heading", name="All shown").wait_for(timeout=60_000)
        shown.wait_for_function("!document.querySelector('[data-testid=stSkeleton]')", timeout=60_000)
        shown.asked = [url for url in asked if f"127.0.0.1:{server.port}" not in url and not url.startswith("data:")]
        yield shown
        browser.close()


def test_nothing_runs_loads_or_leads_away(page: Any) -> None:
    assert page.asked == []
    assert page.title() != "owned"
    box = '[class*="st-key-answer-scroll-"]'
    for tag in ("img", "a", "script", "iframe", "svg:not(button svg)", "style", "form", "base", "video", "object"):
        found = page.locator(f"{box} .stMarkdown {tag}")
        inside = [found.nth(at).evaluate("e => e.outerHTML.slice(0, 200)") for at in range(found.count())]
        # KaTeX draws roots and braces as SVG of its own, and a code block has its copy button.
        assert [one for one in inside if "katex" not in one and "<path d=" not in one] == [], tag
    for mark in ("stMarkdownColoredText", "stMarkdownBadge", "stMarkdownShimmer", "stMarkdownColoredBackground"):
        assert page.locator(f".{mark}").count() == 0
    assert page.locator('[data-testid*="ermaid"]').count() == 0
    assert page.locator(f'{box} [role="img"]').count() == 0


def test_no_text_swallows_what_comes_after_it(page: Any) -> None:
    for name in HOSTILE:
        end = page.locator(f".st-key-case-{name}").get_by_text("endofthis", exact=True)
        assert end.count() == 1, name
        assert end.evaluate("e => !e.closest('[class*=\"st-key-answer-\"]')"), name


def test_no_text_breaks_the_layout(page: Any) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for name in HOSTILE:
        box = page.locator(f".st-key-answer-scroll-{name}").bounding_box()
        assert box["width"] <= 390, name
        assert box["height"] <= 844 * 0.6, name


def test_what_was_written_is_what_is_read(page: Any) -> None:
    def text(name: str) -> str:
        return str(page.locator(f".st-key-answer-scroll-{name}").inner_text()).replace(JOINER, "")

    assert HOSTILE["script"] in text("script")
    assert "It costs $5 and then $10, in all $15; US$ 20 or 5$ each." in text("money")
    assert page.locator(".st-key-answer-scroll-money .katex").count() == 0
    assert ":red[alarm] :blue-badge[b] :shimmer[s]" in text("directive")
    assert ":material/home: :streamlit: :tada: :material/home: and a -> b <- c -- d >= e" in text("icons")
    assert "see https://evil.test/x, www.evil.test and me@evil.test or mailto:me@evil.test." in text("bare")
    assert "ok (https://evil.test/a_b)" in text("links")
    assert "[image: cat, http://evil.test/cat.png]" in text("image")
    assert "print('never closed')" in text("fence")
    assert "abcd\u2400e\u241b[31mfghi\ufffdj" in text("invisible")
    assert page.locator(".st-key-answer-scroll-katex a").count() == 0


def test_right_to_left_paragraphs_run_so(page: Any) -> None:
    start = "e => getComputedStyle(e).unicodeBidi"
    paragraph = page.locator(".st-key-answer-scroll-rtl p").first
    assert paragraph.evaluate(start) == "plaintext"
    box, inner = (
        paragraph.bounding_box(),
        paragraph.evaluate(
            "e => { const r = document.createRange(); r.selectNodeContents(e); return r.getBoundingClientRect().right }"
        ),
    )
    assert box["x"] + box["width"] - inner < 3


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("**bold** *it* ~~gone~~ `code`", "**bold** *it* ~~gone~~ `code`"),
        ("a\nb  \nc", "a\\\nb\\\nc"),
        ("# Title", "### Title"),
        ("- a\n- b\n\n  more", "- a\n\n- b\n\n  more"),
        ("3. x\n4. y", "3. x\n4. y"),
        ("- a\n  - b\n    ```sh\n    ls\n    ```", "- a\n  - b\n    ```sh\n    ls\n    ```"),
        ("> q\n> - r", "> q\n>\n> - r"),
        ("```c++ {x}\n`` ` ```` \n```", "`````c++\n`` ` ```` \n`````"),
        ("    indented", "```text\nindented\n```"),
        ("| a | b |\n|:-:|--:|\n| `x\\|y` | 1 |", "| a | b |\n| :-: | --: |\n| `x\\|y` | 1 |"),
        ("$x^2$ and \\(y_1\\)", f"$x^2$ and $y_1${JOINER}"),
        ("so\n\\[\n a = b \n\\]\nthus", "so\n\n$$\na = b\n$$\n\nthus"),
        ("$$\nx\n$$", "$$\nx\n$$"),
        ("$5 or 10$ now", "\\$5 or 10\\$ now"),
        ("$2x + 1$ and $7$", "$2x + 1$ and $7$"),
        (r"$\def\a{b}$", r"`$\def\a{b}$`"),
        ("1\\. no list", "1\\. no list"),
        ("---", "***"),
        ("", ""),
    ],
)
def test_markdown_is_written_anew(written: str, shown: str) -> None:
    assert safe(written) == shown


def test_long_texts_say_what_is_not_shown() -> None:
    shown = safe("word " * (SHOWN_CHARS // 4))
    assert shown.endswith("more characters are not shown\\]*")
    assert len(shown) < SHOWN_CHARS * 1.1


def test_joiners_stay_where_scripts_and_emoji_need_them() -> None:
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    persian = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    assert clean(f"{family} {persian} a\u200db") == f"{family} {persian} ab"


def test_names_are_shown_as_written_on_one_line() -> None:
    assert one_line("a_b*\n[x](y) :red[z]") == "a\\_b\\* \\[x\\]\\(y\\) \\:red\\[z\\]"


def test_writing_anew_changes_nothing_more() -> None:
    for text in HOSTILE.values():
        once = safe(text)
        assert "<script" not in once.replace("\\<", "")
        assert "](" not in once.replace("\\]\\(", "")
