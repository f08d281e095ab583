from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from sample_ledger import HOSTILE
from small import answers, judge, run

from evalkit import report
from evalkit.commands.printing import plain
from evalkit.errors import UserError
from evalkit.report import build_report, write_report
from evalkit.report.html import Axis, axis
from evalkit.store import Ledger

VOID = {"meta", "br", "wbr", "line", "circle", "rect"}
A, FIRST = [("ab", "model_a"), ("ba", "model_a")], [("ab", "model_a"), ("ba", "model_b")]


class Page(HTMLParser):
    """What a browser would see: tags with attributes, headings, text; and that every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def _page(ledger: Ledger, run_id: int, folder: Path) -> tuple[Page, str]:
    write_report(ledger, run_id, folder / "report.html")
    text = (folder / "report.html").read_text(encoding="utf-8")
    return Page(text), text


def test_page_is_whole_accessible_and_loads_nothing(sample: tuple[Ledger, int], tmp_path: Path) -> None:
    page, text = _page(*sample, tmp_path)
    assert page.open == []
    for tag in ("script", "link", "iframe", "object", "embed", "img", "form", "base"):
        assert not page.all(tag), tag
    for _, attrs in page.tags:
        assert not [name for name in attrs if name.startswith("on") or name in ("src", "srcset", "data")]
        assert not (attrs.get("href") or "#").strip("#").count("/"), attrs
    assert "url(" not in text and "@import" not in text
    assert "default-src 'none'" in text
    levels = [int(tag[1]) for tag, _ in page.tags if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit()]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert all(attrs.get("scope") in ("row", "col") for attrs in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    for attrs in page.all("svg"):
        assert attrs.get("aria-hidden") == "true" or (attrs.get("role") == "img" and attrs.get("aria-label"))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(set(ids)) == len(ids)
    assert {(a["href"] or "")[1:] for a in page.all("a")} <= set(ids)
    assert len(text) < 300_000


def test_page_says_the_result_first(sample: tuple[Ledger, int], tmp_path: Path) -> None:
    page, _ = _page(*sample, tmp_path)
    start = page.text[page.text.index("evalkit report, run") :][:900]
    assert "gpt-4-recorded leads the board" in start
    assert "Judge smollm2-judge: always prefers the answer shown first" in start
    assert "requests have no answer" in start
    for word in ("half a win for each side", "clustered by item_id", "Seed 7", "0.4.13", "temperature 1.0"):
        assert word in page.text


def test_what_models_say_is_text(ledger: Ledger, tmp_path: Path) -> None:
    run_id = run(ledger)
    answers(ledger, run_id, HOSTILE, {HOSTILE: [0.0] * 3}, tags=[{HOSTILE: HOSTILE}] * 3)
    page, text = _page(ledger, run_id, tmp_path)
    assert not page.all("script") and not page.all("img")
    assert "{{ 7*7 }}" in page.text and HOSTILE in page.text
    assert "&lt;script&gt;" in text


def test_control_characters_are_made_visible(ledger: Ledger, tmp_path: Path) -> None:
    run_id = run(ledger)
    answers(ledger, run_id, "bell\x07 \x1b[31m", {"m": [0.0]})
    page, _ = _page(ledger, run_id, tmp_path)
    assert "bell\ufffd \ufffd[31m" in page.text


@pytest.mark.parametrize("what", ["nothing", "scores", "battles", "failures only"])
def test_page_of_a_part_of_a_run(ledger: Ledger, tmp_path: Path, what: str) -> None:
    run_id = run(ledger, {"judges": [{"name": "j"}]})
    if what == "scores":
        answers(ledger, run_id, "t", {"a": [1.0, 0.0], "b": [1.0, 1.0]})
    if what == "failures only":
        answers(ledger, run_id, "t", {"a": [None, None]})
    if what == "battles":
        answers(ledger, run_id, "prompts", {"a": [1.0], "b": [0.0]}, score=False)
        judge(ledger, "j", [A] * 5 + [[("ab", "model_b"), ("ba", "model_b")]] * 2, run_id=run_id)
    page, _ = _page(ledger, run_id, tmp_path)
    assert page.open == []
    ids = {attrs.get("id") for _, attrs in page.tags}
    assert ("leaderboard" in ids) == (what == "battles")
    assert ("scores" in ids) == (what != "nothing")
    expected = {
        "nothing": "holds no scores",
        "scores": "b scores highest on t, 100.0%",
        "battles": "a has the highest rating",
        "failures only": "2 of 2 requests have no answer (timeout 2)",
    }
    assert expected[what] in page.text


def test_a_jury_with_a_useless_member_is_doubted(ledger: Ledger, tmp_path: Path) -> None:
    run_id = run(ledger, {"judges": [{"name": "j"}], "juries": [{"members": ["j"]}]})
    answers(ledger, run_id, "t", {"a": [1.0], "b": [0.0]})
    judge(ledger, "j", [FIRST] * 9, run_id=run_id)
    board = build_report(ledger, run_id).board
    assert board is not None
    assert "should not be in it. Judge j: always prefers the answer shown first" in board.warnings[0]
    page, _ = _page(ledger, run_id, tmp_path)
    assert "The votes do not order the models" in page.text


def test_secrets_of_the_plan_do_not_show(ledger: Ledger, tmp_path: Path) -> None:
    plan = {
        "store": "postgresql://user:hunter2@host/db",
        "models": [{"extra": {"api_key": "sk-hunter2", "max_tokens": 12}}],
        "api_key_env": "MY_KEY",
    }
    page, text = _page(ledger, run(ledger, plan), tmp_path)
    assert "hunter2" not in text
    assert "max_tokens: 12" in page.text and "api_key_env: MY_KEY" in page.text and "@host/db" in page.text


def test_report_is_json(sample: tuple[Ledger, int]) -> None:
    data = json.loads(json.dumps(plain(build_report(*sample)), allow_nan=False))
    assert data["board"]["rows"][0]["model"] == "gpt-4-recorded"
    assert data["facts"]["environment"]["torch"] == "2.13.0"


def test_a_file_appears_whole_or_not_at_all(
    sample: tuple[Ledger, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "new" / "report.html"
    write_report(*sample, target)
    target.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match=r"report.html' cannot be written \(No space left on device\)"):
        write_report(*sample, target)
    assert target.read_text() == "old" and [p.name for p in target.parent.iterdir()] == ["report.html"]


def test_places_that_cannot_be_written(sample: tuple[Ledger, int], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_report(*sample, tmp_path / "file" / "report.html")
    with pytest.raises(UserError, match="is a folder"):
        write_report(*sample, tmp_path)
    with pytest.raises(UserError, match="no run 99"):
        write_report(sample[0], 99, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("values", [[1000.0], [933.2, 1181.6], [0.001, 0.002], [-5.0, 5.0, None], [], [7.0, 7.0]])
def test_axis_holds_its_values_on_round_ticks(values: list[float | None]) -> None:
    found = axis(values)
    assert 2 <= len(found.ticks) <= 8
    assert all(found.low <= tick <= found.high for tick in found.ticks)
    assert all(found.low < value < found.high for value in values if value is not None)


def test_axis_places() -> None:
    unit = Axis(0.0, 2.0, (0.0, 2.0))
    assert (unit.at(0.5), unit.at(-3.0), unit.at(9.0), unit.up(0.5)) == ("25.00%", "0.00%", "100.00%", "75.00%")


def test_import_is_light() -> None:
    code = "import sys, evalkit.report; print([m for m in ('pandas', 'scipy', 'jinja2', 'numpy') if m in sys.modules])"
    root = Path(report.__file__).parent.parent.parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"
