"""What a search costs outside Elasticsearch, and how fast chunks are written.

    KB_URL=$(deploy/elasticsearch/start /tmp/elasticsearch)
    python -m benchmarks.elasticsearch $KB_URL [--chunks 20000] [--questions 100]

Chunks are of 230 words (about 1,400 characters) drawn by Zipf's law, vectors are random and 384 wide.
`took` is the server's own time; `ours` is all the rest: its HTTP, the network, the client and our work.
"""

import argparse
import asyncio
import time
from collections.abc import Iterator, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from kb import ids
from kb.settings import IndexSettings
from kb.types import Chunk, IndexedDocument, IndexQuery, IndexSchema
from retrieval.elasticsearch_index import ElasticsearchIndex
from retrieval.elasticsearch_store import ElasticsearchStore
from retrieval.fusion import rank

NAME = "kb-benchmark-1"
SCHEMA = IndexSchema("benchmark", 384, 1, 1)
RNG = np.random.default_rng(0)
LETTERS = list("abcdefghijklmnopqrstuvwxyz")
WORDS = np.array(["".join(RNG.choice(LETTERS, RNG.integers(3, 9))) for _ in range(20_000)])
WEIGHTS = 1 / np.arange(1, len(WORDS) + 1)
WEIGHTS /= WEIGHTS.sum()


def document(name: str) -> IndexedDocument:
    vectors = RNG.standard_normal((10, SCHEMA.dimensions)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    chunks = []
    for ordinal in range(10):
        text = " ".join(RNG.choice(WORDS, 230, p=WEIGHTS))
        digest = ids.text_hash(text)
        chunk_id = ids.chunk_id(name, digest, 0)
        chunks.append(
            Chunk(chunk_id, name, ordinal, "Title", ("H",), None, 0, 1400, text, digest, 300)
        )
    return IndexedDocument(name, f"file:///srv/{name}.md", (), "", tuple(chunks), vectors)


async def fill(index: ElasticsearchIndex, chunks: int) -> float:
    """Seconds, texts and vectors made up beforehand."""
    taken = 0.0
    for start in range(0, chunks, 1000):
        batch = [document(f"d{start + number}") for number in range(100)]
        begun = time.perf_counter()
        await index.replace(batch, refresh=False)
        taken += time.perf_counter() - begun
    await index.refresh()
    return taken


def questions(count: int) -> Iterator[IndexQuery]:
    for _ in range(count):
        vector = RNG.standard_normal(SCHEMA.dimensions).astype(np.float32)
        words = tuple(str(word) for word in RNG.choice(WORDS[:3000], 8, replace=False))
        yield IndexQuery(vector / np.linalg.norm(vector), words, 100)


async def searches(index: ElasticsearchIndex, count: int) -> list[tuple[float, ...]]:
    """Milliseconds of each search: whole, the server's, ours, this process's CPU, and the ranking's."""
    took: list[int] = []
    # The port tells nothing of the server's time, so the benchmark listens at the client.
    sent = index._searching.msearch

    async def listening(**arguments: object) -> object:
        response = await sent(**arguments)  # type: ignore[arg-type]
        took.append(response.body["took"])
        return response

    index._searching.msearch = listening  # type: ignore[method-assign, assignment]
    rows = []
    for query in questions(count + 20):
        begun, cpu = time.perf_counter(), time.process_time()
        found = await index.search(query)
        whole, cpu = 1000 * (time.perf_counter() - begun), 1000 * (time.process_time() - cpu)
        begun = time.perf_counter()
        rank(found, query.terms)
        rows.append((whole, took[-1], whole - took[-1], cpu, 1000 * (time.perf_counter() - begun)))
    return rows[20:]


def table(rows: Sequence[tuple[float, ...]]) -> Table:
    shown = Table("ms", "p50", "p90", "p99")
    names = ("whole search", "server's took", "ours", "our CPU", "fusion")
    for name, values in zip(names, zip(*rows, strict=True), strict=True):
        shown.add_row(name, *(f"{np.percentile(values, share):.1f}" for share in (50, 90, 99)))
    return shown


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--chunks", type=int, default=20_000)
    parser.add_argument("--questions", type=int, default=100)
    options = parser.parse_args()
    store = ElasticsearchStore(IndexSettings(url=options.url, prefix="benchmark-"))
    console = Console()
    try:
        await store.drop(NAME)
        index = await store.create(NAME, SCHEMA)
        taken = await fill(index, options.chunks)
        console.print(f"{options.chunks:,} chunks written, {options.chunks / taken:,.0f} a second")
        console.print(table(await searches(index, options.questions)))
    finally:
        await store.drop(NAME)
        await store.close()


if __name__ == "__main__":
    asyncio.run(main())
