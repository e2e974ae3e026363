"""Reindexing while a server answers over HTTP: it has services of its own, as `kb reindex` beside it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest
import uvicorn

from kb.settings import ServerSettings
from retrieval.generations import CopyProgress
from serving.app.application import create_app
from serving.bootstrap import Services, open_services
from serving.reindexing import reindex, rollback
from serving.server import listen
from tests.integration.test_reindexing import (
    OTHER,
    Folder,
    expected_texts,
    fake_model,
    folder,
    indexed_texts,
    ingest,
    problems,
    services,
)

__all__ = ["folder", "services"]
pytestmark = pytest.mark.slow

QUESTIONS_PER_S = 20


@asynccontextmanager
async def served(services: Services) -> AsyncIterator[str]:
    """The address of a server over the same data folder and index."""
    async with open_services(services.settings, fake_model) as own:
        open_socket = listen(ServerSettings(port=0))
        server = uvicorn.Server(
            uvicorn.Config(create_app(own), log_config=None, access_log=False, lifespan="on")
        )
        serving = asyncio.create_task(server.serve(sockets=[open_socket]))
        while not server.started:  # noqa: ASYNC110 - uvicorn sets no event
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{open_socket.getsockname()[1]}"
        server.should_exit = True
        await serving


@dataclass
class Readers:
    """Asks at a fixed rate, whether earlier questions are answered or not, and checks each answer."""

    client: httpx.AsyncClient
    gone: list[int] = field(default_factory=list)
    """Documents that were deleted before they are asked for."""
    wrong: list[str] = field(default_factory=list)
    answered: int = 0

    async def ask(self, ended: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as questions:
            while not ended.is_set():
                questions.create_task(self._ask(7, there=True))
                if self.gone:
                    questions.create_task(self._ask(self.gone[-1], there=False))
                await asyncio.sleep((2 if self.gone else 1) / QUESTIONS_PER_S)

    async def _ask(self, number: int, *, there: bool) -> None:
        response = await self.client.post("/v1/search", json={"query": f"item{number} version1"})
        if response.status_code != 200:
            self.wrong.append(f"{response.status_code}: {response.text}")
            return
        texts = [hit["text"] for hit in response.json()["data"]]
        found = [text for text in texts if text.startswith(f"item{number} ")]
        if bool(found) is not there or (there and found[0] != texts[0]):
            self.wrong.append(f"item{number}, which is {'there' if there else 'gone'}: {texts}")
        self.answered += 1


async def test_a_served_collection_is_indexed_anew_without_a_failed_question(
    services: Services, folder: Folder
) -> None:
    for number in range(300):
        folder.write(number)
    await ingest(folder, services)
    ended = asyncio.Event()
    async with (
        served(services) as address,
        httpx.AsyncClient(base_url=address, trust_env=False, timeout=30) as client,
    ):
        readers = Readers(client)

        async def write() -> None:
            number = 300
            while not ended.is_set():
                folder.write(number)
                folder.write(number - 250)
                folder.delete(number - 200)
                await ingest(folder, services)
                readers.gone.append(number - 200)
                number += 1

        reading = asyncio.create_task(readers.ask(ended))
        writing = asyncio.create_task(write())
        generation = await reindex("default", services, CopyProgress(), OTHER)
        await asyncio.sleep(2)  # The server answers from the new generation now.
        await rollback("default", services)
        await asyncio.sleep(2)
        ended.set()
        await asyncio.gather(reading, writing)
    assert readers.wrong == []
    assert readers.answered > QUESTIONS_PER_S
    assert (await services.live("default")).generation.number == generation.number - 1
    await ingest(folder, services)
    assert await indexed_texts(services) == expected_texts(folder)
    assert await problems(services) == []
