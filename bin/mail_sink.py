"""A mail server for trying out: takes every message, sends none, keeps each as a file.

Usage: mail_sink.py FOLDER PORT. A message is written under a temporary name and then renamed, so that
who sees an .eml file sees a whole one. Who it was really for is in X-RcptTo headers before the others.
"""

import asyncio
import os
import signal
import sys
import time
from itertools import count
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session


class KeepInFolder:
    """Handler of aiosmtpd that keeps each message in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.numbers = count(1)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Write the message; only then is it accepted."""
        header = f"X-MailFrom: {envelope.mail_from}\r\n"
        header += "".join(f"X-RcptTo: {recipient}\r\n" for recipient in envelope.rcpt_tos)
        # Names sort by the time of arrival.
        name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}-{next(self.numbers):05d}"
        temporary = self.folder / f".{name}.part"
        with temporary.open("wb") as file:
            file.write(header.encode() + envelope.original_content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self.folder / f"{name}.eml")
        print(f"{name}.eml to {', '.join(envelope.rcpt_tos)}", flush=True)
        return "250 Message accepted"


async def serve(folder: Path, port: int) -> None:
    """Listen until a signal comes."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    handler = KeepInFolder(folder)
    options = {"hostname": "localhost", "enable_SMTPUTF8": True, "data_size_limit": 64 * 1024**2}
    async with await loop.create_server(lambda: SMTP(handler, loop=loop, **options), "127.0.0.1", port):
        print(f"mail sink on port {port}, messages in {folder}", flush=True)
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
