"""Slow reads: what is shown while they are done anew, and what becomes of faults."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from app import reads_calm
from app.reads_calm import Places, State


class Reader:
    """A read that waits until it may go on."""

    def __init__(self) -> None:
        self.done: list[State] = []
        self.may = threading.Event()
        self.fault: Exception | None = None

    def __call__(self, at: State) -> None:
        assert self.may.wait(10)
        if self.fault is not None:
            raise self.fault
        self.done.append(at)


def settled(places: Places, reader: Callable[[State], Any], now: State) -> State:
    for thread in threading.enumerate():
        if thread.name == "calm":
            thread.join(10)
    return places.state(now, "board", reader)


def test_the_old_is_shown_while_a_thread_reads_the_new() -> None:
    places, reader = Places(), Reader()
    assert places.state((1,), "board", reader) == (1,)
    assert places.state((2,), "board", reader) == (1,)
    assert places.state((2,), "board", reader) == (1,)
    assert places.state((2,), "other", reader) == (2,), "each read has a state of its own"
    reader.may.set()
    assert settled(places, reader, (2,)) == (2,)
    assert reader.done == [(2,)], "it is read once"


def test_what_is_too_old_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    places, reader = Places(), Reader()
    assert places.state((1,), "board", reader) == (1,)
    monkeypatch.setattr(reads_calm, "OLD_SECONDS", -1.0)
    assert places.state((2,), "board", reader) == (2,)
    assert reader.done == []


def test_a_fault_is_left_to_whoever_asks_next() -> None:
    places, reader = Places(), Reader()
    places.state((1,), "board", reader)
    reader.fault = ValueError("no votes")
    reader.may.set()
    assert places.state((2,), "board", reader) == (1,)
    assert settled(places, reader, (2,)) == (2,), "read at the page, which then says what is wrong"
