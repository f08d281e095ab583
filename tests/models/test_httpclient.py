"""The HTTP client: framing, reuse of connections, TLS, proxies."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from endpoint_server import Answer, MockServer, run

from evalkit.models.httpclient import HTTPClient, HTTPReply, TransportError


def get(answer: Any, times: int = 1, **options: Any) -> list[HTTPReply]:
    with MockServer(answer, **options) as server:
        return fetch(server.url, times)


def fetch(url: str, times: int = 1) -> list[HTTPReply]:
    async def main() -> list[HTTPReply]:
        client = HTTPClient(url, {"X-Test": "1"}, 5.0)
        try:
            return [await client.request("POST", "/x", b"{}") for _ in range(times)]
        finally:
            client.close()

    return run(main())


@pytest.fixture
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


pytestmark = pytest.mark.usefixtures("plain_environment")
BIG = b"x" * 300_000


@pytest.mark.parametrize("framing", [{}, {"chunked": True}, {"close": True}])
@pytest.mark.parametrize("body", [b"hello", b"", BIG], ids=["small", "empty", "large"])
def test_every_framing(framing: dict[str, bool], body: bytes) -> None:
    replies = get(lambda *_: Answer(body, headers={"X-Reply": "yes"}, **framing), times=3)
    assert [(r.status, r.body, r.headers["x-reply"]) for r in replies] == [(200, body, "yes")] * 3


def test_connections_are_reused_but_not_when_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(url: str) -> list[int]:
        client = HTTPClient(url, {}, 5.0)
        used = []
        for _ in range(4):
            await client.request("POST", "/x")
            (connection,) = client._idle
            used.append(id(connection))
            if len(used) == 3:
                connection.idle_since -= 10.0
                kept.append(connection)
        client.close()
        return used

    kept: list[object] = []
    with MockServer(lambda *_: Answer(b"{}")) as server:
        used = run(main(server.url))
    assert used[0] == used[1] == used[2] != used[3]


def test_many_at_once() -> None:
    async def main(url: str) -> list[HTTPReply]:
        client = HTTPClient(url, {}, 5.0)
        try:
            return await asyncio.gather(*(client.request("POST", f"/{i}") for i in range(100)))
        finally:
            client.close()

    with MockServer(lambda method, path, body: Answer(path.encode(), delay=0.01)) as server:
        replies = run(main(server.url))
    assert [r.body for r in replies] == [f"/v1/{i}".encode() for i in range(100)]


def test_a_cancelled_request_leaves_no_answer_for_the_next() -> None:
    async def main(url: str) -> bytes:
        client = HTTPClient(url, {}, 5.0)
        slow = asyncio.ensure_future(client.request("POST", "/slow"))
        await asyncio.sleep(0.05)
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        try:
            return (await client.request("POST", "/quick")).body
        finally:
            client.close()

    with MockServer(lambda m, path, b: Answer(path.encode(), delay=0.2 if "slow" in path else 0.0)) as server:
        assert run(main(server.url)) == b"/v1/quick"


def test_a_connection_the_server_closed_meanwhile_is_not_used() -> None:
    async def main(url: str) -> list[int]:
        client = HTTPClient(url, {}, 5.0)
        try:
            first = await client.request("POST", "/x")
            await asyncio.sleep(0.05)
            return [first.status, (await client.request("POST", "/x")).status]
        finally:
            client.close()

    # A `connection: close` without that header: the client learns of it only by the end of the stream.
    with MockServer(lambda *_: Answer(b"{}", close=True)) as server:
        assert run(main(server.url)) == [200, 200]


@pytest.mark.parametrize("wire", [b"SSH-2.0-OpenSSH_9\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"])
def test_what_is_not_http_is_said(wire: bytes) -> None:
    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(wire)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = HTTPClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", {}, 5.0)
        with pytest.raises(TransportError) as caught:
            await client.request("POST", "/x")
        assert caught.value.failure == "garbled"
        server.close()

    run(main())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:server.test,IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("the openssl program is not installed")
    return cert, key


def test_https(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with MockServer(lambda *_: Answer(BIG), ssl=context) as server:
        with pytest.raises(TransportError) as caught:  # nobody vouches for the certificate
            fetch(server.url)
        assert caught.value.failure == "tls" and "certificate" in str(caught.value).lower()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        assert [r.body for r in fetch(server.url, times=2)] == [BIG, BIG]


async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: list[str]) -> None:
    """A forward proxy that understands CONNECT and absolute URLs; every host is this machine to it."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    seen.append(head)
    method, target, _ = head.split(" ", 2)
    if method == "CONNECT":
        port = target.split(":")[1]
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    else:
        port = target.removeprefix("http://").split("/")[0].split(":")[1]
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", int(port))
        upstream.write(head.encode())

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        sink.close()

    await asyncio.gather(pump(reader, upstream), pump(upstream_reader, writer), return_exceptions=True)


@pytest.mark.parametrize("secure", [False, True])
def test_a_proxy_from_the_environment(
    secure: bool, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = None
    if secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    seen: list[str] = []

    async def main(url: str) -> list[bytes]:
        server = await asyncio.start_server(lambda r, w: proxy(r, w, seen), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("https_proxy" if secure else "http_proxy", f"http://me:pass%20word@127.0.0.1:{port}")
        client = HTTPClient(url, {}, 5.0)
        try:
            return [(await client.request("POST", "/x")).body for _ in range(2)]
        finally:
            client.close()
            server.close()

    with MockServer(lambda *_: Answer(BIG), ssl=context) as server:
        assert run(main(server.url.replace("127.0.0.1", "server.test"))) == [BIG, BIG]
    assert seen[0].startswith("CONNECT server.test:" if secure else "POST http://server.test:")
    assert "Proxy-Authorization: Basic bWU6cGFzcyB3b3Jk" in seen[0]


def test_this_machine_needs_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert get(lambda *_: Answer(b"direct"))[0].body == b"direct"


def test_no_proxy_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(TransportError) as caught:
        fetch("http://server.test/v1")
    assert caught.value.failure == "refused"
    monkeypatch.setenv("no_proxy", "server.test")
    with pytest.raises(TransportError) as caught:
        fetch("http://server.test/v1")
    assert caught.value.failure == "unknown_host"
