"""Values that a person typed into the parameters of a targeting run, checked one by one."""

from __future__ import annotations

from datetime import date
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any

from campaign.targeting import TargetingParameterError


def names(key: str, value: Any) -> list[str]:
    """Check a list of internal names."""
    value = [] if value is None else value
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise TargetingParameterError(f"{key}: must be a list of internal names.")
    return [storable(key, name) for name in value]


def storable(key: str, value: Any) -> Any:
    """Check that the database can hold a value to compare with: no NUL, no half of a character, no NaN.

    :param value: a text, a number or a truth value.
    """
    if isinstance(value, str) and ("\0" in value or (not value.isascii() and _is_broken(value))):
        raise TargetingParameterError(f"{key}: {value!r} has characters that no text in the database has.")
    if isinstance(value, float) and not isfinite(value):
        raise TargetingParameterError(f"{key}: {value!r} is no number.")
    return value


def _is_broken(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def whole_number(key: str, value: Any) -> int:
    """Check a number of things: whole, not negative."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**62:
        raise TargetingParameterError(f"{key}: {value!r} must be a whole number, 0 or more.")
    return value


def decimal(key: str, value: Any) -> Decimal:
    """Check an amount or a share; text keeps its decimals, so "75.10" is better than 75.1."""
    try:
        number = Decimal(str(value)) if not isinstance(value, bool) else Decimal("NaN")
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or abs(number) >= 10**16:
        raise TargetingParameterError(f'{key}: {value!r} must be a number like "75.00".')
    return number


def day(key: str, value: Any) -> date:
    """Check a day, written as in ISO 8601."""
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise TargetingParameterError(f"{key}: {value!r} must be a day like 1998-01-01.") from None
