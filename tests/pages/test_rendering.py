"""How the pages write times, distances and amounts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from campaign.pages.rendering import distance, long_time, money

NOW = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("time_zone", "written"),
    [
        ("Europe/Paris", "Sun 1 Nov 2026, 10:30 CET"),
        ("America/New_York", "Sun 1 Nov 2026, 04:30 EST"),
        ("europe/paris", "Sun 1 Nov 2026, 09:30 UTC"),
    ],
)
def test_moment_is_written_in_the_zone_of_its_reader(time_zone: str, written: str) -> None:
    assert long_time(NOW, time_zone) == long_time(NOW.isoformat(), time_zone) == written


@pytest.mark.parametrize(
    ("gap", "written"),
    [
        (timedelta(seconds=20), "just now"),
        (timedelta(minutes=-1), "1 minute ago"),
        (timedelta(minutes=89), "in 89 minutes"),
        (timedelta(minutes=90), "in 2 hours"),
        (timedelta(hours=-35), "35 hours ago"),
        (timedelta(hours=36), "in 2 days"),
        (timedelta(days=70), "in 70 days"),
    ],
)
def test_distance_is_told_in_the_unit_that_says_most(gap: timedelta, written: str) -> None:
    assert distance(NOW + gap, NOW) == written


@pytest.mark.parametrize(
    ("amount", "written"),
    [
        (None, ""),
        ("0.00", "0.00"),
        ("-0.50", "\N{MINUS SIGN}0.50"),
        ("1234567.89", "1\N{NO-BREAK SPACE}234\N{NO-BREAK SPACE}567.89"),
        ("-12000", "\N{MINUS SIGN}12\N{NO-BREAK SPACE}000"),
    ],
)
def test_amount_has_its_thousands_apart(amount: str | None, written: str) -> None:
    assert money(amount) == written
