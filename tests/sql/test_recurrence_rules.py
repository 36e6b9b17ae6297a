"""Recurrence rules: published schedules, clocks that change, and dateutil as the oracle."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock
from zoneinfo import ZoneInfo

import psycopg
import pytest
from dateutil.rrule import rrulestr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.factories import Factory

FOREVER = datetime(2040, 1, 1, tzinfo=UTC)
LONG_AGO = datetime(1990, 1, 1, tzinfo=UTC)


def starts(
    db: psycopg.Connection[Any], rule: str, zone: str, first: datetime, after: datetime = LONG_AGO,
    until: datetime = FOREVER,
) -> list[datetime]:  # fmt: skip
    """Return the starts of a rule, as the database makes them."""
    query = "SELECT campaign.recurrence_starts(%s, %s, %s, %s, %s)"
    return [at for (at,) in db.execute(query, [rule, zone, first, after, until])]


def local(moments: list[datetime], zone: str) -> list[str]:
    return [moment.astimezone(ZoneInfo(zone)).strftime("%a %Y-%m-%d %H:%M %Z") for moment in moments]


def oracle(rule: str, zone: str, first: datetime, after: datetime, until: datetime) -> list[datetime]:
    """Return the starts of a rule by dateutil, which counts in local time without a zone."""
    naive = first.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    # dateutil looks for a start that never comes until the last year that there is.
    end = until.astimezone(ZoneInfo(zone)).replace(tzinfo=None) + timedelta(days=2)
    endless, _, count = rule.partition(";COUNT=")
    try:
        with mock.patch("datetime.MAXYEAR", end.year + 1):
            found = list(rrulestr(endless, dtstart=naive).replace(until=end))[: int(count) if count else None]
    except ValueError as error:
        # dateutil refuses an hour that the interval never comes to; the RFC: there is no such start.
        if "generates an empty set" not in str(error):
            raise
        return []
    # Python's fold=0 is what the RFC says: the offset before a gap, the first of two.
    moments = {moment.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC) for moment in found}
    return sorted(moment for moment in moments if after < moment <= until)


@pytest.mark.parametrize(
    ("rule", "first", "expected"),
    [
        # The reference's examples of an execution schedule: daily, weekly, the last Friday, the first working day.
        ("FREQ=DAILY;INTERVAL=2;COUNT=3", "2026-11-02T09:00", ["2026-11-02", "2026-11-04", "2026-11-06"]),
        ("FREQ=WEEKLY;BYDAY=MO,TH;COUNT=4", "2026-11-02T09:00",
         ["2026-11-02", "2026-11-05", "2026-11-09", "2026-11-12"]),
        ("FREQ=MONTHLY;BYDAY=-1FR;COUNT=3", "2026-11-02T09:00", ["2026-11-27", "2026-12-25", "2027-01-29"]),
        ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=1;COUNT=3", "2026-11-01T09:00",
         ["2026-11-02", "2026-12-01", "2027-01-01"]),
        ("FREQ=MONTHLY;BYMONTHDAY=31;COUNT=3", "2026-10-31T09:00", ["2026-10-31", "2026-12-31", "2027-01-31"]),
        ("FREQ=MONTHLY;BYMONTHDAY=-1;COUNT=3", "2026-11-01T09:00", ["2026-11-30", "2026-12-31", "2027-01-31"]),
        ("FREQ=YEARLY;COUNT=2", "2024-02-29T09:00", ["2024-02-29", "2028-02-29"]),
        # RFC 5545, 3.8.5.3.
        ("FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8;COUNT=3", "1996-11-05T09:00",
         ["1996-11-05", "2000-11-07", "2004-11-02"]),
        ("FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3", "1997-09-04T09:00",
         ["1997-09-04", "1997-10-07", "1997-11-06"]),
        ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2;COUNT=3", "1997-09-29T09:00",
         ["1997-09-29", "1997-10-30", "1997-11-27"]),
        ("FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO", "1997-08-05T09:00",
         ["1997-08-05", "1997-08-10", "1997-08-19", "1997-08-24"]),
        ("FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU", "1997-08-05T09:00",
         ["1997-08-05", "1997-08-17", "1997-08-19", "1997-08-31"]),
        ("FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO;COUNT=3", "1997-05-12T09:00", ["1997-05-12", "1998-05-11", "1999-05-17"]),
        ("FREQ=YEARLY;INTERVAL=3;COUNT=4;BYYEARDAY=1,100,200", "1997-01-01T09:00",
         ["1997-01-01", "1997-04-10", "1997-07-19", "2000-01-01"]),
        # A plain and a numbered day together: either.
        ("FREQ=MONTHLY;BYDAY=1MO,FR;COUNT=4", "2026-11-01T09:00",
         ["2026-11-02", "2026-11-06", "2026-11-13", "2026-11-20"]),
    ],
)  # fmt: skip
def test_published_schedules(db: psycopg.Connection[Any], rule: str, first: str, expected: list[str]) -> None:
    made = starts(
        db, rule, "America/New_York", datetime.fromisoformat(first).replace(tzinfo=ZoneInfo("America/New_York"))
    )
    at_nine = [datetime.fromisoformat(f"{day}T09:00").replace(tzinfo=ZoneInfo("America/New_York")) for day in expected]
    assert made == at_nine


@pytest.mark.parametrize(
    ("zone", "first", "expected"),
    [
        (
            "Europe/Paris", "2026-03-28T01:30Z",
            ["Sat 2026-03-28 02:30 CET", "Sun 2026-03-29 03:30 CEST", "Mon 2026-03-30 02:30 CEST"],
        ),
        (
            "Europe/Paris", "2026-10-24T00:30Z",
            ["Sat 2026-10-24 02:30 CEST", "Sun 2026-10-25 02:30 CEST", "Mon 2026-10-26 02:30 CET"],
        ),
        (
            "America/New_York", "2026-03-07T07:30Z",
            ["Sat 2026-03-07 02:30 EST", "Sun 2026-03-08 03:30 EDT", "Mon 2026-03-09 02:30 EDT"],
        ),
        (
            "America/New_York", "2026-10-31T05:30Z",
            ["Sat 2026-10-31 01:30 EDT", "Sun 2026-11-01 01:30 EDT", "Mon 2026-11-02 01:30 EST"],
        ),
        # Clocks that change by half an hour.
        (
            "Australia/Lord_Howe", "2026-10-02T15:40Z",
            ["Sat 2026-10-03 02:10 +1030", "Sun 2026-10-04 02:40 +11", "Mon 2026-10-05 02:10 +11"],
        ),
    ],
)  # fmt: skip
def test_time_of_day_holds_across_changes_of_the_clock(
    db: psycopg.Connection[Any], zone: str, first: str, expected: list[str]
) -> None:
    made = starts(db, "FREQ=DAILY;COUNT=3", zone, datetime.fromisoformat(first))
    assert local(made, zone) == expected


def test_a_day_as_until_is_meant_whole(db: psycopg.Connection[Any]) -> None:
    first = datetime(2026, 11, 2, 9, 0, tzinfo=ZoneInfo("Europe/Paris"))
    for until, count in (
        ("20261104", 3), ("20261104T080000Z", 3), ("20261104T075959Z", 2), ("20261104T090000", 3),
    ):  # fmt: skip
        assert len(starts(db, f"FREQ=DAILY;UNTIL={until}", "Europe/Paris", first)) == count, until


@pytest.mark.parametrize(
    ("zone", "first", "until", "last"),
    [
        # Clocks go back: 02:30 comes at 00:30 UTC, and a quarter past two comes again after it.
        ("Europe/Berlin", "2026-10-24T00:30Z", "20261025T011500Z", "2026-10-25T00:30Z"),
        ("Europe/Berlin", "2026-10-24T00:30Z", "20261025T003000Z", "2026-10-25T00:30Z"),
        ("Europe/Berlin", "2026-10-24T00:30Z", "20261025T002959Z", "2026-10-24T00:30Z"),
        ("America/New_York", "2026-10-31T05:30Z", "20261101T060000Z", "2026-11-01T05:30Z"),
        ("Australia/Lord_Howe", "2026-04-03T14:45Z", "20260404T150000Z", "2026-04-04T14:45Z"),
        # Clocks go forward: 02:30 does not exist, and comes as 03:30.
        ("Europe/Berlin", "2026-03-28T01:30Z", "20260329T010000Z", "2026-03-28T01:30Z"),
        ("Europe/Berlin", "2026-03-28T01:30Z", "20260329T013000Z", "2026-03-29T01:30Z"),
    ],
)
def test_until_in_utc_is_a_moment_whatever_clocks_show(
    db: psycopg.Connection[Any], zone: str, first: str, until: str, last: str
) -> None:
    made = starts(db, f"FREQ=DAILY;UNTIL={until}", zone, datetime.fromisoformat(first))
    assert made[-1] == datetime.fromisoformat(last)
    assert made == starts(db, f"FREQ=DAILY;COUNT={len(made)}", zone, datetime.fromisoformat(first))


def test_first_start_in_the_second_of_two_hours_is_itself(db: psycopg.Connection[Any]) -> None:
    first = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    assert starts(db, "FREQ=DAILY;COUNT=1", "Europe/Paris", first) == [first]


numbers = st.integers
weekday = st.sampled_from(["MO", "TU", "WE", "TH", "FR", "SA", "SU"])


def some(values: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[str]:
    return st.lists(values, min_size=1, max_size=most, unique=True).map(lambda found: ",".join(map(str, found)))


def signed(most: int) -> st.SearchStrategy[int]:
    return numbers(-most, most).filter(bool)


@st.composite
def rules(draw: st.DrawFn) -> str:
    """A rule as people may enter it; what dateutil reads otherwise than the RFC is left out (see the comments)."""
    freq = draw(st.sampled_from(["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY"]))
    parts = {"FREQ": freq, "INTERVAL": draw(numbers(1, 4))}

    def maybe(name: str, values: st.SearchStrategy[Any]) -> None:
        if draw(st.booleans()):
            parts[name] = draw(values)

    maybe("BYMONTH", some(numbers(1, 12), 6))
    if freq == "YEARLY":
        maybe("BYWEEKNO", some(signed(53)))
    if freq in ("YEARLY", "HOURLY"):
        maybe("BYYEARDAY", some(signed(366)))
    if freq != "WEEKLY":
        maybe("BYMONTHDAY", some(signed(31), 5))
    # dateutil demands that a day is both where plain and numbered days stand together; the RFC: either.
    numbered = freq in ("YEARLY", "MONTHLY") and "BYWEEKNO" not in parts and draw(st.booleans())
    numbered_day = st.tuples(signed(5), weekday).map(lambda pair: f"{pair[0]}{pair[1]}")
    maybe("BYDAY", some(numbered_day if numbered else weekday, 5))
    maybe("BYHOUR", some(numbers(0, 23)))
    maybe("BYMINUTE", some(numbers(0, 59), 2))
    maybe("WKST", weekday)
    # dateutil counts positions in the first week from the first start on, not from the start of the week.
    if freq != "WEEKLY" and set(parts) & {"BYMONTH", "BYWEEKNO", "BYMONTHDAY", "BYDAY", "BYHOUR", "BYMINUTE"}:
        maybe("BYSETPOS", some(signed(4)))
    maybe("COUNT", numbers(1, 40))
    return ";".join(f"{name}={value}" for name, value in parts.items())


zones = st.sampled_from(["UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"])
moments = numbers(0, 7 * 366 * 24 * 60).map(
    lambda minutes: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(rule=rules(), zone=zones, first=moments, wait=numbers(-200, 500), length=numbers(0, 400))
def test_rules_make_what_dateutil_makes(
    db: psycopg.Connection[Any], rule: str, zone: str, first: datetime, wait: int, length: int
) -> None:
    first = first.astimezone(ZoneInfo(zone)).replace(fold=0).astimezone(UTC)
    if "HOURLY" in rule:
        wait, length = wait % 60, length % 40
    after = first + timedelta(days=wait, seconds=-1)
    until = after + timedelta(days=length)
    assert db.execute("SELECT campaign.recurrence_problem(%s)", [rule]).fetchone() == (None,)
    assert starts(db, rule, zone, first, after, until) == oracle(rule, zone, first, after, until)


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ("FREQ=FORTNIGHTLY", "FREQ must be YEARLY, MONTHLY, WEEKLY, DAILY, HOURLY or MINUTELY, not 'FORTNIGHTLY'."),
        ("INTERVAL=2", "it has no FREQ"),
        ("FREQ=DAILY;INTERVAL=0", "INTERVAL must be a number from 1, not '0'."),
        ("FREQ=DAILY;EVERY=2", "'EVERY=2' is no part of a rule."),
        ("FREQ=DAILY;COUNT", "'COUNT' is no part of a rule."),
        ("FREQ=DAILY;FREQ=WEEKLY", "FREQ stands twice."),
        ("FREQ=WEEKLY;BYDAY=XX", "BYDAY must be days like MO,FR"),
        ("FREQ=WEEKLY;BYDAY=1MO", "a numbered day like 1MO goes with FREQ=MONTHLY"),
        ("FREQ=DAILY;BYHOUR=24", "BYHOUR must be hours like 9,17, not '24'."),
        ("FREQ=DAILY;COUNT=3;UNTIL=20261231", "it has both COUNT and UNTIL"),
        ("FREQ=DAILY;UNTIL=20260230", "UNTIL is a day that does not exist."),
        ("FREQ=DAILY;UNTIL=20270229", "UNTIL is a day that does not exist."),
        ("FREQ=DAILY;UNTIL=tomorrow", "UNTIL must be a day like 20271231"),
        ("FREQ=MONTHLY;BYWEEKNO=3", "BYWEEKNO goes with FREQ=YEARLY only."),
        ("FREQ=MONTHLY;BYYEARDAY=3", "BYYEARDAY does not go with"),
        ("FREQ=WEEKLY;BYMONTHDAY=3", "BYMONTHDAY does not go with FREQ=WEEKLY."),
        ("FREQ=MONTHLY;BYSETPOS=1", "BYSETPOS chooses among the starts of another BY part"),
        ("FREQ=SECONDLY", "it counts by the second."),
        ("FREQ=DAILY;BYSECOND=0,1", "BYSECOND must be one second"),
        ("FREQ=MINUTELY", "it makes more than 288 lines a day"),
        ("FREQ=MINUTELY;INTERVAL=4", "it makes more than 288 lines a day"),
        ("DTSTART:20261101T090000\nRRULE:FREQ=DAILY", "it holds more than a rule."),
    ],
)
def test_rule_that_cannot_be_used_is_refused_where_it_is_entered(
    db: psycopg.Connection[Any], factory: Factory, rule: str, problem: str
) -> None:
    (found,) = db.execute("SELECT campaign.recurrence_problem(%s)", [rule]).fetchone() or ()
    assert str(found).startswith(problem)
    with pytest.raises(psycopg.errors.CheckViolation) as refused:
        factory.campaign(label="Tea", kind="recurring", recurrence=rule)
    if "FREQ=" in rule and "FORTNIGHTLY" not in rule:
        assert str(refused.value).startswith(f"The recurrence of campaign 'Tea' cannot be used: {problem}")


@pytest.mark.parametrize(
    "rule", ["FREQ=MINUTELY;INTERVAL=5", "rrule:freq=weekly; byday=mo", "FREQ=DAILY;", "FREQ=DAILY;UNTIL=20280229"]
)
def test_rule_that_can_be_used_is_taken(db: psycopg.Connection[Any], factory: Factory, rule: str) -> None:
    assert db.execute("SELECT campaign.recurrence_problem(%s)", [rule]).fetchone() == (None,)
    factory.campaign(kind="recurring", recurrence=rule)
