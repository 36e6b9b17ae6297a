"""Marketing mail in the form of RFC 5322 and MIME, as SMTP transmits it.

The standard library's ``EmailMessage`` takes a millisecond a mail; these mails all have one form, so it is
written out here, and tests read every one back with the standard library.
"""

from __future__ import annotations

import binascii
import re
import time
from datetime import UTC, datetime
from email.header import Header
from email.utils import format_datetime, parseaddr
from functools import lru_cache

from campaign.mail import parse_address
from campaign.sending.content import Rendered

PLAIN_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@[A-Za-z0-9.-]+")
# RFC 5322: 78 characters a line should not be exceeded, 998 must not.
HEADER_LENGTH = 66
LINE_LENGTH = 998
LINE_END = re.compile(r"\r\n|\r|\n")


class MailForm:
    """The headers that all mails of a delivery share.

    :param sender: the From header, like ``Shop <shop@example.com>``.
    :raises ValueError: when that is no address.
    """

    def __init__(self, sender: str) -> None:
        name, address = parseaddr(sender)
        #: The envelope's sender: where a mail that cannot be delivered comes back to.
        self.sender_address = wire_address(address)
        self._domain = self.sender_address.rpartition("@")[2]
        shown = f"{_encoded(name, 'From')} <{self.sender_address}>" if name else self.sender_address
        self._from = f"From: {shown}\r\n"

    def message_id(self, key: str) -> str:
        """Return the Message-ID of a message: the same, however often it is made."""
        return f"<{key}@{self._domain}>"

    def write(self, address: str, key: str, parts: Rendered, unsubscribe_url: str | None) -> bytes:
        """Return a mail with its lines ended by CR LF and its dots stuffed, but without the last dot.

        :param address: of the recipient, in the form of the wire.
        """
        headers = [
            self._from,
            f"To: {address}\r\nSubject: {_encoded(parts.subject, 'Subject')}\r\nDate: {_date(int(time.time()))}\r\n"
            f"Message-ID: {self.message_id(key)}\r\n",
        ]
        if unsubscribe_url:
            headers.append(f"List-Unsubscribe: <{unsubscribe_url}>\r\n")
            if unsubscribe_url.startswith("https:"):
                headers.append("List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n")
        # Bulk mail that a machine sends: no holiday notice answers it (RFC 3834).
        headers.append("Precedence: bulk\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n")
        if parts.body_text is not None and parts.body_html is not None:
            body = (
                f'Content-Type: multipart/alternative; boundary="=_{key}"\r\n\r\n--=_{key}\r\n'
                f"{_part(parts.body_text, 'plain')}\r\n--=_{key}\r\n"
                f"{_part(parts.body_html, 'html')}\r\n--=_{key}--\r\n"
            )
        elif parts.body_html is not None:
            body = _part(parts.body_html, "html") + "\r\n"
        else:
            body = _part(parts.body_text or "", "plain") + "\r\n"
        return "".join([*headers, body]).encode("ascii").replace(b"\r\n.", b"\r\n..")


@lru_cache(maxsize=10_000)
def wire_address(address: str) -> str:
    """Return an address as SMTP without extensions takes it: a domain of other letters in its ASCII form.

    :raises ValueError: when it is no address, or can only be written to with SMTPUTF8.
    """
    if PLAIN_ADDRESS.fullmatch(address):
        return address
    parsed = parse_address(address.strip())
    if not parsed.username.isascii():
        raise ValueError(f"{address!r} needs a mail server that takes addresses in other letters (SMTPUTF8)")
    try:
        domain = parsed.domain.encode("idna").decode()
    except UnicodeError as error:
        raise ValueError(f"{address!r} is no address for mail: {error}") from error
    return (
        f"{parsed.username}@{domain}"
        if PLAIN_ADDRESS.fullmatch(f"{parsed.username}@{domain}")
        else _quoted(parsed.username, domain)
    )


def _quoted(username: str, domain: str) -> str:
    escaped = username.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"@{domain}'


def _encoded(text: str, header: str) -> str:
    """Return what a header says, in ASCII and folded."""
    is_plain = len(text) <= HEADER_LENGTH and text.isascii() and text.isprintable() and "=?" not in text
    # In a name, what is not a plain word would be read as something else.
    if is_plain and (header != "From" or re.fullmatch(r"[A-Za-z0-9 ]*", text)):
        return text
    return _encoded_words(text, header)


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return format_datetime(datetime.fromtimestamp(second, UTC))


@lru_cache(maxsize=1000)
def _encoded_words(text: str, header: str) -> str:
    return Header(text, "utf-8", header_name=header).encode(linesep="\r\n")


def _part(text: str, subtype: str) -> str:
    """Return a part, its headers included, with the encoding that keeps it readable and short."""
    text = LINE_END.sub("\r\n", text) if "\n" in text or "\r" in text else text
    head = f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: "
    if text.isascii() and "\0" not in text and max(map(len, text.split("\r\n"))) < LINE_LENGTH:
        return f"{head}7bit\r\n\r\n{text}"
    data = text.encode()
    if len(data) - len(text) > len(text) // 6:
        return f"{head}base64\r\n\r\n{_base64(data)}"
    return f"{head}quoted-printable\r\n\r\n{binascii.b2a_qp(data, istext=True).decode()}"


def _base64(data: bytes) -> str:
    encoded = binascii.b2a_base64(data, newline=False).decode()
    return "\r\n".join(encoded[start : start + 76] for start in range(0, len(encoded), 76))
