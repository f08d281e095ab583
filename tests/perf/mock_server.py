"""A mock of an OpenAI-compatible server: raw protocol, prebuilt bytes, so that it is never the bottleneck.

    python tests/perf/mock_server.py --latency 0.2 --port 8100 --core 1
    python tests/perf/mock_server.py --faults            # 5 % 429, 2 % 500, 1 % reset, 1 % malformed JSON
    python tests/perf/mock_server.py --cap 512           # 429 above 512 requests in flight

It prints its port on the first line. `GET /stats` tells what it saw: requests, answers paid for (a whole answer was
made, even if it was then cut off or garbled), prompts paid for more than once, the highest number in flight.
Tests run it in a thread with an answer function of their own: `with MockServer(answer) as server: server.url`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import uvloop


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server does with one request; `cut` closes the connection halfway through the body."""

    body: bytes | Mapping[str, Any] = b""
    status: int = 200
    delay: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    reset: bool = False
    chunked: bool = False
    close: bool = False


AnswerFunction = Callable[[str, str, bytes], Answer]


def chat(text: str | None = "ok", **message: Any) -> dict[str, Any]:
    """Builds a chat completion; `finish_reason`, `usage`, `logprobs` go to their places, the rest into the message."""
    finish = message.pop("finish_reason", "stop")
    usage = message.pop("usage", {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10})
    logprobs = message.pop("logprobs", None)
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, **message},
        "finish_reason": finish,
        "logprobs": logprobs,
    }
    return {"id": "c", "object": "chat.completion", "model": "mock", "choices": [choice], "usage": usage}


class LoadModel:
    """The answers of the load test: fixed or log-normal latency, faults, a cap on requests in flight."""

    def __init__(self, latency: float, sigma: float, faults: bool, cap: int, seed: int) -> None:
        self.latency, self.sigma, self.faults, self.cap = latency, sigma, faults, cap
        self.random = random.Random(seed)
        self.ok = json.dumps(chat("The answer is 42.")).encode()
        self.reset_counts()

    def reset_counts(self) -> None:
        """Forgets what was counted."""
        self.requests = self.in_flight = self.most_in_flight = 0
        self.statuses: Counter[str] = Counter()
        self.paid: Counter[bytes] = Counter()
        self.forced: Counter[bytes] = Counter()
        self.first = self.last = self.last_sent = 0.0

    def stats(self) -> dict[str, Any]:
        """Returns the counts; `unforced` are second payments that no reset or malformed reply explains."""
        unforced = sum(max(0, n - 1 - self.forced[b]) for b, n in self.paid.items())
        return {
            "requests": self.requests,
            "paid": sum(self.paid.values()),
            "prompts": len(self.paid),
            "duplicates": sum(n - 1 for n in self.paid.values()),
            "unforced": unforced,
            "most_in_flight": self.most_in_flight,
            "statuses": dict(self.statuses),
            "first": self.first,
            "last": self.last_sent,
        }

    def __call__(self, method: str, path: str, body: bytes) -> Answer:
        if path in ("/stats", "/reset"):
            if path == "/reset":
                self.reset_counts()
            return Answer(self.stats())
        if path.endswith("/models"):
            return Answer({"data": [{"id": "mock"}]})
        now = time.time()
        self.first = self.first or now
        self.requests += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        if self.cap and self.in_flight > self.cap:
            return self._count(
                "capped", Answer(_error("too many requests in flight"), 429, headers={"Retry-After": "1"})
            )
        delay = self.latency
        if self.sigma:
            delay = min(30.0, self.latency * math.exp(self.random.gauss(0.0, self.sigma)))
        draw = self.random.random() if self.faults else 1.0
        if draw < 0.05:
            return self._count("429", Answer(_error("slow down"), 429, headers={"Retry-After": "0.5"}))
        if draw < 0.07:
            return self._count("500", Answer(_error("internal error"), 500, delay=delay / 2))
        self.paid[body] += 1
        if draw < 0.08:
            self.forced[body] += 1
            return self._count("reset", Answer(self.ok, delay=delay, reset=True))
        if draw < 0.09:
            self.forced[body] += 1
            return self._count("malformed", Answer(self.ok[: len(self.ok) // 2], delay=delay))
        return self._count("ok", Answer(self.ok, delay=delay))

    def _count(self, what: str, answer: Answer) -> Answer:
        self.statuses[what] += 1
        return answer


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "mock_error"}}


class _Connection(asyncio.Protocol):
    def __init__(self, answer: AnswerFunction, loop: asyncio.AbstractEventLoop) -> None:
        self.answer, self.loop = answer, loop
        self.data = b""
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        data = self.data + data
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                break
            head = data[:end]
            at = head.lower().find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            stop = end + 4 + length
            if len(data) < stop:
                break
            method, path, _ = head.split(b" ", 2)
            self.handle(method.decode(), path.decode(), data[end + 4 : stop])
            data = data[stop:]
        self.data = data

    def handle(self, method: str, path: str, body: bytes) -> None:
        load = self.answer if isinstance(self.answer, LoadModel) and method == "POST" else None
        if load:
            load.in_flight += 1
        answer = self.answer(method, path, body)
        if answer.delay:
            self.loop.call_later(answer.delay, self.send, answer, load)
        else:
            self.send(answer, load)

    def send(self, answer: Answer, load: LoadModel | None) -> None:
        if load:
            load.in_flight -= 1
            load.last_sent = time.time()
        if self.transport.is_closing():
            return
        if answer.reset:
            # SO_LINGER 0 makes the kernel send RST instead of FIN.
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            self.transport.abort()
            return
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        headers = {"content-type": "application/json", **answer.headers}
        lines = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
        if answer.chunked:
            head = f"HTTP/1.1 {answer.status} X\r\n{lines}transfer-encoding: chunked\r\n\r\n".encode()
            parts = [body[i : i + 10] for i in range(0, len(body), 10)]
            wire = head + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"
        elif answer.close:
            wire = f"HTTP/1.1 {answer.status} X\r\n{lines}connection: close\r\n\r\n".encode() + body
        else:
            head = f"HTTP/1.1 {answer.status} X\r\n{lines}content-length: {len(body)}\r\n\r\n".encode()
            wire = head + body
        if answer.cut:
            wire = wire[: len(wire) - len(body) // 2]
        self.transport.write(wire)
        if answer.cut or answer.close:
            self.transport.close()


class MockServer:
    """The server in a thread of this process, for tests; `url` ends in /v1."""

    def __init__(self, answer: AnswerFunction, ssl: Any = None) -> None:
        self.answer, self.ssl = answer, ssl
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> MockServer:
        self.thread.start()
        self.ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    def _run(self) -> None:
        self.loop = uvloop.new_event_loop()
        make = lambda: _Connection(self.answer, self.loop)  # noqa: E731
        server = self.loop.run_until_complete(self.loop.create_server(make, "127.0.0.1", 0, ssl=self.ssl))
        self.port = server.sockets[0].getsockname()[1]
        self.url = f"http{'s' if self.ssl else ''}://127.0.0.1:{self.port}/v1"
        self.ready.set()
        self.loop.run_forever()
        server.close()
        self.loop.close()


async def _serve(arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    load = LoadModel(arguments.latency, arguments.sigma, arguments.faults, arguments.cap, arguments.seed)
    server = await loop.create_server(lambda: _Connection(load, loop), "127.0.0.1", arguments.port, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds; the median if --sigma is given")
    parser.add_argument("--sigma", type=float, default=0.0, help="log-normal spread; 1.0 is a long tail")
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--cap", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--core", type=int, help="pin the server to this core")
    arguments = parser.parse_args()
    if arguments.core is not None:
        os.sched_setaffinity(0, {arguments.core})
    uvloop.run(_serve(arguments))


if __name__ == "__main__":
    main()
