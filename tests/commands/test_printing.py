"""Tables: as they are where they fit, squeezed where they do not, never cut off."""

from __future__ import annotations

import pytest

from evalkit.commands import printing

ROWS = [
    {"model": "smollm2-135m-instruct", "task": "starter_arithmetic_de", "n": 1200, "score": 0.25, "ok": True},
    {"model": "gpt-4", "task": "a few words that may be broken anywhere between them", "n": None, "score": 0.5},
]
COLUMNS = {"model": "model", "task": "task", "n": "answers", "score": "mean score:.2f", "ok": "ok"}


def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int) -> str:
    monkeypatch.setattr(printing, "console", lambda: _console(width))
    printing.print_table(ROWS, COLUMNS, "Title")
    return capsys.readouterr().out


def _console(width: int) -> printing.Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, width=width)


def test_a_table_that_fits_has_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out = printed(capsys, monkeypatch, 160)
    assert out.startswith("Title")
    assert "│ smollm2-135m-instruct │ starter_arithmetic_de " in out
    assert "│    1200 │       0.25 │ yes │" in out
    assert len(out.splitlines()) == 1 + 3 + 2 + 1


@pytest.mark.parametrize("width", range(67, 100, 5))
def test_squeezed_it_breaks_between_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    lines = printed(capsys, monkeypatch, width).splitlines()
    assert max(map(len, lines)) <= width
    for word in ("smollm2-135m-instruct", "starter_arithmetic_de", "broken", "1200", "0.25", "yes", "score"):
        assert any(word in line.split() for line in lines)


@pytest.mark.parametrize("width", [20, 30, 45])
def test_far_too_narrow_it_still_loses_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    lines = printed(capsys, monkeypatch, width).splitlines()
    assert max(map(len, lines)) <= width
    letters = sorted("".join("".join(lines).split()).replace("─", ""))
    everything = (
        "Title model task answers mean score ok smollm2-135m-instruct starter_arithmetic_de 1200 0.25 yes gpt-4"
    )
    said = f"{everything} a few words that may be broken anywhere between them 0.50"
    assert letters == sorted("".join(said.split()))


def test_what_is_said_of_several_things_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    printing.note(["a: too few.", "alone", *(f"{name}: too few." for name in "bcde")])
    assert capsys.readouterr().out == "Note: a; b; c; 2 more: too few.\nNote: alone\n"
