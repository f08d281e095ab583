"""Slow reads: what is shown while they are done anew, and what becomes of faults."""

from __future__ import annotations

import threading

import pytest

from app import stale_reads
from app.stale_reads import StaleReads, State


class Reader:
    """A read that waits, in the background, until it may go on."""

    def __init__(self) -> None:
        self.read: list[State] = []
        self.may = threading.Event()
        self.fault: Exception | None = None

    def __call__(self, at: State) -> State:
        if threading.current_thread().name == "revalidate":
            assert self.may.wait(10)
            self.read.append(at)
            if self.fault is not None:
                raise self.fault
        return at


def settle() -> None:
    for thread in threading.enumerate():
        if thread.name == "revalidate":
            thread.join(10)


def test_the_old_is_shown_while_a_thread_reads_the_new() -> None:
    reads, reader = StaleReads(), Reader()
    assert not reads.cached((1,), "board")
    assert reads.read((1,), "board", reader) == (1,)
    assert reads.cached((1,), "board") and not reads.cached((1,), "other")
    assert reads.read((2,), "board", reader) == (1,)
    assert reads.read((2,), "board", reader) == (1,) and reads.cached((2,), "board")
    assert reads.read((2,), "other", reader) == (2,), "each read has a state of its own"
    reader.may.set()
    settle()
    assert reads.read((2,), "board", reader) == (2,)
    assert reader.read == [(2,)], "it is read once"


def test_what_is_too_old_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    reads, reader = StaleReads(), Reader()
    assert reads.read((1,), "board", reader) == (1,)
    monkeypatch.setattr(stale_reads, "OLD_SECONDS", -1.0)
    assert reads.cached((1,), "board") and not reads.cached((2,), "board")
    assert reads.read((2,), "board", reader) == (2,)
    assert reader.read == []


def test_a_fault_is_left_to_whoever_asks_next() -> None:
    reads, reader = StaleReads(), Reader()
    reads.read((1,), "board", reader)
    reader.fault = ValueError("no votes")
    reader.may.set()
    assert reads.read((2,), "board", reader) == (1,)
    settle()
    assert not reads.cached((2,), "board")
    assert reads.read((2,), "board", reader) == (2,), "read at the page, which then says what is wrong"


def test_what_failed_at_the_page_is_not_at_hand() -> None:
    def fail(at: State) -> State:
        raise ValueError(at)

    reads = StaleReads()
    with pytest.raises(ValueError, match="1"):
        reads.read((1,), "board", fail)
    assert not reads.cached((1,), "board")
