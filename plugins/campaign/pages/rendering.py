"""The templates of ``include/pages``, and how times and counts are written for a person."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from campaign.database import Row
from campaign.pages.words import CHANNELS, KINDS
from campaign.templating import file_size, grouped

PAGES_FOLDER = Path(__file__).resolve().parents[3] / "include" / "pages"
STATIC_FOLDER = PAGES_FOLDER / "static"


def as_moment(moment: str | datetime) -> datetime:
    """Return a moment; rows hold datetimes, and facts ISO 8601."""
    return datetime.fromisoformat(moment) if isinstance(moment, str) else moment


def long_time(moment: str | datetime, time_zone: str) -> str:
    """Write a moment as a person in a time zone reads it, like ``Thu 26 Nov 2026, 10:00 CET``."""
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        zone = ZoneInfo("UTC")
    local = as_moment(moment).astimezone(zone)
    return f"{local:%a} {local.day} {local:%b %Y, %H:%M %Z}"


def distance(moment: str | datetime, now: datetime) -> str:
    """Write how far off a moment is, like ``in 3 hours`` or ``2 days ago``."""
    gap = as_moment(moment) - now
    seconds = abs(gap.total_seconds())
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        count = round(seconds / length)
        # One and a half of a unit is told in the smaller one: 35 hours say more than 1 day.
        if seconds >= 1.5 * length or (unit == "minute" and count):
            text = f"{count} {unit}{'s' * (count != 1)}"
            break
    else:
        return "just now"
    return f"in {text}" if gap > timedelta(0) else f"{text} ago"


def money(amount: str | None) -> str:
    """Write an amount with its thousands apart, by spaces that do not break; the facts hold amounts as text."""
    if amount is None:
        return ""
    return f"{Decimal(amount):,}".replace(",", "\N{NO-BREAK SPACE}").replace("-", "\N{MINUS SIGN}")


@cache
def environment() -> Environment:
    """Return the environment of our own templates: everything that comes from outside is escaped."""
    pages = Environment(
        loader=FileSystemLoader(PAGES_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {
        "long_time": long_time,
        "as_moment": as_moment,
        "distance": distance,
        "grouped": grouped,
        "money": money,
        "file_size": file_size,
    }
    pages.globals |= {"kinds": KINDS, "channels": CHANNELS}
    # Browsers keep a static file for long, so its address changes when it does.
    pages.globals["static_version"] = hashlib.sha256(
        b"".join(path.read_bytes() for path in sorted(STATIC_FOLDER.iterdir()))
    ).hexdigest()[:12]
    return pages


def render(
    request: Request, template: str, *, reader: Row | None = None, status: int = 200, **values: Any
) -> HTMLResponse:
    """Return a page.

    :param reader: who reads it, if that is known.
    """
    text = (
        environment()
        .get_template(template)
        .render(
            root=request.scope.get("root_path", ""),
            # Within Airflow's UI the page is in a frame, and needs no heading of its own.
            is_embedded=request.headers.get("sec-fetch-dest") == "iframe",
            reader=reader,
            **values,
        )
    )
    return HTMLResponse(text, status_code=status)
