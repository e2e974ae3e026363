"""A search ends in time, however busy what it needs."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from kb.errors import ServerOverloaded
from kb.settings import Settings
from kb.types import Generation, IndexSchema, Vectors
from retrieval.embedders.hashing import HashingEmbedder
from retrieval.memory_index import MemoryStore
from serving.bootstrap import Services
from serving.parts import Live
from serving.searching import bound_search


class BusyEmbedder(HashingEmbedder):
    """Its turn never comes."""

    given_up = False

    async def queries(self, texts: Sequence[str]) -> Vectors:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.given_up = True
            raise
        raise AssertionError


async def test_a_search_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    embedder = BusyEmbedder(tmp_path)
    schema = IndexSchema(embedder.fingerprint, embedder.dimensions, 1, 1)
    generation = Generation("default", 1, "kb-default.1", schema, live=True)
    live = Live(generation, await MemoryStore().create("kb-default.1", schema), embedder)
    settings = Settings.model_validate({"search": {"timeout_s": 0.01}})
    services = cast(Services, SimpleNamespace(settings=settings, catalog=None))
    with pytest.raises(ServerOverloaded, match=r"0\.01 s \(search\.timeout_s\)") as refused:
        await bound_search(live, services)("What is the default port?")
    assert refused.value.retryable
    assert embedder.given_up
