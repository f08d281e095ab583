"""Cron expressions: when they match, what is said of wrong ones, and how times are put into words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from evalkit.errors import UserError
from evalkit.jobs.schedule import in_words, next_times, stamp

NOW = datetime(2026, 11, 22, 14, 30, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "times"),
    [
        ("0 2 * * *", ["2026-11-23T02:00", "2026-11-24T02:00", "2026-11-25T02:00"]),
        ("*/20 * * * *", ["2026-11-22T14:40", "2026-11-22T15:00", "2026-11-22T15:20"]),
        ("30 14 * * *", ["2026-11-23T14:30", "2026-11-24T14:30", "2026-11-25T14:30"]),
        ("0 9 * * 1-5", ["2026-11-23T09:00", "2026-11-24T09:00", "2026-11-25T09:00"]),
        ("0 9 * * 7", ["2026-11-29T09:00", "2026-12-06T09:00", "2026-12-13T09:00"]),
        ("15,45 3 1 * *", ["2026-12-01T03:15", "2026-12-01T03:45", "2027-01-01T03:15"]),
        ("0 0 29 2 *", ["2028-02-29T00:00", "2032-02-29T00:00"]),
    ],
)
def test_next_times(cron: str, times: list[str]) -> None:
    assert [f"{at:%Y-%m-%dT%H:%M}" for at in next_times(cron, NOW)] == times


def test_times_are_utc_whatever_zone_one_asks_from() -> None:
    there = NOW.astimezone(timezone(timedelta(hours=9)))
    assert next_times("0 2 * * *", there, 1) == [datetime(2026, 11, 23, 2, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        ("0 2 * *", "it has 4 parts"),
        ("", "it has 0 parts"),
        ("61 2 * * *", "61 is not a valid input"),
        ("0 2 * * mon", "mon is not a valid input"),
        ("*/0 * * * *", "minute, hour, day, month and weekday"),
        ("0 0 31 2 *", "matches no day"),
    ],
)
def test_a_wrong_expression_gets_a_sentence(cron: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        next_times(cron, NOW)
    assert repr(cron) in str(error.value)


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        (timedelta(seconds=20), "Sunday 22 November, 14:30 UTC, in less than a minute"),
        (timedelta(minutes=1), "Sunday 22 November, 14:31 UTC, in 1 minute"),
        (timedelta(hours=20), "Monday 23 November, 10:30 UTC, in 20 hours"),
        (timedelta(days=40), "Friday 1 January 2027, 14:30 UTC, in 40 days"),
    ],
)
def test_times_in_words(ahead: timedelta, said: str) -> None:
    assert in_words(NOW + ahead, NOW) == said


def test_a_stamp_is_the_ledgers_own_form() -> None:
    assert stamp(NOW) == "2026-11-22T14:30:20.000Z"
