"""Slow reads: what is shown while they are done anew, and what becomes of faults."""

from __future__ import annotations

import threading

import pytest

from app import reads_calm
from app.reads_calm import Places, State


class Reader:
    """A read that waits, in the background, until it may go on."""

    def __init__(self) -> None:
        self.read: list[State] = []
        self.may = threading.Event()
        self.fault: Exception | None = None

    def __call__(self, at: State) -> State:
        if threading.current_thread().name == "calm":
            assert self.may.wait(10)
            self.read.append(at)
            if self.fault is not None:
                raise self.fault
        return at


def settle() -> None:
    for thread in threading.enumerate():
        if thread.name == "calm":
            thread.join(10)


def test_the_old_is_shown_while_a_thread_reads_the_new() -> None:
    places, reader = Places(), Reader()
    assert not places.at_hand((1,), "board")
    assert places.read((1,), "board", reader) == (1,)
    assert places.at_hand((1,), "board") and not places.at_hand((1,), "other")
    assert places.read((2,), "board", reader) == (1,)
    assert places.read((2,), "board", reader) == (1,) and places.at_hand((2,), "board")
    assert places.read((2,), "other", reader) == (2,), "each read has a state of its own"
    reader.may.set()
    settle()
    assert places.read((2,), "board", reader) == (2,)
    assert reader.read == [(2,)], "it is read once"


def test_what_is_too_old_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    places, reader = Places(), Reader()
    assert places.read((1,), "board", reader) == (1,)
    monkeypatch.setattr(reads_calm, "OLD_SECONDS", -1.0)
    assert places.at_hand((1,), "board") and not places.at_hand((2,), "board")
    assert places.read((2,), "board", reader) == (2,)
    assert reader.read == []


def test_a_fault_is_left_to_whoever_asks_next() -> None:
    places, reader = Places(), Reader()
    places.read((1,), "board", reader)
    reader.fault = ValueError("no votes")
    reader.may.set()
    assert places.read((2,), "board", reader) == (1,)
    settle()
    assert not places.at_hand((2,), "board")
    assert places.read((2,), "board", reader) == (2,), "read at the page, which then says what is wrong"


def test_what_failed_at_the_page_is_not_at_hand() -> None:
    def fail(at: State) -> State:
        raise ValueError(at)

    places = Places()
    with pytest.raises(ValueError, match="1"):
        places.read((1,), "board", fail)
    assert not places.at_hand((1,), "board")
