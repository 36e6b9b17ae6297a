"""A real SMTP server on the loopback address that keeps what it gets, and misbehaves as it is told."""

from __future__ import annotations

import email
import email.policy
import json
import socket
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

Answer = str | None


class MailServer:
    """An SMTP server with everything it accepted.

    :ivar port: where it listens.
    :ivar messages: accepted mails, in order, as (envelope recipient, parsed message).
    :ivar on_sender: answers MAIL FROM; None accepts.
    :ivar on_recipient: answers RCPT TO; None accepts.
    :ivar on_data: answers after DATA, when the message was kept; None accepts. An answer that starts with
        ``drop`` closes the connection without a word.
    """

    def __init__(self) -> None:
        self.reset()
        # The controller connects to its own port to see that it works, so it cannot be left to choose one.
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]

    def reset(self) -> None:
        """Forget all, and behave."""
        self.messages: list[tuple[str, EmailMessage]] = []
        self.on_sender: Callable[[str], Answer] = lambda address: None
        self.on_recipient: Callable[[str], Answer] = lambda address: None
        self.on_data: Callable[[EmailMessage], Answer] = lambda message: None

    def airflow_connection(self) -> str:
        """Return the Airflow connection to it."""
        return json.dumps(
            {
                "conn_type": "smtp",
                "host": "127.0.0.1",
                "port": self.port,
                "extra": {
                    "disable_ssl": True,
                    "disable_tls": True,
                    "from_email": "campaigns@example.com",
                    "timeout": 5,
                    "retry_limit": 0,
                },
            }
        )

    def start(self) -> None:
        """Listen: on a free port the first time, then on the same."""
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self._controller.start()

    def stop(self) -> None:
        """Stop listening."""
        self._controller.stop()

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[Any]
    ) -> str:
        """Take a sender, or not."""
        answer = self.on_sender(address)
        if answer is None:
            envelope.mail_from = address
        return answer or "250 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[Any]
    ) -> str:
        """Take a recipient, or not."""
        answer = self.on_recipient(address)
        if answer is None:
            envelope.rcpt_tos.append(address)
        return answer or "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Take a message, or not."""
        assert isinstance(envelope.content, bytes)
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        answer = self.on_data(message)
        if answer is None or answer.startswith("drop"):
            self.messages += [(address, message) for address in envelope.rcpt_tos]
        if answer and answer.startswith("drop"):
            assert server.transport is not None
            server.transport.abort()
        return answer or "250 OK"
