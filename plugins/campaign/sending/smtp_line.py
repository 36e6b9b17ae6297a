"""One line to a mail server: several mails in a row, with as few turns as the server allows (RFC 2920)."""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress

from campaign.mail import NO_MAIL_AT_ALL
from campaign.sending import Message, Outcome, SendingHaltedError

REPLY = re.compile(rb"(\d{3})(?: ([^\r\n]*))?\r?\n|(\d{3})-([^\r\n]*)\r?\n")
CHUNK = 65_536
# RFC 5321, 4.5.3.2.6: a server may take this long to say whether it has a mail.
PATIENCE_AFTER_DATA = 600.0


class SmtpLine:
    """A line to a mail server that is logged in, spoken without waiting.

    A mail goes in two parts. :meth:`offer` sends its envelope and, once the server asks for it, all of it
    except the last dot: until then the server must not take it. :meth:`let_go` sends the dot, and with it the
    envelope of the next mail. Whoever calls notes in between that the mail is about to leave.

    :param client: connected, greeted and logged in; the line takes over its socket.
    :param patience: seconds to wait for an answer, except for that to the last dot.
    :param patience_after_data: seconds to wait for that one.
    :ivar ready: the mail that waits for :meth:`let_go`.
    :ivar leaving: the mail whose dot was sent, and whose answer has not come.
    :ivar is_open: whether it can still be spoken on.
    """

    def __init__(
        self, client: smtplib.SMTP, sender: str, patience: float, patience_after_data: float = PATIENCE_AFTER_DATA
    ) -> None:
        self.client = client
        self.socket = client.sock
        assert self.socket is not None  # noqa: S101  (it is connected)
        self.socket.setblocking(False)
        # The dot follows a mail that the server does not answer: it must not wait for a delayed ACK (40 ms).
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sender = sender
        self.patience = patience
        self.patience_after_data = patience_after_data
        self.may_pipeline = client.has_extn("pipelining")
        self.ready: Message | None = None
        self.leaving: Message | None = None
        self.is_open = True
        self.heard_at = time.monotonic()
        self._offered: Message | None = None
        self._refusal: tuple[int, str, str] | None = None
        self._awaited: deque[str] = deque()
        self._unsent: deque[tuple[bytes, str]] = deque()
        self._out = bytearray()
        self._in = b""
        self._text: list[bytes] = []
        self._must_reset = False

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self.socket.fileno() if self.socket else -1

    @property
    def is_idle(self) -> bool:
        """Whether the envelope of a further mail may be sent."""
        return self.is_open and self._offered is None and self.ready is None

    @property
    def is_waiting(self) -> bool:
        """Whether the server has yet to answer before the next mail is ready, or known to be taken."""
        return self.is_open and self.ready is None and bool(self._awaited)

    @property
    def wants_to_write(self) -> bool:
        """Whether there is something to send that the socket did not take yet."""
        return bool(self._out)

    def offer(self, message: Message) -> None:
        """Begin a mail: send its envelope."""
        self._queue_envelope(message)
        self._push()

    def let_go(self, following: Message | None) -> None:
        """Send the dot that hands over the mail that is ready, and the envelope of the one that follows it."""
        self.leaving, self.ready = self.ready, None
        self._unsent.append((b".\r\n", "dot"))
        if following is not None:
            self._queue_envelope(following)
        self._push()

    def hear(self) -> Iterator[Outcome]:
        """Read what the server said, and yield what became of mails.

        :raises SendingHaltedError: when the server takes no mail from us at all.
        """
        try:
            while data := self.socket.recv(CHUNK) if self.socket else b"":
                self._in += data
                if len(data) < CHUNK and not isinstance(self.socket, ssl.SSLSocket):
                    break
            else:
                raise ConnectionError("the server closed the line")
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError as error:
            # What it said before it went still counts.
            yield from self._understand()
            yield from self.drop(str(error))
            return
        yield from self._understand()

    def flush(self) -> None:
        """Send what the socket takes."""
        if not self._out or self.socket is None:
            return
        try:
            del self._out[: self.socket.send(self._out)]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            # The reading side says what happened, and what of it is known.
            self._out.clear()

    def is_overdue(self, now: float) -> bool:
        """Whether the server owes an answer for longer than there is patience."""
        if not self._awaited:
            return False
        return now - self.heard_at > (self.patience_after_data if self.leaving else self.patience)

    def drop(self, reason: str) -> Iterator[Outcome]:
        """Close the line at once, and yield what nobody will know of the mail that may have left.

        A mail that was not let go has not left, whatever of it was sent: see :meth:`take_back`.
        """
        leaving, self.leaving = self.leaving, None
        self.is_open = False
        self._awaited.clear()
        with suppress(OSError):
            self.client.close()
        self.socket = None
        if leaving is not None:
            yield Outcome(
                leaving.recipient_id, "unknown", f"unknown whether it left: the line was lost after it ({reason})"
            )

    def take_back(self) -> Message | None:
        """Return the mail that was offered on a line that is closed, and has not left."""
        message = self.ready or self._offered
        self.ready = self._offered = None
        return message

    def abandon(self) -> None:
        """Forget the mail that was offered: it does not leave. The line is of no use for another one then."""
        self._offered = self.ready = None
        self._unsent.clear()

    def quit(self) -> None:
        """End a line that has nothing on its way, politely."""
        if self.socket is not None:
            with suppress(OSError):
                self.socket.setblocking(True)
                self.socket.settimeout(1)
                self.socket.sendall(b"QUIT\r\n")
        self.is_open = False
        with suppress(OSError):
            self.client.close()
        self.socket = None

    def _queue_envelope(self, message: Message) -> None:
        self._offered, self._refusal = message, None
        if self._must_reset:
            self._unsent.append((b"RSET\r\n", "reset"))
            self._must_reset = False
        self._unsent.append((f"MAIL FROM:<{self.sender}>\r\n".encode(), "sender"))
        self._unsent.append((f"RCPT TO:<{message.address}>\r\n".encode(), "recipient"))
        self._unsent.append((b"DATA\r\n", "data"))

    def _push(self) -> None:
        """Send the next command; all that are waiting, where the server takes several."""
        if not self._awaited:
            self.heard_at = time.monotonic()
        while self._unsent and (self.may_pipeline or not self._awaited):
            command, kind = self._unsent.popleft()
            self._out += command
            self._awaited.append(kind)
        self.flush()

    def _understand(self) -> Iterator[Outcome]:
        position = 0
        while match := REPLY.match(self._in, position):
            position = match.end()
            if match[1] is None:
                self._text.append(match[4])
                continue
            text = b" ".join([*self._text, match[2] or b""]).decode(errors="replace").strip()
            self._text.clear()
            yield from self._answered(int(match[1]), text)
            if not self.is_open:
                return
        self._in = self._in[position:]
        if len(self._in) > CHUNK:
            yield from self.drop("the server says what is no SMTP")
        elif position:
            self._push()

    def _answered(self, code: int, text: str) -> Iterator[Outcome]:
        self.heard_at = time.monotonic()
        kind = self._awaited.popleft() if self._awaited else "nothing"
        if kind == "dot":
            leaving, self.leaving = self.leaving, None
            if leaving is not None:
                yield _outcome(leaving, code, text, "the mail")
        if code == 421 or kind == "nothing":
            # It closes the line (RFC 5321, 3.8), for all mails that it has not answered.
            yield from self.drop(f"{code} {text}")
            return
        if kind in ("sender", "recipient") and not 200 <= code < 300:
            self._refusal = self._refusal or (code, text, kind)
        elif kind == "data":
            yield from self._answered_data(code, text)

    def _answered_data(self, code: int, text: str) -> Iterator[Outcome]:
        offered = self._offered
        if code == 354 and self._refusal is None:
            self.ready, self._offered = offered, None
            if offered is not None:
                # Lines ended by CR LF, and the last one too: only the dot is missing.
                self._out += offered.content
                self.flush()
            return
        refusal = self._refusal or (code, text, "data")
        self._offered, self._refusal, self._must_reset = None, None, True
        if code == 354:
            # It asks for a mail that has nobody to go to: it gets an empty one.
            self._unsent.appendleft((b".\r\n", "nobody"))
            self._must_reset = False
        if offered is not None:
            yield _refused_envelope(offered, *refusal)


def _refused_envelope(message: Message, code: int, text: str, kind: str) -> Outcome:
    if code in NO_MAIL_AT_ALL or (kind == "sender" and code >= 500):
        raise SendingHaltedError(f"{code} {text}")
    return _outcome(message, code, text, {"recipient": "the address"}.get(kind, "the mail"))


def _outcome(message: Message, code: int, text: str, what: str) -> Outcome:
    if 200 <= code < 300:
        return Outcome(message.recipient_id, "sent")
    if code >= 500:
        return Outcome(message.recipient_id, "failed", f"{what} was refused: {code} {text}")
    return Outcome(message.recipient_id, "postponed", f"{what} was refused for now: {code} {text}")
