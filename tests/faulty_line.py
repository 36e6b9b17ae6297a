"""A line to a server on the loopback address that is cut, slow, or answers for the server, as it is told."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress


class FaultyLine:
    """Passes on what goes to and from a port.

    :ivar is_down: who connects is cut off at once.
    :ivar cut_after_bytes: the connections there are are cut, once, when so many bytes more have gone to the server.
    :ivar seconds_a_piece: how long each piece on its way to the server takes.
    :ivar answer: what whoever asks anything is answered instead of the server's answer; None: the server answers.
    """

    def __init__(self, server_port: int) -> None:
        self.is_down = False
        self.cut_after_bytes: int | None = None
        self.seconds_a_piece = 0.0
        self.answer: bytes | None = None
        self._server_port = server_port
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def heal(self) -> None:
        """Be a good line again, for new connections."""
        self.cut()
        self.is_down, self.cut_after_bytes, self.seconds_a_piece, self.answer = False, None, 0.0, None

    def cut(self) -> None:
        """Cut the connections there are."""
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for end in sockets:
            _close(end)

    def close(self) -> None:
        """Cut it for ever."""
        _close(self._listener)
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError):
            if self.is_down:
                client.close()
                return
            if self.answer is not None:
                client.recv(1 << 16)
                client.sendall(self.answer)
                client.close()
                return
            server = socket.create_connection(("127.0.0.1", self._server_port), 5)
            server.settimeout(None)
            with self._lock:
                self._sockets |= {client, server}
            threading.Thread(target=self._pass_on, args=(server, client, False), daemon=True).start()
            self._pass_on(client, server, True)

    def _pass_on(self, source: socket.socket, target: socket.socket, goes_to_server: bool) -> None:
        with suppress(OSError):
            while piece := source.recv(1 << 15):
                if goes_to_server:
                    time.sleep(self.seconds_a_piece)
                    if self.cut_after_bytes is not None:
                        self.cut_after_bytes -= len(piece)
                        if self.cut_after_bytes < 0:
                            self.cut_after_bytes = None
                            self.cut()
                            return
                target.sendall(piece)
        for end in (source, target):
            _close(end)
        with self._lock:
            self._sockets -= {source, target}


def _close(end: socket.socket) -> None:
    with suppress(OSError):  # a process that was forked may hold it too: closing alone would not end it
        end.shutdown(socket.SHUT_RDWR)
    end.close()
