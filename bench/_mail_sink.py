"""A mail server for measurements: takes every message as fast as it can, and counts them by Message-ID.

``python bench/_mail_sink.py PORT [DELAY]`` listens on the loopback address until it is told to end. Several of
them may listen on one port. A GET of anything on the same port answers how many messages came, how many
different ones, and how much CPU time that took: so the counting needs no channel of its own.

DELAY is how long, in seconds, each answer takes: 0 for a server on this machine, 0.001 for one in the same hall.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import sys
import time

try:
    from uvloop import run
except ImportError:
    from asyncio import run

GREETING = b"220 sink\r\n"
HELLO = b"250-sink\r\n250-PIPELINING\r\n250-SIZE 10000000\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
MESSAGE_ID = re.compile(rb"\r\nMessage-ID: *(<[^>]+>)", re.IGNORECASE)
END = b"\r\n.\r\n"

seen: set[bytes] = set()
total = 0


class Sink(asyncio.Protocol):
    """One conversation."""

    delay = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = b""
        self.in_data = False
        transport.write(GREETING)

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer + data if self.buffer else data
        answers: list[bytes] = []
        while buffer:
            end = buffer.find(END if self.in_data else b"\r\n")
            if end < 0:
                break
            if self.in_data:
                self.take(buffer, end)
                buffer = buffer[end + 5 :]
                answers.append(b"250 OK\r\n")
            else:
                answers.append(self.answer(buffer[:4].upper()))
                buffer = buffer[end + 2 :]
        self.buffer = buffer
        if answers and self.delay:
            asyncio.get_running_loop().call_later(self.delay, self.send, b"".join(answers))
        elif answers:
            self.transport.write(b"".join(answers))

    def send(self, answer: bytes) -> None:
        """Send what was delayed, unless the other side has gone."""
        if not self.transport.is_closing():
            self.transport.write(answer)

    def take(self, buffer: bytes, end: int) -> None:
        global total
        found = MESSAGE_ID.search(buffer, 0, end)
        if found:
            seen.add(found[1])
        total += 1
        self.in_data = False

    def answer(self, verb: bytes) -> bytes:
        if verb == b"DATA":
            self.in_data = True
            return b"354 Go on\r\n"
        if verb == b"EHLO":
            return HELLO
        if verb == b"GET ":
            report = {
                "process": os.getpid(),
                "messages": total,
                "different": len(seen),
                "cpu_seconds": time.process_time(),
            }
            return json.dumps(report).encode() + b"\r\n"
        if verb == b"QUIT":
            asyncio.get_running_loop().call_soon(self.transport.close)
            return b"221 Bye\r\n"
        return b"250 OK\r\n"


async def serve(port: int, delay: float) -> None:
    """Listen until the process is ended."""
    Sink.delay = delay
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    server = await asyncio.get_running_loop().create_server(Sink, sock=listener)
    print("listening", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    run(serve(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0))
