"""Calls that are given up leave no connection to the model's server open."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from kb.generation import Message, Sampling
from serving.generators.openai_compatible import OpenAICompatibleGenerator

CALLS = 60
SOON_S = 3.0
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
WORD = b'data: {"choices":[{"delta":{"content":"word "}}]}\n\n'


class SlowModel:
    """Takes a moment for everything, and knows who is connected."""

    def __init__(self) -> None:
        self.connected = 0
        self.alone = asyncio.Event()
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected += 1
        self.alone.clear()
        leaving = asyncio.create_task(self._left(reader))
        with suppress(ConnectionError):
            for piece in (HEAD, *[b"%x\r\n%s\r\n" % (len(WORD), WORD)] * 1_000):
                await asyncio.sleep(0.01)
                if leaving.done():
                    break
                writer.write(piece)
                await writer.drain()
        self.connected -= 1
        if not self.connected:
            self.alone.set()
        leaving.cancel()
        writer.close()

    async def _left(self, reader: asyncio.StreamReader) -> None:
        while await reader.read(1 << 16):
            pass


@asynccontextmanager
async def slow_model() -> AsyncIterator[SlowModel]:
    model = SlowModel()
    server = await asyncio.start_server(model.answer, "127.0.0.1", 0)
    model.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server:
        yield model


async def test_none_is_left_whenever_and_however_often_a_call_is_cancelled() -> None:
    async with slow_model() as model:
        generator = OpenAICompatibleGenerator(model.url, model="m", context_tokens=2000)

        async def call() -> None:
            async for _ in generator.stream([Message("user", "Hi")], Sampling()):
                pass

        calls = [asyncio.create_task(call()) for _ in range(CALLS)]
        for number, running in enumerate(calls):
            await asyncio.sleep(0.001)
            for _ in range(1 + number % 3):  # Also while it closes already.
                running.cancel()
                await asyncio.sleep(0)
        await asyncio.wait(calls)

        assert all(running.cancelled() for running in calls)
        async with asyncio.timeout(SOON_S):
            await model.alone.wait()
        await generator.close()
