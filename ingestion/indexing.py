"""How planned documents come into the index: the port `Engine`, and the engine in this process.

Stages overlap behind bounded queues: files are parsed in other processes while earlier ones are
embedded and still earlier ones are written.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

import numpy as np

from ingestion.planning import MAX_ATTEMPTS, PASSING, Task
from ingestion.progress import SyncProgress
from ingestion.weighed_queue import WeighedQueue
from kb import ids
from kb.errors import DocumentError
from kb.ports import ChunkIndex, Embedder, Parser
from kb.types import (
    Chunk,
    Document,
    DocumentStatus,
    FailureCategory,
    IndexedDocument,
    PreparedDocument,
    Vector,
)

BATCH_CHUNKS = 128
"""Most chunks embedded or written together: enough to sort by length, few enough to write often."""
WAITING_CHUNKS = 256
"""Chunks that wait between two stages: while one batch is embedded the next one is parsed."""
EMBED_SLICE = 32
"""Chunks of one embedder call: the progress moves and a cancellation is heard between calls."""
OPTIMISE_CHUNKS = 2_000
"""Unindexed rows slow lexical search from about 4,000 on (design, section 14)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A document that was read: its row for the catalogue and, unless it failed, its chunks."""

    document: Document
    is_new: bool
    chunks: tuple[Chunk, ...] = ()


class Ledger(ABC):
    """What an engine is answerable to. On an executor nothing is decided: there is no catalogue."""

    async def screen(self, outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        """Documents that were read, before anything is embedded: some may need no chunks."""
        return outcomes

    async def before_writing(  # noqa: B027 - an executor has nothing to do here
        self, outcomes: Sequence[Outcome]
    ) -> None:
        """The index is about to hold these documents as the outcomes say, and nothing else of them."""

    @abstractmethod
    async def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Takes outcomes whose documents are in the index as they say: the catalogue may be written."""


class Engine(Protocol):
    """Brings planned documents into one generation's index. Nothing of it writes to the catalogue."""

    async def run(self, tasks: AsyncIterator[Task], ledger: Ledger, progress: SyncProgress) -> None:
        """Reads, embeds and writes all tasks; settles every outcome, some at a time, never two at once.

        An engine whose executors embed as they read need not screen.

        A document that can't be read is an outcome. Of the progress it counts the chunks only.
        Cancelled, it stops what it has begun. Raises BackendError; what was settled until then stays
        done, and doing the same again changes nothing.
        """
        ...


@dataclass(frozen=True, slots=True)
class Embedded:
    """A document ready to be written: first to the index, then to the catalogue."""

    outcome: Outcome
    indexable: IndexedDocument


@dataclass(frozen=True, slots=True)
class InProcessEngine:
    """Implements `Engine`. `parsers` is how many documents are parsed at a time.

    `embedder` is the one that the index was built with. Without `refresh` the caller must refresh the
    index before it believes an outcome.
    """

    index: ChunkIndex
    embedder: Embedder
    parser: Parser
    parsers: int
    refresh: bool = True

    async def run(self, tasks: AsyncIterator[Task], ledger: Ledger, progress: SyncProgress) -> None:
        """Each stage behind a bounded queue."""
        to_parse: asyncio.Queue[Task | None] = asyncio.Queue(self.parsers)
        parsed = WeighedQueue[Outcome](WAITING_CHUNKS, _weight)
        embedded = WeighedQueue[Embedded](WAITING_CHUNKS, lambda ready: _weight(ready.outcome))
        try:
            async with asyncio.TaskGroup() as stages:
                stages.create_task(self._feed(tasks, to_parse))
                stages.create_task(self._parse(to_parse, parsed))
                stages.create_task(self._embed(parsed, embedded, ledger, progress))
                stages.create_task(self._write(embedded, ledger))
        except ExceptionGroup as group:
            raise _cause(group) from group

    async def _feed(self, tasks: AsyncIterator[Task], to_parse: asyncio.Queue[Task | None]) -> None:
        async for task in tasks:
            await to_parse.put(task)
        for _ in range(self.parsers):
            await to_parse.put(None)

    async def _parse(
        self, to_parse: asyncio.Queue[Task | None], parsed: WeighedQueue[Outcome]
    ) -> None:
        async def lane() -> None:
            while task := await to_parse.get():
                await parsed.put(await read(task, self.parser))

        async with asyncio.TaskGroup() as lanes:
            for _ in range(self.parsers):
                lanes.create_task(lane())
        await parsed.end()

    async def _embed(
        self,
        parsed: WeighedQueue[Outcome],
        embedded: WeighedQueue[Embedded],
        ledger: Ledger,
        progress: SyncProgress,
    ) -> None:
        while read := await parsed.take(BATCH_CHUNKS):
            outcomes = await ledger.screen(read)
            chunks = [chunk for outcome in outcomes for chunk in outcome.chunks]
            vectors = await passage_vectors(chunks, self.index, self.embedder, progress)
            for outcome in outcomes:
                dimensions = self.embedder.dimensions
                ready = indexable(outcome.document, outcome.chunks, vectors, dimensions)
                await embedded.put(Embedded(outcome, ready))
        await embedded.end()

    async def _write(self, embedded: WeighedQueue[Embedded], ledger: Ledger) -> None:
        unindexed = 0
        while batch := await embedded.take(BATCH_CHUNKS):
            await ledger.before_writing([ready.outcome for ready in batch])
            documents = [ready.indexable for ready in batch]
            refused = await self.index.replace(documents, refresh=self.refresh)
            await ledger.settle([_accepted(ready.outcome, refused) for ready in batch])
            unindexed += sum(len(ready.outcome.chunks) for ready in batch)
            if unindexed >= OPTIMISE_CHUNKS:
                await self.index.optimise()
                unindexed = 0


async def passage_vectors(
    chunks: Sequence[Chunk], index: ChunkIndex, embedder: Embedder, progress: SyncProgress
) -> Mapping[str, Vector]:
    """By text hash: those the index already has, and each missing passage embedded once."""
    passages = {chunk.text_hash: chunk.passage for chunk in chunks}
    vectors = dict(await index.vectors(list(passages)))
    missing = [text_hash for text_hash in passages if text_hash not in vectors]
    missing.sort(key=lambda text_hash: len(passages[text_hash]))
    progress.reused += len(chunks) - len(missing)
    for start in range(0, len(missing), EMBED_SLICE):
        hashes = missing[start : start + EMBED_SLICE]
        embedded = await embedder.passages([passages[name] for name in hashes])
        vectors.update(zip(hashes, embedded, strict=True))
        progress.embedded += len(hashes)
    return vectors


def indexable(
    document: Document, chunks: Sequence[Chunk], vectors: Mapping[str, Vector], dimensions: int
) -> IndexedDocument:
    """A document as the index takes it. Without chunks, as where it failed, it is deleted there."""
    rows = [vectors[chunk.text_hash] for chunk in chunks]
    return IndexedDocument(
        id=document.id,
        uri=document.uri,
        groups=document.groups,
        revision=ids.revision(document),
        chunks=tuple(chunks),
        vectors=np.array(rows, dtype=np.float32).reshape(len(rows), dimensions),
    )


def _cause(error: Exception) -> Exception:
    """The first of what failed: stages, and the lanes within one, each come as a group."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _weight(outcome: Outcome) -> int:
    """A document without chunks takes room too."""
    return max(1, len(outcome.chunks))


async def read(task: Task, parser: Parser) -> Outcome:
    """One document's chunks, or why there are none: a failure is an outcome, not an exception."""
    try:
        prepared = await parser.prepare(task.file.path, task.document.id)
    except DocumentError as error:
        return Outcome(_failed(task.document, error.category, error.message), task.is_new)
    except OSError as error:
        message = f"The file can't be read: {error.strerror}. Check that it is there and readable."
        return Outcome(_failed(task.document, FailureCategory.UNREADABLE, message), task.is_new)
    return Outcome(_indexed(task.document, prepared), task.is_new, prepared.chunks)


def _accepted(outcome: Outcome, refused: Mapping[str, str]) -> Outcome:
    """The outcome as it is, or as a failure where the index refused the document for good."""
    reason = refused.get(outcome.document.id)
    if reason is None:
        return outcome
    message = f"The index refuses this document: {reason}"
    failed = _failed(outcome.document, FailureCategory.REJECTED, message)
    return Outcome(failed, outcome.is_new)


def _indexed(document: Document, prepared: PreparedDocument) -> Document:
    return replace(
        document,
        title=prepared.title,
        media_type=prepared.media_type,
        status=DocumentStatus.INDEXED,
        chunk_count=len(prepared.chunks),
        attempts=0,
        error_category=None,
        error_message=None,
        warnings=prepared.warnings,
        indexed_at=datetime.now(UTC),
        text_hash=prepared.text_hash,
        duplicate_of=None,
    )


def _failed(document: Document, category: FailureCategory, message: str) -> Document:
    attempts = document.attempts + 1
    given_up = category in PASSING and attempts >= MAX_ATTEMPTS
    return replace(
        document,
        status=DocumentStatus.QUARANTINED if given_up else DocumentStatus.FAILED,
        chunk_count=0,
        attempts=attempts,
        error_category=category,
        error_message=message,
        warnings=(),
        indexed_at=None,
        text_hash="",
        duplicate_of=None,
    )
