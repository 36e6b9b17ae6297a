"""Load the sample: customers, purchases and the campaign 'Loyalty'.

    bin/env python include/samples/load.py

Reads `CAMPAIGN_DSN` (a libpq URL of a migrated campaign database) from the environment. Everything goes
in with one transaction, and only what is not there yet: a second load changes nothing, and what a
person edited since the first stays as edited.

- `cdnow/CDNOW_master.txt`: one recipient per customer, and all purchases (origin: `cdnow/README.md`).
- `names.json`: the words from which names and addresses are made; the file above has none.
- `loyalty/*.sql`: the campaign around them, in the order of the file names.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import psycopg

HERE = Path(__file__).resolve().parent
PURCHASES_FILE = HERE / "cdnow" / "CDNOW_master.txt"

# What must hold of each column of the file, as it stands there.
COLUMN_RULES = {
    "customer_id": (r"\d{5}", "five digits"),
    "purchased_on": (r"\d{8}", "a date as YYYYMMDD"),
    "quantity": (r"[1-9]\d{0,5}", "a whole number from 1"),
    "amount": (r"\d{1,12}\.\d{2}", "an amount with two decimals"),
}

# Shares of the customers, per mille. Chosen so that each kind is present in a target of some thousands.
WITHOUT_STREET = 15
WITHOUT_POSTAL_CODE = 10
WITHOUT_CITY = 5
REGISTERED_TWICE = 40
WITHOUT_EMAIL = 40
WITH_PHONE = 600
WITH_PUSH_TOKEN = 100
OPTED_OUT = {"direct_mail": 30, "email": 80, "sms": 150, "push": 50}

# A customer who registered again did so within this many customer numbers: the numbers follow the day
# of the first purchase.
REGISTERED_AGAIN_WITHIN = 50

# Spent in all, in US cents, from which a customer is in the tier.
TIERS = ((300_00, "gold"), (75_00, "silver"), (0, "bronze"))

# Letters that Unicode does not take apart into a base letter and a mark, and umlauts as Germans write them.
FOLDED = str.maketrans({"ß": "ss", "ł": "l", "œ": "oe", "\u0131": "i", "ä": "ae", "ö": "oe", "ü": "ue"})


class SampleError(Exception):
    """The sample cannot be loaded; the message says what is wrong and where."""


class Recipient(NamedTuple):
    """One row of campaign.recipient, in the order in which `cdnow/stage.sql` names the columns."""

    internal_name: str
    email: str | None
    phone: str | None
    push_token: str | None
    first_name: str
    last_name: str
    address1: str | None
    address2: str | None
    postal_code: str | None
    city: str | None
    country: str
    language: str
    opt_out_direct_mail: bool
    opt_out_email: bool
    opt_out_sms: bool
    opt_out_push: bool
    attributes: str


def read_purchases(path: Path = PURCHASES_FILE) -> pd.DataFrame:
    """Return the purchases of the file, one row per line, checked.

    Columns: `customer_id` (text), `purchased_on` (datetime64, a day), `quantity` (int, CDs), `amount`
    (text, US dollars as written: it goes into a numeric column and must not pass through a float) and
    `cents` (int, the same amount in US cents).
    """
    try:
        purchases = pd.read_csv(
            path, sep=r"\s+", header=0, names=list(COLUMN_RULES), dtype=str, skip_blank_lines=False
        ).fillna("")
    except FileNotFoundError:
        raise SampleError(f"{path} is missing") from None
    except ValueError as error:  # pandas' parser errors are ValueErrors and name the line
        raise SampleError(f"{path} cannot be read: {error}") from None

    for column, (pattern, meaning) in COLUMN_RULES.items():
        _refuse(path, purchases[column], ~purchases[column].str.fullmatch(pattern), column, meaning)
    days = pd.to_datetime(purchases["purchased_on"], format="%Y%m%d", errors="coerce")
    _refuse(path, purchases["purchased_on"], days.isna(), "purchased_on", "a day of the calendar")

    purchases["purchased_on"] = days
    purchases["quantity"] = purchases["quantity"].astype("int64")
    purchases["cents"] = purchases["amount"].str.replace(".", "", regex=False).astype("int64")
    return purchases


def _refuse(path: Path, values: pd.Series[Any], wrong: pd.Series[bool], column: str, meaning: str) -> None:
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise SampleError(
            f"{path}, line {row + 2}: {column} is {values.iloc[row]!r}, it must be {meaning}"
            f" ({int(wrong.sum())} lines like this)"
        )


def generate_recipients(purchases: pd.DataFrame) -> Iterator[Recipient]:
    """Yield one invented recipient per customer, in order of the customer number.

    The same customer is the same person wherever and whenever this runs: each choice is drawn from a hash
    of the customer number, not from a random generator. Cohort (month of the first purchase) and
    tier (by what was spent) are the only facts taken from the purchases.
    """
    customers = purchases.groupby("customer_id", sort=True).agg(
        first_on=("purchased_on", "min"), cents=("cents", "sum")
    )
    for customer_id, first_on, cents in customers.itertuples(name=None):
        tier = next(name for least, name in TIERS if cents >= least)
        yield _recipient(customer_id, {"cohort": first_on.strftime("%Y-%m"), "tier": tier})


def _recipient(customer_id: str, attributes: dict[str, str]) -> Recipient:
    person = _person(_registered_first(customer_id))
    country = _countries()[person["country"]]
    incomplete = _draw(customer_id, "incomplete", 1000)
    without_postal_code = WITHOUT_STREET + WITHOUT_POSTAL_CODE
    without_city = without_postal_code + WITHOUT_CITY
    return Recipient(
        internal_name=f"cdnow-{customer_id}",
        email=None if _happens(customer_id, "email", WITHOUT_EMAIL) else _email(customer_id, person),
        phone=_phone(customer_id, country) if _happens(customer_id, "phone", WITH_PHONE) else None,
        push_token=(
            hashlib.sha256(f"push:{customer_id}".encode()).hexdigest()
            if _happens(customer_id, "push token", WITH_PUSH_TOKEN)
            else None
        ),
        first_name=person["first_name"],
        last_name=person["last_name"],
        address1=None if incomplete < WITHOUT_STREET else person["address1"],
        address2=person["address2"],
        postal_code=None if WITHOUT_STREET <= incomplete < without_postal_code else person["postal_code"],
        city=None if without_postal_code <= incomplete < without_city else person["city"],
        country=person["country"],
        language=country["language"],
        opt_out_direct_mail=_happens(customer_id, "opt-out direct mail", OPTED_OUT["direct_mail"]),
        opt_out_email=_happens(customer_id, "opt-out email", OPTED_OUT["email"]),
        opt_out_sms=_happens(customer_id, "opt-out sms", OPTED_OUT["sms"]),
        opt_out_push=_happens(customer_id, "opt-out push", OPTED_OUT["push"]),
        attributes=json.dumps(attributes, sort_keys=True),
    )


def _draw(customer_id: str, purpose: str, below: int) -> int:
    """Return a number from 0 to below - 1 that depends on the customer and the purpose alone."""
    digest = hashlib.sha256(f"{customer_id}:{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % below


def _happens(customer_id: str, purpose: str, per_mille: int) -> bool:
    return _draw(customer_id, purpose, 1000) < per_mille


def _registered_first(customer_id: str) -> str:
    """Return the number under which this person registered first: usually the number itself.

    Some people are customers twice, with the same name and address. That is what deduplication is for.
    """
    number = int(customer_id)
    if number <= REGISTERED_AGAIN_WITHIN or not _happens(customer_id, "twice", REGISTERED_TWICE):
        return customer_id
    earlier = number - 1 - _draw(customer_id, "twice of", REGISTERED_AGAIN_WITHIN)
    return _registered_first(f"{earlier:05d}")


@cache
def _countries() -> dict[str, dict[str, Any]]:
    countries: dict[str, dict[str, Any]] = json.loads((HERE / "names.json").read_text(encoding="utf-8"))
    return countries


@cache
def _country_codes() -> list[str]:
    """Return each country code as often as its share in percent says."""
    return [code for code, country in _countries().items() for _ in range(country["share"])]


def _person(customer_id: str) -> dict[str, Any]:
    """Return the name and the complete postal address of a customer."""

    def choose(purpose: str, options: list[Any]) -> Any:
        return options[_draw(customer_id, purpose, len(options))]

    code = choose("country", _country_codes())
    country = _countries()[code]
    city, postal_pattern = choose("city", country["cities"])
    address2 = None
    if _happens(customer_id, "address2", 200):
        address2 = choose("address2 form", country["address2"]).format(
            unit=1 + _draw(customer_id, "unit", 40), floor=1 + _draw(customer_id, "floor", 5)
        )
    return {
        "country": code,
        "first_name": choose("first name", country["first_names"]),
        "last_name": choose("last name", country["last_names"]),
        "address1": country["address1"].format(
            number=1 + _draw(customer_id, "house number", 249), street=choose("street", country["streets"])
        ),
        "address2": address2,
        "postal_code": _fill(customer_id, postal_pattern),
        "city": city,
    }


def _fill(customer_id: str, pattern: str) -> str:
    """Return the postal code with a digit for each '#' and a letter for each '@'."""
    letters = "ABDEFGHJLNPQRSTUWXYZ"  # those that end a British postal code
    return "".join(
        str(_draw(customer_id, f"digit {place}", 10))
        if sign == "#"
        else letters[_draw(customer_id, f"letter {place}", len(letters))]
        if sign == "@"
        else sign
        for place, sign in enumerate(pattern)
    )


def _email(customer_id: str, person: dict[str, Any]) -> str:
    """Return an address in a domain that is reserved for examples (RFC 2606): no mail can arrive."""
    name = f"{person['first_name']}.{person['last_name']}".lower().translate(FOLDED)
    bare = "".join(letter for letter in unicodedata.normalize("NFKD", name) if letter.isascii())
    local = "".join(letter if letter.isalnum() or letter in ".-" else "" for letter in bare)
    domain = ("example.com", "example.net", "example.org", "mail.example")[_draw(customer_id, "domain", 4)]
    return f"{local}.{int(customer_id)}@{domain}"


def _phone(customer_id: str, country: dict[str, Any]) -> str | None:
    """Return a number from a range that the country keeps free for fiction, None if it has none."""
    pattern: str | None = country["phone"]
    if pattern is None:
        return None
    low, high = country["phone_from"], country["phone_to"]
    return pattern.format(low + _draw(customer_id, "phone number", high - low + 1))


def load(connection: psycopg.Connection[Any]) -> dict[str, tuple[int, int]]:
    """Put the sample into the database of the connection; the caller commits.

    Returns for each part of the sample how many rows it has and how many of them were new. (For an SQL
    file only the new ones are known: both numbers are these.)
    """
    purchases = read_purchases()
    recipients = list(generate_recipients(purchases))
    counts: dict[str, tuple[int, int]] = {}
    with connection.cursor() as cursor:
        _run_file(cursor, HERE / "cdnow" / "stage.sql")
        with cursor.copy("COPY sample_recipient FROM STDIN") as copy:
            for recipient in recipients:
                copy.write_row(recipient)
        with cursor.copy("COPY sample_purchase FROM STDIN") as copy:
            for line in purchases[["customer_id", "purchased_on", "quantity", "amount"]].itertuples():
                number, customer_id, purchased_on, quantity, amount = line
                copy.write_row((number, f"cdnow-{customer_id}", purchased_on.date(), quantity, amount))
        counts["recipients"] = (
            len(recipients),
            _run_file(cursor, HERE / "cdnow" / "insert_recipients.sql"),
        )
        counts["purchases"] = (len(purchases), _run_file(cursor, HERE / "cdnow" / "insert_purchases.sql"))
        for path in sorted((HERE / "loyalty").glob("*.sql")):
            inserted = _run_file(cursor, path)
            counts[f"loyalty/{path.name}"] = (inserted, inserted)
    return counts


def _run_file(cursor: psycopg.Cursor[Any], path: Path) -> int:
    """Run the statements of a file and return how many rows they inserted."""
    try:
        # As bytes: psycopg takes no other text than a literal for trusted, and these files are ours.
        cursor.execute(path.read_bytes())
    except psycopg.Error as error:
        raise SampleError(f"{path.relative_to(HERE)}: {plain_message(error)}") from error
    inserted = 0
    while True:
        if (cursor.statusmessage or "").startswith("INSERT"):
            inserted += cursor.rowcount
        if not cursor.nextset():
            return inserted


def plain_message(error: psycopg.Error) -> str:
    """Return what the database said, without the SQL around it."""
    if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.InvalidSchemaName):
        return f"{error.diag.message_primary}; is the campaign schema migrated in this database?"
    said = (error.diag.message_primary, error.diag.message_detail, error.diag.message_hint)
    return "; ".join(part for part in said if part) or str(error).strip()


def main() -> int:
    """Load the sample, print what it did, return the exit code."""
    dsn = os.environ.get("CAMPAIGN_DSN")
    if not dsn:
        print("CAMPAIGN_DSN is not set. Run: bin/env python include/samples/load.py", file=sys.stderr)
        return 2
    try:
        with psycopg.connect(dsn, application_name="samples.load") as connection:
            counts = load(connection)
    except SampleError as error:
        print(f"The sample was not loaded: {error}", file=sys.stderr)
        return 1
    except psycopg.Error as error:
        print(f"The sample was not loaded: {plain_message(error)}", file=sys.stderr)
        return 1

    for part, (total, inserted) in counts.items():
        of_all = "" if part.endswith(".sql") else f" of {total:,}"
        print(f"{part:<36} {inserted:>7,}{of_all} new")
    if not any(inserted for _, inserted in counts.values()):
        print("Everything was there already: nothing has changed.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
