"""Mails of the house: made from a notification, handed to an SMTP server, and told apart by what it said."""

from __future__ import annotations

import smtplib
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Any

from campaign.run import pages_url
from campaign.templating import render_file, render_text

# What is said of the conversation, not of one mail: the server closes the channel (RFC 5321), or it wants
# other credentials or encryption than the connection has (RFC 4954).
LINE_CLOSED = 421
NO_MAIL_AT_ALL = {LINE_CLOSED, 530, 534, 535, 538}


class TemporaryRefusalError(RuntimeError):
    """The server did not take this mail now; it may later."""


class PermanentRefusalError(RuntimeError):
    """The server will never take this mail to this address."""


class MailServerAwayError(RuntimeError):
    """The server cannot be spoken to at all; no other mail would fare better."""


@dataclass(frozen=True, kw_only=True)
class RenderedMail:
    """The text of a mail: a one-line subject, plain text, and HTML."""

    subject: str
    body_text: str
    body_html: str | None


def render_mail(kind: str, facts: dict[str, Any], recipient: dict[str, Any], ui_url: str) -> RenderedMail:
    """Make a mail from its facts by the templates ``include/email/KIND.{subject,txt,html}.j2``.

    A fact called ``template`` is the text that a team typed for this mail: it replaces the plain text,
    and the mail has no HTML.

    :param recipient: ``label``, ``time_zone`` and ``language`` of who reads it.
    :raises TemplateRefusedError: when a template cannot be rendered.
    """
    variables = facts | {"recipient": recipient, "ui_url": ui_url, "pages_url": pages_url(ui_url)}
    subject = " ".join(render_file(f"{kind}.subject.j2", variables).split())
    if facts.get("template"):
        return RenderedMail(
            subject=subject,
            body_text=render_text(facts["template"], variables, name="notification_template of the service"),
            body_html=None,
        )
    return RenderedMail(
        subject=subject,
        body_text=render_file(f"{kind}.txt.j2", variables),
        body_html=render_file(f"{kind}.html.j2", variables),
    )


def build_message(
    mail: RenderedMail, *, sender: str, recipient_email: str, message_id: str, written_at: datetime
) -> EmailMessage:
    """Put a mail for one recipient into the form of RFC 5322.

    Message-ID and Date come from the notification, so that a repeated mail is the same mail.

    :raises ValueError: when an address cannot stand in a header.
    """
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = parse_address(recipient_email)
    message["Subject"] = mail.subject
    message["Date"] = format_datetime(written_at)
    message["Message-ID"] = message_id
    # RFC 3834: no holiday notice answers a machine.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.body_text)
    if mail.body_html is not None:
        message.add_alternative(mail.body_html, subtype="html")
    return message


def parse_address(text: str) -> Address:
    """Read the address of one recipient.

    :raises ValueError: when it cannot stand in a header.
    """
    try:
        return Address(addr_spec=text)
    except Exception as error:
        # The parser of the standard library raises what its parts happen to raise.
        raise ValueError(f"{text!r} is no address for mail: {error}") from error


def deliver(client: smtplib.SMTP, message: EmailMessage) -> None:
    """Hand a mail to one recipient to the server.

    :raises PermanentRefusalError: the server refused the address or the mail for good (5xx).
    :raises TemporaryRefusalError: it may take it later (4xx); or the line was lost, and the client is closed:
        whether the server has the mail is not known, and the next try carries the same Message-ID.
    :raises MailServerAwayError: it takes no mail from us.
    """
    try:
        client.send_message(message)
    except smtplib.SMTPSenderRefused as refusal:
        if refusal.smtp_code == LINE_CLOSED:
            raise _refusal(refusal.smtp_code, refusal.smtp_error) from refusal
        # The server does not let us send: no mail would fare better, and none is lost meanwhile.
        raise MailServerAwayError(f"{refusal.smtp_code} {refusal.smtp_error!r}") from refusal
    except smtplib.SMTPNotSupportedError as error:
        raise PermanentRefusalError(str(error)) from error
    except smtplib.SMTPRecipientsRefused as refusal:
        [(code, reply)] = refusal.recipients.values()
        raise _refusal(code, reply) from refusal
    except (smtplib.SMTPServerDisconnected, OSError) as error:
        if isinstance(error, smtplib.SMTPResponseException):
            raise _refusal(error.smtp_code, error.smtp_error) from error
        raise TemporaryRefusalError(f"the line was lost: {error}") from error


def _refusal(code: int, reply: bytes | str) -> Exception:
    text = reply.decode(errors="replace") if isinstance(reply, bytes) else reply
    if code == LINE_CLOSED:
        return TemporaryRefusalError(f"the line was lost: {code} {text}")
    if code in NO_MAIL_AT_ALL:
        return MailServerAwayError(f"{code} {text}")
    kind = PermanentRefusalError if 500 <= code < 600 else TemporaryRefusalError
    return kind(f"{code} {text}")
