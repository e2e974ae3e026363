"""A search ends in time, however busy what it needs."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from kb.errors import SearchTimeout
from kb.settings import Settings
from kb.types import Generation, IndexSchema, Vectors
from retrieval.embedders.hashing import HashingEmbedder
from retrieval.memory_index import MemoryStore
from serving.bootstrap import Services
from serving.parts import Live
from serving.searching import bound_search


class BusyEmbedder(HashingEmbedder):
    """Its turn never comes, or it lets a time limit of its own pass."""

    limit: float | None = None
    given_up = False

    async def queries(self, texts: Sequence[str]) -> Vectors:
        try:
            async with asyncio.timeout(self.limit):
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.given_up = True
            raise
        raise AssertionError


@pytest.fixture
def embedder(tmp_path: Path) -> BusyEmbedder:
    return BusyEmbedder(tmp_path)


async def search(embedder: BusyEmbedder, seconds: float | None) -> object:
    schema = IndexSchema(embedder.fingerprint, embedder.dimensions, 1, 1)
    generation = Generation("default", 1, "kb-default.1", schema, live=True)
    live = Live(generation, await MemoryStore().create("kb-default.1", schema), embedder)
    services = cast(Services, SimpleNamespace(settings=Settings(), catalog=None))
    return await bound_search(live, services, seconds=seconds)("What is the default port?")


async def test_a_search_that_takes_too_long_is_given_up(embedder: BusyEmbedder) -> None:
    with pytest.raises(SearchTimeout, match=r"0\.01 s \(search\.timeout_s\)") as refused:
        await search(embedder, seconds=0.01)
    assert refused.value.retryable
    assert embedder.given_up


@pytest.mark.parametrize("seconds", [None, 60.0])
async def test_who_gives_up_himself_is_not_told_of_time(
    embedder: BusyEmbedder, seconds: float | None
) -> None:
    searching = asyncio.create_task(search(embedder, seconds))
    await asyncio.sleep(0.01)
    searching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await searching
    assert embedder.given_up


@pytest.mark.parametrize("seconds", [None, 60.0])
async def test_another_time_limit_is_not_taken_for_ours(
    embedder: BusyEmbedder, seconds: float | None
) -> None:
    embedder.limit = 0.01
    with pytest.raises(TimeoutError):
        await search(embedder, seconds)
