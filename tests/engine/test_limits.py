"""Windows, rates, dollars and back-off, by themselves."""

from __future__ import annotations

import random

import pytest

from evalkit.engine.limits import DollarLimit, RateLimit, Window, backoff


def test_slow_start_doubles_with_time_up_to_the_ceiling() -> None:
    window = Window(1000, start=64)
    sizes = [window.size]
    while window.ramp():
        sizes.append(window.size)
    assert sizes == [64, 128, 256, 512]
    assert window.size == 1000


def test_a_refusal_ends_the_ramp_but_a_few_cut_nothing() -> None:
    window = Window(1000, start=64)
    window.refused(window.epoch)
    assert not window.ramp()
    assert window.size == 64


def test_many_refusals_cut_once_for_all_that_were_sent_before() -> None:
    window = Window(100, start=100)
    sent = window.epoch
    for _ in range(60):
        window.refused(sent)
    assert window.size == 70


def test_it_recovers_after_a_cut() -> None:
    window = Window(100, start=100)
    for _ in range(15):
        window.refused(window.epoch)
    assert window.size == 70
    for _ in range(3000):
        window.succeeded(window.epoch)
    assert window.size == 100


def test_noise_is_tolerated() -> None:
    window, draw = Window(256, start=256), random.Random(0)
    sizes = []
    for _ in range(20_000):
        (window.refused if draw.random() < 0.08 else window.succeeded)(window.epoch)
        sizes.append(window.size)
    assert sum(sizes) / len(sizes) > 200


@pytest.mark.parametrize("capacity", [8, 50, 300])
def test_it_settles_at_the_servers_capacity(capacity: int) -> None:
    """A server that refuses what is above its capacity, in rounds of one window each."""
    window, sizes = Window(1024, start=64), []
    for _ in range(400):
        epoch, size = window.epoch, window.size
        for i in range(size):
            (window.succeeded if i < capacity else window.refused)(epoch)
        sizes.append(window.size)
    late = sizes[200:]
    assert 0.5 * capacity <= sum(late) / len(late) <= 1.4 * capacity


def test_at_the_floor_it_says_so() -> None:
    window = Window(4, start=4)
    answers = [window.refused(window.epoch) for _ in range(40)]
    assert window.size == 1
    assert answers[-1] or answers[-2] or answers[-3]


def test_rate_limit_keeps_every_minute() -> None:
    now = [0.0]
    rate = RateLimit(120, clock=lambda: now[0])
    sent: list[float] = []
    while now[0] < 300:
        wait = rate.wait()
        if wait:
            now[0] += wait
        else:
            rate.take(1)
            sent.append(now[0])
    busiest = max(sum(t <= s < t + 60 for s in sent) for t in sent)
    assert busiest <= 120
    assert len(sent) >= 0.97 * 120 * 5


def test_rate_limit_goes_into_debt_for_one_large_request() -> None:
    now = [0.0]
    rate = RateLimit(600, clock=lambda: now[0])
    assert rate.wait() == 0.0
    rate.take(310)
    assert rate.wait() == pytest.approx(30, rel=0.1)
    rate.take(-300)  # it turned out far smaller
    assert rate.wait() < 1


def test_dollars_in_flight_count() -> None:
    dollars = DollarLimit(1.0, spent=0.25)
    assert dollars.fits(0.75)
    dollars.reserve(0.5)
    assert not dollars.fits(0.5)
    dollars.settle(0.5, 0.125)
    assert dollars.fits(0.5)
    assert (dollars.spent, dollars.reserved) == (0.375, 0.0)


def test_backoff_grows_and_is_jittered() -> None:
    assert backoff(1, None, lambda low, high: high) == 1.0
    assert backoff(4, None, lambda low, high: high) == 8.0
    assert backoff(30, None, lambda low, high: high) == 60.0
    assert backoff(4, None, lambda low, high: low) == 0.0


def test_backoff_never_comes_before_retry_after() -> None:
    assert backoff(1, 7.0, lambda low, high: low) == 7.0
    assert 7.0 < backoff(1, 7.0, lambda low, high: high) <= 9.0
