"""When jobs are due: cron expressions, in UTC."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

from evalkit.errors import UserError

YEARS = 9  # a 29th of February comes at least every eighth year
FIELDS = ("minute", "hour", "day", "month", "day_of_week")
Matches = Callable[[datetime], bool]


def next_times(cron: str, after: datetime, n: int = 3) -> list[datetime]:
    """Returns the next times that a cron expression matches.

    Args:
        cron: Minute, hour, day, month and weekday (0 is Sunday), all of which must match: `0 2 * * *` is every day
            at 02:00.
        after: With a time zone.

    Returns:
        UTC, to the minute, each after `after`.

    Raises:
        UserError: It is no cron expression, or matches no day.
    """
    day, minute = _read(cron)
    found = list(islice(_times(day, minute, after.astimezone(UTC)), n))
    if not found:
        raise UserError(f"schedule: {cron!r} matches no day of the next {YEARS} years", code=2)
    return found


def _times(day: Matches, minute: Matches, after: datetime) -> Iterator[datetime]:
    midnight = after.replace(hour=0, minute=0, second=0, microsecond=0)
    for days in range(YEARS * 366):
        start = midnight + timedelta(days=days)
        if day(start):
            for minutes in range(24 * 60):
                one = start + timedelta(minutes=minutes)
                if one > after and minute(one):
                    yield one


def _read(cron: str) -> tuple[Matches, Matches]:
    from huey import crontab

    parts = cron.split()
    why = f"it has {len(parts)} parts"
    try:
        if len(parts) == len(FIELDS):
            given = dict(zip(FIELDS, parts, strict=True))
            of_day = {name: given.pop(name) for name in FIELDS[2:]}
            return crontab(**of_day, strict=True), crontab(**given, strict=True)
    except ValueError as error:
        why = str(error)
    raise UserError(
        f"schedule: {cron!r} is not minute, hour, day, month and weekday, such as '0 2 * * *' for every day at 02:00 "
        f"UTC: {why}",
        code=2,
    )


def in_words(at: datetime, now: datetime) -> str:
    """Says when something is: Monday 23 November, 02:00 UTC, in 20 hours."""
    seconds = (at - now).total_seconds()
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            number = round(seconds / length)
            far = f"in {number} {unit}{'s' * (number > 1)}"
            break
    else:
        far = "now" if seconds <= 0 else "in less than a minute"
    year = "" if at.year == now.year else f" {at.year}"
    return f"{at:%A} {at.day} {at:%B}{year}, {at:%H:%M} UTC, {far}"


def stamp(at: datetime) -> str:
    """Returns a time as the ledger writes it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
