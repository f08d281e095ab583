"""A small server with the files and batches routes of OpenAI's API, and live chat completions beside them.

    python tests/models/batch_server.py --port 8200 --seconds 5      # every job takes five seconds

A job goes through validating, in_progress, finalizing to completed, one step each time it is asked for (or with
time). Its file is checked as a whole: a wrong line fails the job. Answers come in another order than the requests,
failed requests in a file of their own. Tests script the rest: see `BatchServer`.
"""

from __future__ import annotations

import argparse
import email
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

ROUTES = ("/v1/chat/completions", "/v1/completions")
STEPS = ("validating", "in_progress", "finalizing", "completed")
Body = Mapping[str, Any]


def completion(body: Body, text: str, **choice: Any) -> dict[str, Any]:
    """Builds the answer to a chat or raw completion; three tokens long."""
    said = {"message": {"role": "assistant", "content": text}} if "messages" in body else {"text": text}
    usage = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
    return {
        "id": "c",
        "object": "chat.completion",
        "model": body["model"],
        "choices": [{"index": 0, "finish_reason": "stop", **said, **choice}],
        "usage": usage,
    }


def echo(body: Body) -> tuple[int, Any]:
    """Answers with the prompt."""
    said = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
    return 200, completion(body, f"re: {said}")


def error(message: str, code: str = "") -> dict[str, Any]:
    return {"error": {"message": message, "code": code or None, "type": "invalid_request_error"}}


@dataclass
class Job:
    """A batch on the server."""

    id: str
    file: str
    route: str
    metadata: Any
    created_at: int
    step: int = 0
    ended_as: str = ""
    total: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    files: dict[str, str] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)
    ended_at: int | None = None

    @property
    def status(self) -> str:
        return self.ended_as or STEPS[min(self.step, 2)]


class BatchServer:
    """The server in a thread; `url` ends in /v1.

    Args:
        answer: Gives status and body for one request, live or in a job.
        key: What the Authorization header must hold.
        final: What a job becomes: completed, expired or cancelled (after half of its requests), or failed.
        fault: Called with method and path before anything else; a status to refuse with, -1 to do what is asked and
            then cut the connection, or None.
        batches: Whether there are files and batches routes at all.
        seconds: Jobs take so long, instead of a step each time they are asked for.
    """

    def __init__(
        self,
        answer: Callable[[Body], tuple[int, Any]] = echo,
        *,
        key: str | None = None,
        final: str = "completed",
        fault: Callable[[str, str], int | None] = lambda method, path: None,
        batches: bool = True,
        seconds: float | None = None,
        port: int = 0,
    ) -> None:
        self.answer, self.key, self.final, self.fault, self.seconds = answer, key, final, fault, seconds
        self.has_batches = batches
        self.held: set[str] = set()  # jobs that stay in progress
        self.rename: Callable[[str], str] = lambda custom_id: custom_id  # of what is handed out
        self.files: dict[str, tuple[str, bytes]] = {}
        self.jobs: dict[str, Job] = {}
        self.live: list[Body] = []
        self.bought: Counter[str] = Counter()  # requests answered, by their body
        self.requests: list[tuple[str, str]] = []
        self.lock = threading.RLock()
        self.random = random.Random(0)
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                server.handle(self, self.rfile.read(length))

            do_GET = do_POST = do_DELETE = handle_any

            def log_message(self, *_: object) -> None:
                return

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                return  # a client that was killed

        self.http = Server(("127.0.0.1", port), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> BatchServer:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    @property
    def bought_twice(self) -> list[str]:
        return [body for body, n in self.bought.items() if n > 1]

    @property
    def sizes(self) -> list[int]:
        """Requests in each job's file."""
        return [self.files[job.file][1].count(b"\n") for job in self.jobs.values()]

    def count(self, method: str, path: str) -> int:
        return self.requests.count((method, path))

    def handle(self, to: BaseHTTPRequestHandler, raw: bytes) -> None:
        method, parts = to.command, urlsplit(to.path)
        with self.lock:
            self.requests.append((method, parts.path))
            fault = self.fault(method, parts.path)
            if fault and fault > 0:
                status, body = fault, error(f"scripted {fault}")
            elif self.key and to.headers.get("authorization") != f"Bearer {self.key}":
                status, body = 401, error("Incorrect API key provided: sk-wrongwrongwrong", "invalid_api_key")
            else:
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                kind = to.headers.get("content-type", "")
                status, body = self.route(method, parts.path.removeprefix("/v1"), query, kind, raw)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        if fault == -1:
            data = b""
        to.send_response(status)
        to.send_header("Content-Type", "application/octet-stream" if isinstance(body, bytes) else "application/json")
        to.send_header("Content-Length", str(len(data) + 100 * (fault == -1)))
        if status == 429:
            to.send_header("Retry-After", "0")
        to.end_headers()
        to.wfile.write(data)
        to.close_connection = fault == -1

    def route(self, method: str, path: str, query: Body, kind: str, raw: bytes) -> tuple[int, Any]:
        first, *rest = path.strip("/").split("/")
        if method == "POST" and f"/v1{path}" in ROUTES:
            body = json.loads(raw)
            self.live.append(body)
            return self.buy(body)
        if not self.has_batches or first not in ("files", "batches"):
            return 404, error(f"Unknown request URL: {method} /v1{path}")
        if first == "files":
            return self.file_route(method, rest, kind, raw)
        if method == "POST" and not rest:
            return self.create(json.loads(raw))
        if method == "GET" and not rest:
            return 200, self.listed(query)
        job = self.jobs.get(rest[0])
        if job is None:
            return 404, error(f"No batch found with id '{rest[0]}'.")
        if method == "POST" and rest[1:] == ["cancel"]:
            self.end(job, "cancelled")
        elif job.ended_at is None:
            self.advance(job)
        return 200, self.shown(job)

    def file_route(self, method: str, rest: list[str], kind: str, raw: bytes) -> tuple[int, Any]:
        if method == "POST":
            parts = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + raw)
            by_name = {p.get_param("name", header="content-disposition"): p for p in parts.walk()}
            purpose, file = by_name.get("purpose"), by_name.get("file")
            if purpose is None or file is None or purpose.get_payload() != "batch":
                return 400, error("'purpose' must be 'batch' and there must be a file")
            content = file.get_payload(decode=True)
            assert isinstance(content, bytes)
            return 200, {"id": self.keep(file.get_filename() or "", content), "object": "file", "purpose": "batch"}
        if not rest or rest[0] not in self.files:
            return 404, error(f"No such File object: {rest[0] if rest else ''}")
        name, content = self.files[rest[0]]
        return 200, content if rest[1:] == ["content"] else {"id": rest[0], "object": "file", "filename": name}

    def keep(self, name: str, content: bytes) -> str:
        file_id = f"file-{len(self.files) + 1}"
        self.files[file_id] = (name, content)
        return file_id

    def create(self, body: Body) -> tuple[int, Any]:
        if body.get("input_file_id") not in self.files:
            return 404, error(f"No such File object: {body.get('input_file_id')}")
        if body.get("endpoint") not in ROUTES or body.get("completion_window") != "24h":
            return 400, error("Invalid endpoint or completion_window")
        number = len(self.jobs) + 1
        job = Job(
            f"batch_{number}", body["input_file_id"], body["endpoint"], body.get("metadata"), int(time.time()) + number
        )
        self.jobs[job.id] = job
        return 200, self.shown(job)

    def listed(self, query: Body) -> Any:
        jobs = list(reversed(self.jobs.values()))
        after = query.get("after")
        start = 1 + next((i for i, job in enumerate(jobs) if job.id == after), -1)
        page = jobs[start : start + int(query.get("limit", 20))]
        shown = [self.shown(job) for job in page]
        more = start + len(page) < len(jobs)
        return {"object": "list", "data": shown, "has_more": more, "last_id": page[-1].id if page else None}

    def shown(self, job: Job) -> dict[str, Any]:
        end = {f"{job.ended_as}_at": job.ended_at} if job.ended_as else {}
        counts = {"total": job.total, "completed": job.counts["completed"], "failed": job.counts["failed"]}
        return {
            "id": job.id,
            "object": "batch",
            "endpoint": job.route,
            "input_file_id": job.file,
            "completion_window": "24h",
            "status": job.status,
            "created_at": job.created_at,
            "metadata": job.metadata,
            "request_counts": counts,
            "errors": {"object": "list", "data": job.errors} if job.errors else None,
            **job.files,
            **end,
        }

    # A job's life

    def advance(self, job: Job) -> None:
        if self.seconds is not None:
            share = (time.time() - job.created_at) / max(self.seconds, 1e-9)
            job.step = max(job.step, min(3, int(share * 3)))
        elif not (job.id in self.held and job.step >= 1):
            job.step += 1
        if job.total == 0 and not self.check(job):
            return
        if job.step >= 3:
            self.end(job, self.final)
        elif job.step >= 1:
            job.counts["completed"] = job.total * job.step // 3

    def lines(self, job: Job) -> list[Any]:
        return [json.loads(line) for line in self.files[job.file][1].decode().split("\n") if line]

    def check(self, job: Job) -> bool:
        """Refuses the whole file for one wrong line, as the API does."""
        wrong: list[tuple[int, str, str]] = []
        seen: set[str] = set()
        models: set[str] = set()
        for number, line in enumerate(self.files[job.file][1].decode().split("\n"), 1):
            if not line:
                continue
            try:
                asked = json.loads(line)
                seen_before = asked["custom_id"] in seen
                seen.add(asked["custom_id"])
                models.add(asked["body"]["model"])
                good = asked["method"] == "POST" and asked["url"] == job.route
            except (ValueError, KeyError, TypeError):
                wrong.append((number, "invalid_json_line", "This line is not parseable as a request."))
                continue
            if seen_before:
                wrong.append((number, "duplicate_custom_id", "The custom_id is not unique."))
            if not good or len(models) > 1:
                wrong.append((number, "mismatched_request", "URL, method or model is not that of the batch."))
        job.total = len(seen)
        job.errors = [{"line": n, "code": code, "message": said, "param": None} for n, code, said in wrong]
        if not seen:
            job.errors = [{"line": None, "code": "empty_file", "message": "The file is empty.", "param": None}]
        if job.errors or self.final == "failed":
            job.errors = job.errors or [
                {
                    "line": None,
                    "code": "token_limit_exceeded",
                    "message": "Enqueued token limit reached.",
                    "param": None,
                }
            ]
            job.ended_as, job.ended_at = "failed", int(time.time())
        return not job.errors

    def buy(self, body: Body) -> tuple[int, Any]:
        status, answer = self.answer(body)
        if status == 200:
            self.bought[json.dumps(body, sort_keys=True)] += 1
        return status, answer

    def end(self, job: Job, status: str) -> None:
        asked = self.lines(job)
        stop = len(asked) if status == "completed" else len(asked) // 2
        self.random.shuffle(asked)
        good, bad = [], []
        for line in asked[:stop]:
            code, body = self.buy(line["body"])
            row = {
                "id": f"r{self.random.random()}",
                "custom_id": self.rename(line["custom_id"]),
                "response": {"status_code": code, "request_id": "q", "body": body},
                "error": None,
            }
            (good if code == 200 else bad).append(row)
        if status == "expired":
            late = {"code": "batch_expired", "message": "This request could not be executed before it expired."}
            bad += [
                {"id": "r", "custom_id": line["custom_id"], "response": None, "error": late} for line in asked[stop:]
            ]
        for name, rows in (("output_file_id", good), ("error_file_id", bad)):
            if rows:  # unescaped, so that texts hold whatever line breaks they like, U+2028 among them
                text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
                job.files[name] = self.keep(f"{job.id}_{name}", text.encode())
        job.counts.update(completed=len(good) - job.counts["completed"], failed=len(bad))
        job.ended_as, job.ended_at = status, job.created_at + 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=5.0, help="that a job takes")
    parser.add_argument("--key")
    arguments = parser.parse_args()
    with BatchServer(key=arguments.key, seconds=arguments.seconds, port=arguments.port) as server:
        print(server.url, flush=True)
        server.thread.join()


if __name__ == "__main__":
    main()
