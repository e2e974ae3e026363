"""The indexes that are measured, and what each knows of its own size."""

import asyncio
import os
import re
import tempfile
import time
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import psutil

from kb.ports import ChunkIndex
from kb.settings import IndexSettings
from kb.types import IndexSchema
from retrieval.elasticsearch_index import ElasticsearchIndex
from retrieval.elasticsearch_store import ElasticsearchStore
from retrieval.lance_index import EXACT_ROWS, LanceIndex
from retrieval.lance_store import LanceStore

NAME = "kb-benchmark-1"
PREFIX = f"benchmark-{os.getpid()}-"
SCHEMA = IndexSchema("benchmark", 384, 1, 1)
MIB = 1 << 20


class MeasuredIndex(ABC):
    """`took` gets the server's own milliseconds of each search, where there is a server."""

    index: ChunkIndex

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.took: list[float] = []

    async def served(self) -> float | None:
        """Milliseconds outside `took` that the last search takes a socket whose bytes nobody reads:
        the server's HTTP and the network. None without a server."""
        return None

    @abstractmethod
    async def settle(self) -> None:
        """Does, or waits for, what the index does after writing."""

    @abstractmethod
    async def sizes(self) -> dict[str, float]:
        """Disk and memory, MiB."""


class MeasuredLance(MeasuredIndex):
    def __init__(self, kind: str, index: LanceIndex, folder: Path) -> None:
        super().__init__(kind)
        self.index = index
        self._table = index._table
        self._folder = folder
        self._before = psutil.Process().memory_info().rss

    async def settle(self) -> None:
        await self.index.optimise()

    async def sizes(self) -> dict[str, float]:
        await self._table.optimize(cleanup_older_than=timedelta(0))
        disk = sum(path.stat().st_size for path in self._folder.rglob("*") if path.is_file())
        grown = psutil.Process().memory_info().rss - self._before
        return {"disk, MiB": disk / MIB, "resident, MiB": grown / MIB}


class BareSocket:
    """Sends what the client sends, and waits for the answer without parsing it."""

    def __init__(self, url: str) -> None:
        address = httpx.URL(url)
        self._connection = HTTPConnection(address.host, address.port)
        login = b64encode(f"{address.username}:{address.password}".encode()).decode()
        self._headers = {
            "Authorization": f"Basic {login}",
            "Content-Type": "application/vnd.elasticsearch+x-ndjson; compatible-with=8",
            "Accept": "application/vnd.elasticsearch+json; compatible-with=8",
        }

    def outside_took(self, body: bytes) -> float:
        begun = time.perf_counter()
        self._connection.request("POST", "/_msearch", body, self._headers)
        answer = self._connection.getresponse().read()
        taken = 1000 * (time.perf_counter() - begun)
        took = re.match(rb'\{"took":(\d+)', answer)
        assert took, answer[:200]
        return taken - int(took[1])


class MeasuredElasticsearch(MeasuredIndex):
    """The port tells nothing of the server's time, so the benchmark listens at the client."""

    def __init__(self, kind: str, index: ElasticsearchIndex, url: str) -> None:
        super().__init__(kind)
        self.index = index
        self._client = index._client
        self._socket = BareSocket(url)
        self._asked = b""
        sent = index._searching.msearch

        async def listening(searches: Any) -> Any:
            self._asked = b"".join(line + b"\n" for line in searches)
            response = await sent(searches=searches)
            self.took.append(response.body["took"])
            return response

        index._searching.msearch = listening  # type: ignore[method-assign,assignment]

    async def served(self) -> float | None:
        return self._socket.outside_took(self._asked)

    async def settle(self) -> None:
        await self.index.refresh()
        # Merges of vectors go on for a while, and cost searches time as long as they do.
        while await self._merges():  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(1)

    async def _merges(self) -> int:
        stats = await self._client.indices.stats(index=PREFIX + NAME, metric="merge")
        return int(stats["_all"]["total"]["merges"]["current"])

    async def sizes(self) -> dict[str, float]:
        await self._client.indices.flush(index=PREFIX + NAME)
        stats = await self._client.indices.stats(index=PREFIX + NAME, metric=["store", "segments"])
        nodes = await self._client.nodes.info(metric="process")
        (process,) = [node["process"]["id"] for node in nodes["nodes"].values()]
        memory = await self._client.nodes.stats(metric="jvm")
        (heap,) = [node["jvm"]["mem"]["heap_used_in_bytes"] for node in memory["nodes"].values()]
        return {
            "disk, MiB": stats["_all"]["total"]["store"]["size_in_bytes"] / MIB,
            "segments": stats["_all"]["total"]["segments"]["count"],
            "heap in use, MiB": heap / MIB,
            "resident, MiB": psutil.Process(process).memory_info().rss / MIB,
        }


@asynccontextmanager
async def opened(kind: str, url: str) -> AsyncIterator[MeasuredIndex]:
    """An empty index: `lance`, `lance, HNSW` (at any size), or a kind of Elasticsearch's vector index."""
    if kind.startswith("lance"):
        with tempfile.TemporaryDirectory() as name:
            store = LanceStore(Path(name), exact_rows=EXACT_ROWS if kind == "lance" else 0)
            yield MeasuredLance(kind, await store.create(NAME, SCHEMA), Path(name))
            await store.close()
        return
    settings = IndexSettings.model_validate({"url": url, "prefix": PREFIX, "vector_index": kind})
    server = ElasticsearchStore(settings)
    try:
        await server.drop(NAME)
        yield MeasuredElasticsearch(kind, await server.create(NAME, SCHEMA), url)
    finally:
        await server.drop(NAME)
        await server.close()
