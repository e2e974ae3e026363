"""The embedded index: one LanceDB table for each generation.

Pitfalls that shaped this file are listed in docs/decisions/0005-embedded-index.md.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from kb.errors import IndexUnavailable
from kb.types import Candidate, Chunk, IndexCount, IndexedDocument, IndexQuery, IndexSchema, Vector
from retrieval import mapping
from retrieval.queries import one_of, search_filter

if TYPE_CHECKING:
    from lancedb import AsyncTable

EXACT_ROWS: Final = 50_000
"""Up to so many rows every vector is compared (about 60 ms on two cores); beyond, IVF_HNSW_SQ."""
EF: Final = 100
REFINE: Final = 3
"""HNSW's search width, and how many times the limit is compared exactly: recall@10 .99 to 1.00
at 20,000 and 200,000 rows (design, section 14)."""
CLEANUP_AFTER: Final = timedelta(hours=1)
"""Older versions of the table go; readers in other processes may still hold younger ones."""
VALUES_AT_ONCE: Final = 1_000
"""Hashes or ids of one filter expression."""

WriteTurn = AbstractAsyncContextManager[None]


class LanceIndex:
    """Implements the port `ChunkIndex`. `write_turn` lets one process write at a time: two that
    upsert the same new ids would both insert them."""

    def __init__(
        self,
        table: "AsyncTable",
        schema: IndexSchema,
        write_turn: "WriteTurns",
        exact_rows: int = EXACT_ROWS,
    ) -> None:
        self._table = table
        self._schema = schema
        self._write_turn = write_turn
        self._exact_rows = exact_rows

    async def replace(self, documents: Sequence[IndexedDocument]) -> None:
        """One commit: new chunks in, changed ones over the old, stale ones out."""
        mapping.check_documents(documents, self._schema.dimensions)
        if not documents:
            return
        rows = await asyncio.to_thread(mapping.rows, documents, self._schema)
        stale = one_of("document_id", (document.id for document in documents))
        async with self._write_turn():
            with translated():
                merge = self._table.merge_insert("id").when_matched_update_all()
                merge = merge.when_not_matched_insert_all().when_not_matched_by_source_delete(stale)
                await merge.execute(rows)

    async def delete(self, document_ids: Sequence[str]) -> None:
        for some in _slices(document_ids):
            async with self._write_turn():
                with translated():
                    await self._table.delete(one_of("document_id", some))

    async def search(self, query: IndexQuery) -> list[Candidate]:
        where = search_filter(query.access, query.document_ids)
        near, matching = await asyncio.gather(
            self._nearest(query.vector, where, query.limit),
            self._matching(query.terms, where, query.limit),
        )
        found = {row["id"]: row for row in matching}
        scores = {row["id"]: float(row["_score"]) for row in matching}
        similarities = {row["id"]: 1 - float(row["_distance"]) for row in near}
        if query.vector is not None:
            for row in matching:
                if row["id"] not in similarities:
                    similarities[row["id"]] = float(np.dot(row["vector"], query.vector))
        found |= {row["id"]: row for row in near}
        return [
            mapping.candidate(row, similarities.get(chunk_id), scores.get(chunk_id, 0.0))
            for chunk_id, row in found.items()
        ]

    async def vectors(self, text_hashes: Sequence[str]) -> Mapping[str, Vector]:
        found: dict[str, Vector] = {}
        for some in _slices(text_hashes):
            for row in await self._rows(("text_hash", "vector"), one_of("text_hash", some)):
                found[row["text_hash"]] = np.array(row["vector"], np.float32)
        return found

    async def chunks(self, document_id: str) -> list[Chunk]:
        rows = await self._rows(mapping.CHUNK_COLUMNS, one_of("document_id", [document_id]))
        return sorted((mapping.chunk(row) for row in rows), key=lambda chunk: chunk.ordinal)

    async def chunk_ids(self) -> Mapping[str, frozenset[str]]:
        found: dict[str, set[str]] = {}
        for row in await self._rows(("id", "document_id")):
            found.setdefault(row["document_id"], set()).add(row["id"])
        return {document_id: frozenset(ids) for document_id, ids in found.items()}

    async def count(self) -> IndexCount:
        rows = await self._rows(("document_id",))
        return IndexCount(len({row["document_id"] for row in rows}), len(rows))

    async def optimise(self) -> None:
        async with self._write_turn():
            with translated():
                await self._index_vectors()
                await self._table.optimize(cleanup_older_than=CLEANUP_AFTER)

    async def close(self) -> None:
        self._table.close()

    async def _index_vectors(self) -> None:
        from lancedb.index import HnswSq

        if await self._table.count_rows() <= self._exact_rows:
            return
        indexed = [
            index for index in await self._table.list_indices() if index.columns == ["vector"]
        ]
        if not indexed:
            await self._table.create_index("vector", config=HnswSq(distance_type="dot"))

    async def _nearest(
        self, vector: Vector | None, where: str | None, limit: int
    ) -> list[dict[str, Any]]:
        if vector is None:
            return []
        with translated():
            query = self._table.query().nearest_to(vector).column("vector").distance_type("dot")
            query = query.ef(max(EF, limit)).refine_factor(REFINE)
            query = query.select([*mapping.HIT_COLUMNS, "_distance"]).limit(limit)
            return await _fetch(query.where(where) if where else query)

    async def _matching(
        self, terms: tuple[str, ...], where: str | None, limit: int
    ) -> list[dict[str, Any]]:
        """BM25 over distinct terms, any of which may match."""
        if not terms:
            return []
        from lancedb.query import MatchQuery

        text = " ".join(dict.fromkeys(terms))
        with translated():
            query = self._table.query().nearest_to_text(MatchQuery(text, "terms"))
            query = query.select([*mapping.HIT_COLUMNS, "vector", "_score"]).limit(limit)
            return await _fetch(query.where(where) if where else query)

    async def _rows(self, columns: Sequence[str], where: str | None = None) -> list[dict[str, Any]]:
        with translated():
            query = self._table.query().select(list(columns))
            return await _fetch(query.where(where) if where else query)


class WriteTurns:
    """Lets writers take turns: coroutines by a lock in memory, processes by one on a file."""

    def __init__(self, path: str) -> None:
        from filelock import AsyncFileLock

        self._here = asyncio.Lock()
        self._everywhere = AsyncFileLock(path, thread_local=False)

    def __call__(self) -> WriteTurn:
        return self._turn()

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        async with self._here, self._everywhere:
            yield


@contextmanager
def translated() -> Iterator[None]:
    """Lance's errors, of several kinds and all from below, as ours."""
    try:
        yield
    except (RuntimeError, OSError, ValueError) as error:
        reason = str(error).split(", /root/")[0]
        raise IndexUnavailable(
            f"The index failed: {reason}. Is its folder there, writable, and the disk not full?"
        ) from error


async def _fetch(query: Any) -> list[dict[str, Any]]:
    table = await query.to_arrow()
    found: list[dict[str, Any]] = table.to_pylist()
    return found


def _slices(values: Sequence[str]) -> Iterator[Sequence[str]]:
    return (
        values[start : start + VALUES_AT_ONCE] for start in range(0, len(values), VALUES_AT_ONCE)
    )
