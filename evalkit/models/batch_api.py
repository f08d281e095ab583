"""The batch API of OpenAI-compatible endpoints: a file of requests in, files of answers out, for less, within a day."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, TypeVar

from evalkit.errors import UserError
from evalkit.models.base import FailureKind, Reply, Request, RequestFailed
from evalkit.models.endpoint import EndpointModel
from evalkit.models.endpoint_errors import redact, refused_parameter, status_failure, transport_failure
from evalkit.models.httpclient import HTTPReply, TransportError
from evalkit.models.wire import correct, parse_completion, payload_of

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types import Batch

MAX_REQUESTS = 50_000
MAX_BYTES = 200_000_000
FILE_TIMEOUT_S = 3600.0
CLOCK_SKEW_S = 3600.0
MARK = "evalkit"
ENDED = ("completed", "failed", "expired", "cancelled")
_ENDED_AS: Mapping[str, FailureKind] = {"batch_expired": "timeout", "batch_cancelled": "server"}

T = TypeVar("T")
Corrections = Mapping[str, str | None]


class RefusedParameter(Exception):
    """A request failed for a parameter that it can do without.

    Args:
        name: The parameter.
        new: Its new name; None to leave it out.
        failure: What to store if it cannot be sent again.
    """

    def __init__(self, name: str, new: str | None, failure: RequestFailed) -> None:
        super().__init__(failure.message)
        self.name, self.new, self.failure = name, new, failure


@dataclass(frozen=True, slots=True)
class BatchState:
    """A job as the endpoint tells it.

    Attributes:
        done: Requests that are answered or have failed.
        seconds: From the job's creation to its end; 0 before it.
        files: Ids of the files of answers and of errors, as far as there are any.
        message: Why it failed, in the endpoint's words.
    """

    id: str
    status: str
    done: int
    total: int
    seconds: float
    files: tuple[str, ...]
    message: str

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.status in ENDED


class BatchModel(EndpointModel):
    """A model that the engine asks by batch jobs. Settings, request keys and answers are those of `EndpointModel`."""

    _client: AsyncOpenAI | None = None
    _client_loop: asyncio.AbstractEventLoop | None = None

    @property
    def corrections(self) -> dict[str, str | None]:
        """Parameters that the endpoint was found to refuse, with their new names (None: left out); to be added to."""
        return self._corrections

    def route(self, request: Request) -> str:
        """Returns what a request is sent to; a job holds requests of one route.

        Raises:
            RequestFailed: Log-likelihoods, which no batch API gives.
        """
        if request.pairs:
            said = "the batch API gives no log-likelihoods: leave `batch` out, or take a generative variant of the task"
            raise RequestFailed("unsupported", f"{self._url}: {said}")
        return "/v1/chat/completions" if request.messages else "/v1/completions"

    def write(self, file: IO[bytes], asked: Iterable[tuple[str, Request]], corrections: Corrections) -> int:
        """Writes requests to a job's file until a limit is reached.

        Args:
            asked: Request keys and requests, all of one route.

        Returns:
            How many were written; 0 if the first alone is too large.
        """
        written = size = 0
        for key, request in asked:
            payload = correct(payload_of(self.settings.name, request), corrections)
            line = json.dumps({"custom_id": key, "method": "POST", "url": self.route(request), "body": payload})
            size += len(line) + 1  # all ASCII
            if written == MAX_REQUESTS or size > MAX_BYTES:
                break
            file.write(line.encode() + b"\n")
            written += 1
        return written

    async def upload(self, file: IO[bytes], token: str) -> str:
        """Uploads a file of requests; returns its id.

        Raises:
            RequestFailed: It did not arrive.
            UserError: The endpoint has no batch API.
        """
        name = f"{MARK}-{token}.jsonl"

        async def send() -> Any:
            file.seek(0)
            return await self._openai().files.create(file=(name, file), purpose="batch", timeout=FILE_TIMEOUT_S)

        try:
            found = getattr(await self._said(send, "/files"), "id", None)
        except RequestFailed as failure:
            raise self._no_batch_api(failure, "/files") or failure from None
        if not isinstance(found, str):
            raise RequestFailed("malformed", f"{self._url}/files answered with something else than a file")
        return found

    async def create(self, file_id: str, route: str, token: str) -> BatchState:
        """Submits an uploaded file as a job.

        Raises:
            RequestFailed: The endpoint refuses, or its answer is lost (retryable; see `find`).
            UserError: The endpoint has no batch API.
        """

        async def send() -> Batch:
            endpoint: Any = route
            return await self._openai().batches.create(
                input_file_id=file_id, endpoint=endpoint, completion_window="24h", metadata={MARK: token}
            )

        try:
            return self._state(await self._said(send, "/batches"))
        except RequestFailed as failure:
            # A file that is gone is a 404 as well, but one that names the file.
            gone = file_id in failure.message
            raise (None if gone else self._no_batch_api(failure, "/batches")) or failure from None

    async def find(self, token: str, since: float) -> BatchState | None:
        """Looks for the job with this token among those created after `since` (Unix time); None if there is none."""

        async def search() -> Batch | None:
            async for batch in self._openai().batches.list(limit=100):  # the newest come first
                if (batch.metadata or {}).get(MARK) == token:
                    return batch
                if batch.created_at < since - CLOCK_SKEW_S:
                    break
            return None

        found = await self._said(search, "/batches")
        return None if found is None else self._state(found)

    async def retrieve(self, batch_id: str) -> BatchState:
        """Asks how a job is.

        Raises:
            RequestFailed: No answer; `not_found` if the endpoint does not know the job.
        """
        return self._state(await self._said(lambda: self._openai().batches.retrieve(batch_id), "/batches"))

    async def fetch(self, file_id: str, file: IO[bytes], start: int) -> None:
        """Writes a file of results into `file` from `start` on, in place of what is there.

        Raises:
            RequestFailed: It did not come whole; `not_found` if it is gone.
        """

        async def receive() -> None:
            file.seek(start)
            file.truncate()
            content = self._openai().files.with_streaming_response.content(file_id, timeout=FILE_TIMEOUT_S)
            async with content as response:
                async for chunk in response.iter_bytes():
                    file.write(chunk)
            file.write(b"\n")

        await self._said(receive, f"/files/{file_id}/content")

    def read(self, line: Mapping[str, Any], request: Request, corrections: Corrections, seconds: float) -> Reply:
        """Reads a line of a job's results, as the same answer is read live.

        Args:
            line: Of the file of answers, or of errors.
            request: What it answers.
            corrections: What the job's requests were corrected by.
            seconds: What the reply is to say that it took.

        Raises:
            RequestFailed: It holds no answer.
            RefusedParameter: The request may be sent again without a parameter.
        """
        route = self.route(request)
        url = self._url + route.removeprefix("/v1")
        response, error = line.get("response"), line.get("error")
        if not isinstance(response, Mapping) or not isinstance(response.get("status_code"), int):
            said = error if isinstance(error, Mapping) else {}
            kind = _ENDED_AS.get(str(said.get("code")), "server")
            message = redact(str(said.get("message") or json.dumps(line)[:200]), self._key)
            raise RequestFailed(kind, f"{url}: not answered in the batch: {message}")
        reply = HTTPReply(response["status_code"], [], json.dumps(response.get("body")).encode(), seconds)
        try:
            return parse_completion(self._document(reply, url), request, seconds, corrections)
        except RequestFailed as failure:
            said_at = failure if self._url in failure.message else _at(failure, self._url)
            payload = correct(payload_of(self.settings.name, request), corrections)
            refused = refused_parameter(reply, payload)
            if refused is not None:  # one that is left out already cannot be refused again
                raise RefusedParameter(*refused, said_at) from failure
            raise said_at from failure

    async def close(self) -> None:
        """Closes the connections."""
        if self._client is not None and self._client_loop is asyncio.get_running_loop():
            await self._client.close()
        self._client = None
        await super().close()

    def _openai(self) -> AsyncOpenAI:
        loop = asyncio.get_running_loop()
        if self._client is None or self._client_loop is not loop:
            from openai import AsyncOpenAI

            # No retries of its own: a job created twice is paid for twice.
            self._client = AsyncOpenAI(
                base_url=self._url, api_key=self._key or "none", max_retries=0, timeout=self._timeout_s
            )
            self._client_loop = loop
        return self._client

    async def _said(self, step: Callable[[], Awaitable[T]], path: str) -> T:
        """Awaits a step; what goes wrong is raised in the words of live requests."""
        import httpx2  # openai's own client, whose errors come through while a file is read
        import openai

        url = self._url + path
        try:
            return await step()
        except (openai.APITimeoutError, httpx2.TimeoutException) as error:
            raise transport_failure(TransportError("timeout", "no reply in time", sent=False), url) from error
        except (openai.APIConnectionError, httpx2.TransportError) as error:
            cause = redact(str(error.__cause__ or error), self._key)
            raise transport_failure(TransportError("refused", cause, sent=False), url) from error
        except openai.APIStatusError as error:
            raw = error.response
            reply = HTTPReply(raw.status_code, list(raw.headers.raw), raw.content, 0.0)
            raise status_failure(reply, url, self.settings.name, self._key, self._key_name) from error
        except (openai.OpenAIError, ValueError) as error:  # a 200 that is not what the API says
            said = " ".join(redact(str(error), self._key).split())[:300]
            raise RequestFailed("malformed", f"{url}: {said}", retryable=True) from error

    def _no_batch_api(self, failure: RequestFailed, path: str) -> UserError | None:
        if failure.kind not in ("not_found", "unsupported") and " answered 405" not in failure.message:
            return None
        return UserError(
            f"{self._url} has no batch API (POST {path}: {failure.message.partition(' answered ')[2][:3]}): take "
            f"`batch: true` out of the plan for {self.settings.name}, then its requests are sent one by one"
        )

    def _state(self, batch: Batch) -> BatchState:
        if not getattr(batch, "id", None) or not getattr(batch, "status", None):
            raise RequestFailed("malformed", f"{self._url}/batches answered with something else than a batch")
        counts, errors = batch.request_counts, batch.errors
        ended_at = batch.completed_at or batch.expired_at or batch.cancelled_at or batch.failed_at
        said = [
            f"line {error.line}: {error.message}" if error.line is not None else str(error.message)
            for error in (errors.data or [] if errors else [])
        ]
        return BatchState(
            batch.id,
            str(batch.status).lower(),
            (counts.completed or 0) + (counts.failed or 0) if counts else 0,
            (counts.total or 0) if counts else 0,
            float(max(0, ended_at - batch.created_at)) if ended_at and batch.created_at else 0.0,
            tuple(f for f in (batch.output_file_id, batch.error_file_id) if f),
            redact("; ".join(said[:3]), self._key),
        )


def _at(failure: RequestFailed, url: str) -> RequestFailed:
    return RequestFailed(failure.kind, f"{url}: {failure.message}", paid=failure.paid)


async def lines(file: IO[bytes]) -> AsyncIterator[Mapping[str, Any]]:
    """Gives the objects of a file of JSON lines; bytes, as `str` takes some characters inside texts for line breaks."""
    file.seek(0)
    for number, line in enumerate(file):
        if number % 64 == 0:
            await asyncio.sleep(0)
        try:
            found = json.loads(line) if line.strip() else None
        except ValueError:
            continue  # its request is then missing, and fails as such
        if isinstance(found, Mapping):
            yield found
