"""kill -9 of a process that reindexes: the next run goes on with what it has built."""

import asyncio
import multiprocessing

import pytest

from kb.errors import IndexUnavailable
from kb.settings import Settings
from retrieval.generations import CopyProgress
from serving.bootstrap import Services, open_services
from serving.reindexing import reindex
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

DOCUMENTS = 500


def reindex_in_a_process(settings: Settings) -> None:
    async def run() -> None:
        async with open_services(settings, fake_model) as services:
            await reindex("default", services, CopyProgress(), OTHER)

    asyncio.run(run())


async def built(services: Services) -> int:
    """Chunks of the generation that is not live yet."""
    generation = (await services.catalog.generations("default"))[-1]
    if generation.live or generation.index_name not in await services.store.names():
        return 0
    index = await services.store.open(generation.index_name, generation.schema)
    try:
        return (await index.count()).chunks
    except IndexUnavailable:  # Elasticsearch has only just made it.
        return 0


async def test_a_killed_process_leaves_the_live_index_and_is_gone_on_from(
    services: Services, folder: Folder
) -> None:
    for number in range(DOCUMENTS):
        folder.write(number)
    await ingest(folder, services)
    before = await services.live("default")
    process = multiprocessing.get_context("spawn").Process(
        target=reindex_in_a_process, args=(services.settings,)
    )
    process.start()
    while not await built(services):
        assert process.is_alive()
        await asyncio.sleep(0.01)
    process.kill()
    await asyncio.to_thread(process.join)
    kept = await built(services)
    assert 0 < kept < DOCUMENTS
    assert (await services.live("default")).generation == before.generation
    assert await problems(services) == []

    progress = CopyProgress()
    generation = await reindex("default", services, progress, OTHER)
    assert generation.number == before.generation.number + 1, "the one begun, not another"
    assert progress.copied <= DOCUMENTS - kept
    assert await indexed_texts(services) == expected_texts(folder)
    assert await problems(services) == []
