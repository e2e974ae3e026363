"""The API on a real port of this process, over embedded parts and an embedder that costs nothing."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from kb.settings import LimitsSettings, Settings
from retrieval.embedders.hashing import HashingEmbedder
from serving.app.application import create_app
from serving.bootstrap import Services, open_services

START_TIMEOUT_S = 60
UNLIMITED = LimitsSettings(requests_per_minute=1_000_000)


async def hashing(settings: Settings) -> HashingEmbedder:
    return HashingEmbedder(settings.data_dir / "models")


@contextmanager
def served(
    data_dir: Path, prepare: Callable[[Services], Awaitable[None]], **sections: Any
) -> Iterator[str]:
    """The URL of a server in a thread and loop of its own; `prepare` runs in them before it listens.

    `sections` are those of the settings.
    """
    stopping = threading.Event()
    ready: list[str] = []
    changed = threading.Event()

    async def serve() -> None:
        given: dict[str, Any] = {"data_dir": data_dir, "limits": UNLIMITED} | sections
        settings = Settings(**given)
        async with open_services(settings, hashing) as services:
            await prepare(services)
            config = uvicorn.Config(create_app(services), port=0, log_config=None)
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server.serve())
            while not server.started and not serving.done():  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
            ready.append(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
            changed.set()
            await asyncio.to_thread(stopping.wait)
            server.should_exit = True
            await serving

    def run() -> None:
        try:
            asyncio.run(serve())
        finally:
            changed.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert changed.wait(START_TIMEOUT_S)
        assert ready, "the server did not start"
        yield ready[0]
    finally:
        stopping.set()
        thread.join()
