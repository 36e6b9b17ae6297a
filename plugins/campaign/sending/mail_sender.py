"""Sends mails over several lines at once, and has each noted before its last dot and after its answer."""

from __future__ import annotations

import selectors
import smtplib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from campaign.sending import Message, Outcome, SendingHaltedError
from campaign.sending.batch import Batch
from campaign.sending.pace import Pace
from campaign.sending.smtp_line import SmtpLine

# How long nothing may happen before the clock is looked at.
TICK_SECONDS = 0.5
# How long what is ready waits, at most, for other lines to be.
GATHER_SECONDS = 0.05
MESSAGES_PER_LINE = 10
# A mail that was on a line when it was lost, this often, is not the first choice for the next line.
LINES_PER_MESSAGE = 2


class MailSender:
    """Keeps lines to one mail server, over the batches of a task.

    :param open_line: connects and logs in; raises ``smtplib.SMTPException``, ``OSError`` or ``SendingHaltedError`` when
        it cannot.
    :param line_limit: how many lines to keep.
    :param is_over: asked often: whether nothing more may be let go (the time is up, the task is being ended).
    """

    def __init__(
        self, open_line: Callable[[], SmtpLine], line_limit: int, pace: Pace, is_over: Callable[[], bool]
    ) -> None:
        self.open_line = open_line
        self.line_limit = line_limit
        self.pace = pace
        self.is_over = is_over
        self.lines: list[SmtpLine] = []
        self._selector = selectors.DefaultSelector()
        self._lost_lines = 0
        self._note_seconds = 0.0
        self._notary = ThreadPoolExecutor(1, "note")

    def send(self, messages: Iterable[Message | Outcome], batch: Batch) -> None:
        """Send the messages of a batch, until none is left, it is over, or the batch may not go on.

        :param messages: made one by one as they are needed; an outcome stands for one that cannot be made.
        :raises SendingHaltedError: when the server takes no mail from us at all; what left is noted.
        """
        round_ = _Round(iter(messages), batch)
        try:
            while self._go_on(round_):
                self._turn(round_)
        finally:
            self._settle(round_)

    def close(self) -> None:
        """End all lines; nothing is on its way on them."""
        for line in list(self.lines):
            self._forget(line)
            line.quit()
        self._selector.close()
        self._notary.shutdown()

    def _go_on(self, round_: _Round) -> bool:
        if round_.may_go_on and self.is_over():
            round_.may_go_on = False
        if not round_.may_go_on:
            return False
        self._offer(round_)
        return bool(round_.outcomes) or any(not line.is_idle or line.leaving for line in self.lines) or round_.has_more

    def _turn(self, round_: _Round) -> None:
        """Listen, then note what came and let go what is ready, all in one transaction."""
        self._gather(round_)
        ready = [line for line in self.lines if line.ready and not line.wants_to_write]
        if not ready and not round_.outcomes:
            return
        round_.may_go_on = self._note(round_, ready)
        if not round_.may_go_on:
            return
        for line in ready:
            line.let_go(self._next(round_) if round_.made_count and self.pace.room() else None)
            self._watch(line)

    def _gather(self, round_: _Round) -> None:
        """Listen until every line has something to note, at most for as long as the last note took.

        A note waits for the disk, however many messages it is for: noted one by one, they would all wait in turn.
        """
        self._listen(round_, TICK_SECONDS)
        until = time.monotonic() + min(self._note_seconds, GATHER_SECONDS)
        while any(line.is_waiting for line in self.lines) and (left := until - time.monotonic()) > 0:
            self._listen(round_, left)

    def _note(self, round_: _Round, ready: list[SmtpLine]) -> bool:
        outcomes, round_.outcomes = round_.outcomes, []
        begun = time.monotonic()
        noting = self._notary.submit(
            round_.batch.note,
            outcomes,
            [line.leaving.recipient_id for line in self.lines if line.leaving],
            [line.ready.recipient_id for line in ready if line.ready],
        )
        # Meanwhile the mails that follow are made: none has to be between the note and the dots.
        while not noting.done() and round_.made_count < len(ready) and round_.make():
            pass
        may_go_on = noting.result()
        self._note_seconds = time.monotonic() - begun
        if any(outcome.kind == "sent" for outcome in outcomes):
            self._lost_lines = 0
        return may_go_on

    def _next(self, round_: _Round) -> Message | None:
        message = round_.next()
        if message is not None:
            self.pace.take()
        return message

    def _offer(self, round_: _Round) -> None:
        """Give mails to the lines that have none, and open lines while there is work for more."""
        for line in self.lines:
            if line.is_idle and self.pace.room():
                message = self._next(round_)
                if message is None:
                    return
                line.offer(message)
                self._watch(line)
        while len(self.lines) < self.line_limit and self.pace.room():
            if len(self.lines) * MESSAGES_PER_LINE > round_.taken + 1 and self.lines:
                return
            message = self._next(round_)
            if message is None:
                return
            opened = self._open(round_, message)
            if opened is None:
                return
            opened.offer(message)
            self._watch(opened)

    def _open(self, round_: _Round, message: Message) -> SmtpLine | None:
        try:
            line = self.open_line()
        except (smtplib.SMTPException, OSError, SendingHaltedError) as error:
            round_.give_back(message)
            if not self.lines:
                raise SendingHaltedError(str(error)) from error
            # It takes no more lines than there are: these do.
            self.line_limit = len(self.lines)
            return None
        self.lines.append(line)
        self._selector.register(line, selectors.EVENT_READ)
        return line

    def _listen(self, round_: _Round, patience: float) -> None:
        if round_.has_more and (not self.lines or any(line.is_idle for line in self.lines)):
            # A line without a mail waits for the pace.
            patience = min(patience, self.pace.wait())
        if not self.lines:
            time.sleep(patience)
            return
        for key, events in self._selector.select(patience):
            line = key.fileobj
            assert isinstance(line, SmtpLine)  # noqa: S101  (nothing else is registered)
            if events & selectors.EVENT_WRITE:
                line.flush()
            if events & selectors.EVENT_READ:
                round_.outcomes.extend(line.hear())
            self._after_hearing(line, round_)
        self._drop_overdue(round_)

    def _drop_overdue(self, round_: _Round) -> None:
        now = time.monotonic()
        for line in [line for line in self.lines if line.is_overdue(now)]:
            round_.outcomes.extend(line.drop("the server did not answer"))
            self._after_hearing(line, round_)

    def _after_hearing(self, line: SmtpLine, round_: _Round) -> None:
        if line.is_open:
            self._watch(line)
            return
        self._forget(line)
        self._lost_lines += 1
        message = line.take_back()
        if message is not None:
            round_.lost_with[message.recipient_id] += 1
            if round_.lost_with[message.recipient_id] < LINES_PER_MESSAGE:
                round_.give_back(message)
            else:
                error = "the line to the mail server was lost before it left"
                round_.outcomes.append(Outcome(message.recipient_id, "postponed", error))
        if self._lost_lines > max(5, 2 * self.line_limit):
            raise SendingHaltedError("the mail server drops every line")

    def _watch(self, line: SmtpLine) -> None:
        if line.is_open:
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if line.wants_to_write else 0)
            if self._selector.get_key(line).events != wanted:
                self._selector.modify(line, wanted)

    def _forget(self, line: SmtpLine) -> None:
        self.lines.remove(line)
        # Its descriptor is closed by now, so it is found by identity.
        self._selector.unregister(line)

    def _settle(self, round_: _Round) -> None:
        """Hear the answers to what has left, take back what has not, and note it all."""
        abandoned = [line for line in self.lines if not line.is_idle]
        for line in abandoned:
            line.abandon()
        while any(line.leaving for line in self.lines):
            try:
                self._listen(round_, TICK_SECONDS)
            except SendingHaltedError:
                continue
        for line in abandoned:
            if line in self.lines:
                self._forget(line)
                list(line.drop(""))
        self._note(round_, [])


class _Round:
    """The messages of one batch while they are sent."""

    def __init__(self, messages: Iterator[Message | Outcome], batch: Batch) -> None:
        self.batch = batch
        self.outcomes: list[Outcome] = []
        self.lost_with: Counter[int] = Counter()
        self.may_go_on = True
        self.taken = 0
        self._messages = messages
        self._made: deque[Message] = deque()
        self._is_exhausted = False

    @property
    def has_more(self) -> bool:
        return bool(self._made) or not self._is_exhausted

    @property
    def made_count(self) -> int:
        return len(self._made)

    def make(self) -> bool:
        """Make a mail ahead; return whether there was one to make."""
        for message in self._messages:
            if isinstance(message, Outcome):
                self.outcomes.append(message)
                continue
            self._made.append(message)
            return True
        self._is_exhausted = True
        return False

    def next(self) -> Message | None:
        if not self._made and not self.make():
            return None
        self.taken += 1
        return self._made.popleft()

    def give_back(self, message: Message) -> None:
        self._made.append(message)
