"""An HTTP server to which webhooks are sent."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from secret_search.search import SEARCH


@dataclass(frozen=True, slots=True)
class Received:
    path: str
    headers: Message
    body: bytes


@dataclass
class Receiver:
    """Notes what it is sent, and answers as it is told to."""

    answers: tuple[int, dict[str, str], bytes] = (204, {}, b"")
    seen: list[Received] = field(default_factory=list["Received"])
    go_on: threading.Event = field(default_factory=threading.Event)
    """Cleared, answers wait."""

    def __post_init__(self) -> None:
        self.go_on.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                SEARCH.sent(f"the webhook to {self.path}", f"{self.headers}\n{body.decode(errors='replace')}")
                receiver.seen.append(Received(self.path, self.headers, body))
                receiver.go_on.wait(20)
                status, headers, content = receiver.answers
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except OSError:
                    return  # nobody reads it

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
