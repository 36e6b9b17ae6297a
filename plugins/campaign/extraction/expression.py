"""Column expressions of export formats: a small language, checked, turned into SQL.

::

    expression = term { "||" term }
    term       = 'a text' | source "." name | "recipient.attributes." name

In a text, a quote is written twice. In a chain, what is missing counts as empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from psycopg import sql

from campaign.extraction import ExtractionError

RECIPIENT_COLUMNS = (
    "id", "internal_name", "email", "phone", "push_token", "first_name", "last_name", "address1",
    "address2", "postal_code", "city", "country", "language",
)  # fmt: skip
FACTS = {
    "delivery": (
        "id",
        "internal_name",
        "label",
        "channel",
        "subject",
        "sender",
        "contact_date",
        "message_count",
    ),
    "campaign": ("internal_name", "label"),
    "service": ("internal_name", "label"),
    "provider": ("internal_name", "label", "email"),
    "outline": ("internal_name", "label", "description", "cost"),
}
MESSAGE_COLUMNS = ("key", "role")

_TOKEN = re.compile(r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<path>[a-z_][a-z0-9_]*(?:\.[A-Za-z0-9_-]+)+)|(?P<chain>\|\|))")


def compile_expression(expression: str, facts: Mapping[str, Mapping[str, Any]]) -> sql.Composable:
    """Turn a column expression into SQL on the tables ``recipient`` and ``target``.

    :param expression: as it stands in an export format.
    :param facts: what is the same in every row: per source its values.
    :raises ExtractionError: when it is not an expression, or names what there is not.
    """
    terms = [_compile_term(kind, token, facts) for kind, token in _terms(expression)]
    if len(terms) == 1:
        return terms[0]
    return sql.SQL(" || ").join(sql.SQL("coalesce({}, '')").format(term) for term in terms)


def _terms(expression: str) -> list[tuple[str, str]]:
    """Take an expression apart; texts and paths take turns with the chain sign."""
    terms: list[tuple[str, str]] = []
    position, expects_term = 0, True
    while position < len(expression.rstrip()):
        match = _TOKEN.match(expression, position)
        if match is None or (match.lastgroup == "chain") == expects_term:
            found = expression[position:].strip()[:40]
            wanted = "a 'text' or a name like recipient.last_name" if expects_term else "||"
            raise ExtractionError(f"the expression {expression!r} is wrong at {found!r}: {wanted} must stand there")
        if match.lastgroup != "chain":
            terms.append((str(match.lastgroup), match.group(str(match.lastgroup))))
        position, expects_term = match.end(), not expects_term
    if expects_term:
        raise ExtractionError(f"the expression {expression!r} is wrong at its end: something must stand there")
    return terms


def _compile_term(kind: str, token: str, facts: Mapping[str, Mapping[str, Any]]) -> sql.Composable:
    if kind == "text":
        return sql.Literal(token[1:-1].replace("''", "'"))
    source, _, name = token.partition(".")
    if source == "recipient":
        if name.startswith("attributes."):
            attribute = name.removeprefix("attributes.")
            return sql.SQL("(recipient.attributes ->> {})").format(sql.Literal(attribute))
        if name in RECIPIENT_COLUMNS:
            return sql.SQL("recipient.{}::text").format(sql.Identifier(name))
        raise _unknown(token, [*(f"recipient.{column}" for column in RECIPIENT_COLUMNS), "recipient.attributes.NAME"])
    if source == "message" and name in MESSAGE_COLUMNS:
        if name == "role":
            return sql.SQL("target.role")
        return sql.SQL("({} || '-' || target.recipient_id)").format(sql.Literal(str(facts["delivery"]["id"])))
    if name in FACTS.get(source, ()):
        value = facts[source].get(name)
        return sql.SQL("{}::text").format(sql.Literal(None if value is None else str(value)))
    known = [f"{known_source}.{column}" for known_source, columns in FACTS.items() for column in columns]
    raise _unknown(token, ["recipient.NAME", *known, *(f"message.{column}" for column in MESSAGE_COLUMNS)])


def _unknown(token: str, known: list[str]) -> ExtractionError:
    return ExtractionError(f"there is no {token}; there are {', '.join(known)}")
