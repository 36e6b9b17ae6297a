"""Sending of online deliveries: content, the lines to a mail server, requests to providers, bookkeeping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class SendingHaltedError(RuntimeError):
    """The server or provider cannot be used at all; what was not sent waits for the next run."""


@dataclass(slots=True)
class Message:
    """A message to one recipient, made and ready to leave.

    :ivar recipient_id: whose it is.
    :ivar address: where it goes: an e-mail address, a phone number, a push token.
    :ivar content: the whole mail, as SMTP transmits it; or what stands for it in a request to a provider.
    """

    recipient_id: int
    address: str
    content: Any


@dataclass(slots=True)
class Outcome:
    """What became of a message.

    :ivar kind: ``sent``; ``failed`` for good; ``postponed`` to a later try; ``unknown`` when it may have left.
    :ivar error: the reason, for a person; None when it was sent.
    """

    recipient_id: int
    kind: str
    error: str | None = None
