"""A provider of SMS and push on the loopback address that keeps what it gets, and misbehaves as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, Any]]


class MessageProvider:
    """A provider of SMS and push on the loopback address: keeps what it gets, and knows its keys.

    :ivar requests: what came, in order, as (idempotency key, body, headers).
    :ivar delivered: the ids of messages that it took, in order; a key that it knows takes none again.
    :ivar answer: the answer to a request, given its body; a status of 0 drops the line after taking it.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.delivered: list[str] = []
        self.answer: Callable[[dict[str, Any]], Answer] = lambda body: (200, {})
        self._known: set[str] = set()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                key = self.headers["Idempotency-Key"]
                provider.requests.append((key, body, dict(self.headers)))
                code, said = provider.answer(body)
                if code in (0, 200) and key not in provider._known:
                    provider._known.add(key)
                    refused = {result["id"] for result in said.get("results", []) if result["status"] != "sent"}
                    provider.delivered += [one["id"] for one in body["messages"] if one["id"] not in refused]
                if code == 0:
                    self.connection.close()
                    return
                content = json.dumps(said).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self._thread.start()

    def airflow_connection(self) -> str:
        """Return the Airflow connection to it."""
        return json.dumps(
            {
                "conn_type": "http",
                "host": "http://127.0.0.1",
                "port": self.server.server_port,
                "extra": {"endpoint": "/v1/messages", "headers": {"Authorization": "Bearer secret"}, "timeout": 5},
            }
        )

    def close(self) -> None:
        """Stop listening."""
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()
