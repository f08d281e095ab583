"""An OpenAI-compatible server in a thread that streams, piece by piece, what a test tells it to say."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

USAGE = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}


@dataclass
class Said:
    """What the server answers to one request.

    Attributes:
        hold: Waited for after the first piece.
        torn: The stream ends after the pieces, without a finish reason.
        plain: Answers whole, as a server does that knows no streams.
        raw: Events to send as they are.
    """

    pieces: Sequence[str] = ("Hel", "lo")
    status: int = 200
    error: str = "it broke"
    hold: threading.Event | None = None
    torn: bool = False
    plain: bool = False
    raw: Sequence[str] = field(default_factory=tuple)


class StreamServer:
    """Serves while it is entered; keeps what it got, and how many askers hung up."""

    def __init__(self, answer: Callable[[dict[str, Any]], Said]) -> None:
        self.got: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.hung_up = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Says nothing."""

            def do_POST(self) -> None:
                payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.got.append(payload)
                server.keys.append(self.headers.get("Authorization"))
                said = answer(payload)
                try:
                    if said.status != 200:
                        self.whole({"error": {"message": said.error}}, said.status)
                    elif said.plain:
                        self.whole({"choices": [choice("message", "".join(said.pieces), "stop")], "usage": USAGE})
                    else:
                        self.stream(said, payload)
                except OSError:
                    server.hung_up.set()

            def whole(self, document: dict[str, Any], status: int = 200) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def stream(self, said: Said, payload: dict[str, Any]) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for number, piece in enumerate(said.pieces):
                    self.event(json.dumps({"model": payload["model"], "choices": [choice("delta", piece, None)]}))
                    if number == 0 and said.hold is not None:
                        while not said.hold.wait(0.05):
                            self.event(json.dumps({"choices": []}))  # finds out whether the asker hung up
                for event in said.raw:
                    self.event(event)
                if not said.torn:
                    self.event(json.dumps({"choices": [choice("delta", "", "stop")]}))
                    self.event(json.dumps({"choices": [], "usage": USAGE}))
                    self.event("[DONE]")
                self.wfile.write(b"0\r\n\r\n")

            def event(self, data: str) -> None:
                line = f"data: {data}\n\n".encode()
                self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
                self.wfile.flush()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def choice(part: str, text: str, finish: str | None) -> dict[str, Any]:
    """Builds one choice of a chunk (`delta`) or of a whole answer (`message`)."""
    return {"index": 0, part: {"role": "assistant", "content": text}, "finish_reason": finish}
