"""Slow clients over real sockets: each is let go of, and those that do as they should are not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
import uvicorn

from serving.slow_clients import BODY_PACE, TimedProtocol

SHORT_S = 0.5
LONG_S = 3600.0
"""Never, in a test."""
LIMIT_S = 120
"""Generous: what is waited for comes at once on a quiet machine."""
servers: dict[int, uvicorn.Server] = {}
App = Callable[[Any, Any, Any], Awaitable[None]]


@asynccontextmanager
async def serving(app: App, timeout_s: float, most: int = 100) -> AsyncIterator[int]:
    """The port of a server of the test's own."""
    protocol: Any = partial(TimedProtocol, timeout_s=timeout_s, most=most)
    config = uvicorn.Config(app, port=0, http=protocol, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    servers[port] = server
    try:
        yield port
    finally:
        server.should_exit = server.force_exit = True
        await task


async def reads_body(_: Any, receive: Any, send: Any) -> None:
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message["more_body"]
    await answer(send, str(size).encode())


async def answer(send: Any, body: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def answered(port: int, sent: bytes) -> bytes:
    """All that comes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    async with asyncio.timeout(LIMIT_S):
        read = await reader.read()
    writer.close()
    return read


def connections_of(port: int) -> set[Any]:
    return servers[port].server_state.connections


HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET / HT", HEAD, HEAD + b"Content-Length: 9\r\n\r\n123"],
    ids=["nothing", "request line", "headers", "body"],
)
async def test_request_that_does_not_arrive_is_given_up(sent: bytes) -> None:
    async with serving(reads_body, SHORT_S) as port:
        said = await answered(port, sent)
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_timeout"' in said


@pytest.mark.parametrize("head", [HEAD, HEAD + b"Content-Length: 1000000\r\n\r\n"])
async def test_one_byte_at_a_time_earns_no_more_time(head: bytes) -> None:
    async with serving(reads_body, SHORT_S) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        reading = asyncio.create_task(_until_closed(reader))
        async with asyncio.timeout(LIMIT_S):
            while not reading.done():
                writer.write(b"x")
                await asyncio.sleep(SHORT_S / 10)
        assert (await reading).startswith(b"HTTP/1.1 408 ")
        writer.close()


async def _until_closed(reader: asyncio.StreamReader) -> bytes:
    """What came first: the rest may be cut off by what is still being sent."""
    said = await reader.read(1024)
    with suppress(ConnectionError):
        await reader.read()
    return said


async def test_answer_and_large_body_may_take_longer() -> None:
    async def takes_its_time(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(3 * SHORT_S)
        await reads_body(scope, receive, send)

    async with serving(takes_its_time, SHORT_S) as port:
        size = 8 * BODY_PACE
        head = HEAD + f"Connection: close\r\nContent-Length: {size}\r\n\r\n".encode()
        said = await answered(port, head + b"x" * size)
    assert said.startswith(b"HTTP/1.1 200 ")
    assert said.endswith(str(size).encode() + b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("is_endless", [True, False], ids=["stream", "large answer"])
async def test_who_does_not_read_is_let_go_of(is_endless: bool) -> None:
    """As the server sees it: the connection ends, and with it the work."""
    ended = asyncio.Event()

    async def talks(_: Any, receive: Any, send: Any) -> None:
        left = asyncio.create_task(_left(receive))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        body = {"type": "http.response.body", "body": b"x" * (64 << 20 >> 10 * is_endless)}
        await send(body | {"more_body": is_endless})
        while is_endless and not left.done():
            await send(body | {"more_body": True})
            await asyncio.sleep(0)
        left.cancel()
        ended.set()

    async with serving(talks, SHORT_S) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(HEAD + b"\r\n")
        async with asyncio.timeout(LIMIT_S):
            await ended.wait()
            while connections_of(port):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        writer.close()


async def test_who_reads_gets_all_of_it() -> None:
    size = 64 << 20

    async def talks(_: Any, __: Any, send: Any) -> None:
        await answer(send, b"x" * size)

    async with serving(talks, LONG_S) as port:
        said = await answered(port, HEAD + b"Connection: close\r\n\r\n")
    assert said.count(b"x") >= size


async def test_no_more_connections_than_allowed() -> None:
    async with serving(reads_body, LONG_S, most=2) as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        while len(connections_of(port)) < 2:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
        refused = await answered(port, b"")
        assert refused.startswith(b"HTTP/1.1 503 ")
        for _, writer in held:
            writer.close()
        while connections_of(port):  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
        said = await answered(port, HEAD + b"Connection: close\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 200 ")


async def _left(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
