"""How fast the embedded index takes and finds chunks, side by side in one run.

    python -m benchmarks.index [--rows 2000 20000] [--questions 30]

Chunks are of 100 words drawn by Zipf's law, vectors are random and 384 wide.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from kb import ids
from kb.types import Access, Chunk, IndexedDocument, IndexQuery, IndexSchema
from retrieval.lance_index import LanceIndex
from retrieval.lance_store import LanceStore

DIMENSIONS = 384
CHUNKS_PER_DOCUMENT = 10
SCHEMA = IndexSchema("benchmark", DIMENSIONS, 1, 1)
RNG = np.random.default_rng(0)
WORDS = np.array([f"word{number}x" for number in range(20_000)])
WEIGHTS = 1 / np.arange(1, len(WORDS) + 1)
WEIGHTS /= WEIGHTS.sum()
LOOKUPS = ("10,000 hashes", "chunk ids", "count", "one document")


def document(name: str) -> IndexedDocument:
    vectors = RNG.standard_normal((CHUNKS_PER_DOCUMENT, DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    chunks = []
    for ordinal in range(CHUNKS_PER_DOCUMENT):
        text = " ".join(RNG.choice(WORDS, 100, p=WEIGHTS))
        digest = ids.text_hash(text)
        chunk_id = ids.chunk_id(name, digest, 0)
        chunks.append(Chunk(chunk_id, name, ordinal, "", (), None, 0, len(text), text, digest, 100))
    groups = ("staff",) if RNG.random() < 0.5 else ("board",)
    return IndexedDocument(name, f"file:///{name}", groups, "", tuple(chunks), vectors)


async def filled(folder: Path, rows: int) -> LanceIndex:
    index = await LanceStore(folder).create("kb-benchmark-1", SCHEMA)
    count = rows // CHUNKS_PER_DOCUMENT
    for start in range(0, count, 100):
        await index.replace([document(f"d{n}") for n in range(start, min(start + 100, count))])
    return index


async def seconds(call: Callable[[], Awaitable[object]]) -> float:
    begun = time.perf_counter()
    await call()
    return time.perf_counter() - begun


def questions(count: int) -> Iterator[IndexQuery]:
    for _ in range(count):
        vector = RNG.standard_normal(DIMENSIONS).astype(np.float32)
        words = tuple(RNG.choice(WORDS[:5000], 8, replace=False))
        yield IndexQuery(vector / np.linalg.norm(vector), words, 50)


async def searches(index: LanceIndex, count: int) -> dict[str, float]:
    """Median milliseconds by kind of search."""
    staff = Access(frozenset({"staff"}))
    found: dict[str, list[float]] = {}
    for query in questions(count):
        vector, terms = query.vector, query.terms
        kinds = {
            "vector": IndexQuery(vector, (), 50),
            "lexical": IndexQuery(None, terms, 50),
            "hybrid": query,
            "hybrid, half readable": IndexQuery(vector, terms, 50, staff),
        }
        for kind, asked in kinds.items():
            found.setdefault(kind, []).append(await seconds(partial(index.search, asked)))
    return {kind: 1000 * statistics.median(times) for kind, times in found.items()}


async def replacing(index: LanceIndex, rows: int) -> dict[int, float]:
    """Rows a second by rows of one call: half new documents, half there already."""
    rates = {}
    for size in (10, 100, 1000):
        taken, written = 0.0, 0
        for turn in range(4):
            first = int(RNG.integers(rows // CHUNKS_PER_DOCUMENT))
            prefix = f"new{size}-{turn}-" if turn % 2 else "d"
            batch = [document(f"{prefix}{first + n}") for n in range(size // CHUNKS_PER_DOCUMENT)]
            taken += await seconds(partial(index.replace, batch))
            written += size
        rates[size] = written / taken
    return rates


async def lookups(index: LanceIndex) -> dict[str, float]:
    known = [chunk.text_hash for chunk in await index.chunks("d0")]
    hashes = [f"{n:032x}" for n in range(10_000 - len(known))] + known
    calls: Sequence[Callable[[], Awaitable[object]]] = (
        lambda: index.vectors(hashes),
        index.contents,
        index.count,
        lambda: index.chunks("d1"),
    )
    return {
        name: 1000 * min([await seconds(call) for _ in range(3)])
        for name, call in zip(LOOKUPS, calls, strict=True)
    }


async def with_scalar_indexes(index: LanceIndex) -> None:
    from lancedb.index import BTree

    for column in ("id", "document_id", "text_hash"):
        await index._table.create_index(column, config=BTree())


async def fsync_cost(folder: Path) -> float:
    """Milliseconds to fsync what one more write of 100 rows left."""
    index = await LanceStore(folder).open("kb-benchmark-1", SCHEMA)
    before = await asyncio.to_thread(everything, folder)
    await index.replace([document(f"fsync{n}") for n in range(10)])
    fresh = await asyncio.to_thread(everything, folder) - before
    begun = time.perf_counter()
    for path in fresh | {path.parent for path in fresh}:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
    return 1000 * (time.perf_counter() - begun)


def everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


async def measured(rows: int, count: int, *, scalar: bool) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        index = await filled(Path(name), rows)
        if scalar:
            await with_scalar_indexes(index)
        folded = await seconds(index.optimise)
        found = {f"{kind}, ms": value for kind, value in (await searches(index, count)).items()}
        found |= {f"{kind}, ms": value for kind, value in (await lookups(index)).items()}
        rates = await replacing(index, rows)
        found |= {f"replace {size} rows, rows/s": rate for size, rate in rates.items()}
        unfolded = await searches(index, count)
        found["hybrid, 4,440 rows not folded in, ms"] = unfolded["hybrid"]
        found["optimise after the first fill, s"] = folded
        found["optimise after 4,440 rows, s"] = await seconds(index.optimise)
        found["fsync of one write, ms"] = await fsync_cost(Path(name))
        return found


async def main(rows: Sequence[int], count: int) -> None:
    columns: dict[str, dict[str, float]] = {}
    for size in rows:
        for scalar in (False, True):
            label = f"{size:,}, BTree" if scalar else f"{size:,}"
            columns[label] = await measured(size, count, scalar=scalar)
    table = Table("", *columns)
    for row in next(iter(columns.values())):
        table.add_row(row, *(f"{column[row]:,.1f}" for column in columns.values()))
    Console(width=110).print(table)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, nargs="+", default=[2_000, 20_000])
    arguments.add_argument("--questions", type=int, default=30)
    given = arguments.parse_args()
    asyncio.run(main(given.rows, given.questions))
