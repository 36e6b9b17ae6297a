"""Jinja for what people wrote: messages and file names. Sandboxed; an unknown name is an error."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

EMAIL_FOLDER = Path(__file__).resolve().parents[2] / "include" / "email"


class TemplateRefusedError(ValueError):
    """A template cannot be rendered; the message says which, and why."""


def localtime(moment: str | datetime | None, time_zone: str = "UTC") -> str:
    """Write a moment as a person in a time zone reads it, like ``2026-11-01 10:00 CET``.

    :param moment: ISO 8601 with an offset, or a datetime that knows its zone; None gives an empty text.
    :param time_zone: a name of the tz database; one that is not in it gives UTC.
    """
    if not moment:
        return ""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        # PostgreSQL takes names that Python does not (europe/paris): the mail matters more than its clock.
        zone = ZoneInfo("UTC")
    return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M %Z")


def grouped(number: int | None) -> str:
    """Write a count with its thousands apart, like ``23 570``, with spaces that do not break."""
    return "" if number is None else f"{number:,}".replace(",", "\N{NO-BREAK SPACE}")


def file_size(byte_count: int | None) -> str:
    """Write a number of bytes as people read it, like ``1.4 MB`` (powers of 1000)."""
    if byte_count is None:
        return ""
    if byte_count < 1000:
        return f"{byte_count} bytes"
    size = float(byte_count)
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 999.95 or unit == "TB":
            break
    return f"{size:.1f} {unit}"


class BoundedSandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, without the operators that make a huge value from a short text."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Calculate with numbers only, and with no power."""
        if operator == "**" or not all(isinstance(value, int | float | Decimal) for value in (left, right)):
            raise SecurityError(f"{operator} is for numbers only, and ** for nothing, in a template")
        return super().call_binop(context, operator, left, right)


@cache
def environment(*, autoescape: bool) -> BoundedSandbox:
    """Return the sandbox: no attribute that starts with an underscore, nothing that changes a value.

    :param autoescape: True for HTML.
    """
    sandbox = BoundedSandbox(
        loader=FileSystemLoader(EMAIL_FOLDER),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    sandbox.filters |= {"localtime": localtime, "grouped": grouped, "file_size": file_size}
    return sandbox


def render_text(template: str, variables: dict[str, Any], *, name: str, autoescape: bool = False) -> str:
    """Render a template that somebody typed.

    :param template: its text.
    :param variables: what it may use.
    :param name: how the template is called in an error.
    :raises TemplateRefusedError: when it is wrong, uses what is not there, or leaves the sandbox.
    """
    try:
        return environment(autoescape=autoescape).from_string(template).render(variables)
    except Exception as error:
        # A template is a program of somebody else: whatever it raises is its own fault, and only its.
        raise TemplateRefusedError(f"{name}: {str(error) or type(error).__name__}") from error


def render_file(file_name: str, variables: dict[str, Any]) -> str:
    """Render a template of ``include/email``; one whose name ends in ``.html.j2`` is escaped as HTML.

    :raises TemplateRefusedError: when it does not exist or cannot be rendered.
    """
    try:
        template = environment(autoescape=file_name.endswith(".html.j2")).get_template(file_name)
        return template.render(variables)
    except Exception as error:
        raise TemplateRefusedError(f"include/email/{file_name}: {str(error) or type(error).__name__}") from error
