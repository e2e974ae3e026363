"""One index generation as one LanceDB table.

LanceDB lets two writers add the same new id twice without a word, so every write takes the store's
file lock. The operating system frees that lock when its holder is killed. Readers take no lock.
Lance never calls fsync: after a power failure commits may be missing, and the catalogue is the truth.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from kb.disk import REMEDY, is_full
from kb.errors import IndexDiskFull, IndexUnavailable
from kb.types import (
    Candidate,
    Chunk,
    IndexCount,
    IndexedContent,
    IndexedDocument,
    IndexQuery,
    IndexSchema,
    Vector,
)
from retrieval import mapping, queries, resident_rows
from retrieval.lance_residence import Neighbours, Residence
from retrieval.resident_rows import ResidentRows

if TYPE_CHECKING:
    from lancedb.query import AsyncFTSQuery, AsyncVectorQuery
    from lancedb.table import AsyncTable

EXACT_ROWS: Final = 50_000
"""Rows under which the exact search serves (23 ms at 20,000 rows of 384, 305 ms at 200,000)."""
RESIDENT_ROWS: Final = 20_000
"""Rows up to which a table is held in memory, 4 kB each (docs/decisions/0024)."""
SEARCHES_PER_CORE: Final = 2
MOST_SEARCHES: Final = 16
"""Read at a time: a container may have fewer cores than its machine, which is what Python counts."""
SEARCH_EF: Final = 100
REFINE_FACTOR: Final = 3
"""IVF_HNSW_SQ at ef 100, refine 3: recall@10 .99 to 1.00, 17 ms at 200,000 rows (docs/decisions/0005)."""
KEEP_VERSIONS: Final = timedelta(minutes=10)
"""Older versions of the table are deleted; a reader holds one for a single query only."""
LOCK_TIMEOUT_S: Final = 600.0
LOCK_POLL_S: Final = 0.01
HASHES_PER_QUERY: Final = 2_000
COMMIT_ATTEMPTS: Final = 5
"""Tries of a write that an index build in another process got ahead of."""

_RUST_PLACE: Final = re.compile(r",? \S*/\.cargo/\S+")
"""Where in Lance's own source an error arose: nothing a user can act on."""


class Shared:
    """What the indexes of one store share: turns at reading, and memory."""

    def __init__(self) -> None:
        # First come, first served: of 64 searches at once Lance leaves some for more than a minute.
        self.turn = asyncio.Semaphore(min(SEARCHES_PER_CORE * (os.cpu_count() or 1), MOST_SEARCHES))
        self.neighbours = Neighbours()


class LanceIndex:
    """The `ChunkIndex` port on a LanceDB table. `LanceStore` makes it."""

    def __init__(
        self,
        table: "AsyncTable",
        schema: IndexSchema,
        lock_file: Path,
        *,
        exact_rows: int = EXACT_ROWS,
        resident_rows: int = RESIDENT_ROWS,
        shared: "Shared | None" = None,
    ) -> None:
        """`resident_rows`: how many a table may have that is held in memory (`hold`)."""
        shared = shared or Shared()
        self._table = table
        self._schema = schema
        self._lock_file = lock_file
        self._exact_rows = exact_rows
        self._resident_rows = resident_rows
        self._turn = shared.turn
        place = lock_file.with_name(f"{table.name}.lance")
        self._resident = Residence(place, self._all_rows, shared.neighbours)

    # --- Writing --------------------------------------------------------------------------------

    async def replace(
        self, documents: Sequence[IndexedDocument], *, refresh: bool = True
    ) -> Mapping[str, str]:
        """Every write is visible when it returns, with `refresh` or without; nothing is refused."""
        mapping.check_documents(documents, self._schema.dimensions)
        if not documents:
            return {}
        rows = await asyncio.to_thread(mapping.arrow_rows, documents, self._schema)
        ours = queries.one_of("document_id", (document.id for document in documents))

        async def merge() -> None:
            # One commit: a reader sees a document's old chunks or its new ones, never both.
            await (
                self._table.merge_insert("id")
                .when_matched_update_all()
                .when_not_matched_insert_all()
                .when_not_matched_by_source_delete(ours)
                .execute(rows)
            )

        await self._write(merge)
        return {}

    async def refresh(self) -> None:
        """Every write is seen at once."""

    async def delete(self, document_ids: Sequence[str], *, refresh: bool = True) -> None:
        if not document_ids:
            return

        async def delete() -> None:
            await self._table.delete(queries.one_of("document_id", document_ids))

        await self._write(delete)

    async def optimise(self) -> None:
        """BM25 takes its statistics from rows folded in: between two calls scores are approximate."""

        async def fold() -> None:
            await self._table.optimize(cleanup_older_than=KEEP_VERSIONS)
            if await self._wants_vector_index():
                await self._build_vector_index()

        await self._write(fold)

    async def _wants_vector_index(self) -> bool:
        if await self._has_vector_index():
            return False
        return int(await self._table.count_rows()) >= self._exact_rows

    async def _build_vector_index(self) -> None:
        from lancedb.index import HnswSq

        await self._table.create_index("vector", config=HnswSq(distance_type="dot"))

    async def _has_vector_index(self) -> bool:
        return any("vector" in index.columns for index in await self._table.list_indices())

    async def _write(self, operation: Callable[[], Awaitable[None]]) -> None:
        """Runs one write under the lock. Cancelling waits for it: Lance would go on without the lock."""
        task = asyncio.ensure_future(self._locked(operation))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task])
            raise

    async def _locked(self, operation: Callable[[], Awaitable[None]]) -> None:
        async with write_lock(self._lock_file):
            with translated(self._table.name):
                await _retrying(operation)

    # --- Reading --------------------------------------------------------------------------------

    async def search(self, query: IndexQuery) -> list[Candidate]:
        if query.vector is not None:
            mapping.check_query_vector(query.vector, self._schema.dimensions)
        if resident := self._resident.rows():
            matches = await self._matches(query)
            # Asked again: it may have been written to while this search waited for its turn.
            if self._resident.rows() is resident:
                found = resident.candidates(query, matches)
                if found is not None:
                    return found
        async with self._turn:
            with translated(self._table.name):
                dense, lexical = await asyncio.gather(self._dense(query), self._lexical(query))
        return mapping.candidates(dense, lexical, query.vector)

    async def hold(self) -> None:
        """Reads a small table into memory, for searches until it changes. Searches ask for it themselves."""
        await self._resident.load()

    async def _all_rows(self) -> ResidentRows | None:
        with translated(self._table.name):
            if await self._table.count_rows() > self._resident_rows:
                return None
            everything = self._table.query().select(list(resident_rows.COLUMNS))
            table = await everything.to_arrow()
            return await asyncio.to_thread(ResidentRows, table, self._schema.dimensions)

    async def _matches(self, query: IndexQuery) -> dict[str, float]:
        """The BM25 of the chunks that the lexical side finds, by chunk id."""
        if not query.terms or query.limit < 1:
            return {}
        async with self._turn:
            with translated(self._table.name):
                rows = await self._lexical(query, ["id", "_score"])
        return {row["id"]: row["_score"] for row in rows}

    async def _dense(self, query: IndexQuery) -> list[dict[str, Any]]:
        if query.vector is None or query.limit < 1:
            return []
        search = self._table.query().nearest_to(query.vector).column("vector").distance_type("dot")
        # The exact search of a table without a vector index takes no notice of these two.
        search = search.refine_factor(REFINE_FACTOR)
        # It brings REFINE_FACTOR times the limit to be compared exactly, and Lance refuses a smaller ef.
        search = search.ef(max(SEARCH_EF, query.limit * REFINE_FACTOR))
        # Lance prints a warning to stderr unless the score it adds is asked for.
        return await _rows(search, query, [*mapping.HIT_COLUMNS, "_distance"])

    async def _lexical(
        self, query: IndexQuery, columns: list[str] | None = None
    ) -> list[dict[str, Any]]:
        from lancedb.query import MatchQuery

        if not query.terms or query.limit < 1:
            return []
        text = queries.lexical_text(query.terms)
        # pydantic's plugin for mypy does not see the defaults of this dataclass.
        match = MatchQuery(text, "terms")  # type: ignore[call-arg]
        search = self._table.query().nearest_to_text(match)
        vector = [] if query.vector is None else ["vector"]
        return await _rows(search, query, columns or [*mapping.HIT_COLUMNS, *vector, "_score"])

    async def vectors(self, text_hashes: Sequence[str]) -> Mapping[str, Vector]:
        found: dict[str, Vector] = {}
        hashes = list(dict.fromkeys(text_hashes))
        for start in range(0, len(hashes), HASHES_PER_QUERY):
            wanted = queries.one_of("text_hash", hashes[start : start + HASHES_PER_QUERY])
            async for batch in self._stream(["text_hash", "vector"], wanted):
                matrix = batch["vector"].flatten().to_numpy(zero_copy_only=False)
                rows = matrix.reshape(-1, self._schema.dimensions).astype(np.float32)
                found.update(zip(batch["text_hash"].to_pylist(), rows, strict=True))
        return found

    async def chunks(self, document_id: str) -> list[Chunk]:
        rows: list[dict[str, Any]] = []
        wanted = queries.one_of("document_id", [document_id])
        async for batch in self._stream(list(mapping.CHUNK_COLUMNS), wanted):
            rows.extend(batch.to_pylist())
        return sorted((mapping.chunk_of(row) for row in rows), key=lambda chunk: chunk.ordinal)

    async def contents(self) -> Mapping[str, IndexedContent]:
        columns = ["document_id", "id", "revision"]
        rows: list[tuple[str, str, str]] = []
        async for batch in self._stream(columns):
            rows.extend(zip(*(batch[column].to_pylist() for column in columns), strict=True))
        return mapping.contents(rows)

    async def count(self) -> IndexCount:
        documents: set[str] = set()
        chunks = 0
        async for batch in self._stream(["document_id"]):
            chunks += batch.num_rows
            documents.update(batch["document_id"].unique().to_pylist())
        return IndexCount(len(documents), chunks)

    async def let_go(self) -> None:
        """Frees what is held in memory. It can be searched on: by the files."""
        await self._resident.close()

    async def close(self) -> None:
        await self._resident.close()
        self._table.close()  # type: ignore[no-untyped-call]

    async def _stream(self, columns: list[str], where: str | None = None) -> AsyncIterator[Any]:
        """Record batches of some columns, so that a large table never lies in memory at once."""
        with translated(self._table.name):
            rows = self._table.query().select(columns)
            if where is not None:
                rows = rows.where(where)
            async for batch in await rows.to_batches():
                yield batch


async def _rows(
    search: "AsyncVectorQuery | AsyncFTSQuery", query: IndexQuery, columns: list[str]
) -> list[dict[str, Any]]:
    """Runs one side. LanceDB applies `where` before it ranks unless told otherwise."""
    search = search.select(columns).limit(query.limit)
    where = queries.restriction(query)
    if where is not None:
        search = search.where(where)
    table = await search.to_arrow()
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


async def _retrying(operation: Callable[[], Awaitable[None]]) -> None:
    for attempt in range(1, COMMIT_ATTEMPTS + 1):
        try:
            await operation()
        except RuntimeError as error:
            # LanceDB has no type for it; the message is all there is.
            if "conflict" not in str(error).lower() or attempt == COMMIT_ATTEMPTS:
                raise
            await asyncio.sleep(0.05 * 2**attempt)
        else:
            return


@asynccontextmanager
async def write_lock(file: Path) -> AsyncIterator[None]:
    """The right to write, among all tasks and processes. Waits without blocking the event loop.

    A new lock object each time, because one object lets its owner in again.
    """
    from filelock import AsyncFileLock, Timeout

    lock = AsyncFileLock(
        file, timeout=LOCK_TIMEOUT_S, poll_interval=LOCK_POLL_S, run_in_executor=False
    )
    try:
        await lock.acquire()
    except Timeout as error:
        raise IndexUnavailable(
            f"Another process has been writing to the index for {LOCK_TIMEOUT_S:.0f} seconds."
            " Wait until it is done, or end it, and try again."
        ) from error
    except OSError as error:
        if is_full(error):
            raise IndexDiskFull(f"The disk of the index is full. {REMEDY}") from error
        raise IndexUnavailable(f"The index cannot be locked for writing: {error}") from error
    try:
        yield
    finally:
        await lock.release()


@contextmanager
def translated(name: str) -> Iterator[None]:
    """What LanceDB raises when its files fail: RuntimeError, OSError and, from Arrow, ValueError."""
    try:
        yield
    except (RuntimeError, OSError, ValueError) as error:
        if is_full(error):
            raise IndexDiskFull(f"The disk of the index {name} is full. {REMEDY}") from error
        reason = _RUST_PLACE.sub("", str(error))
        raise IndexUnavailable(
            f"The index {name} failed: {reason}. Check the disk and the data folder; if the index is"
            " damaged, delete its collection and ingest again."
        ) from error
