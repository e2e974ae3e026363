"""The ingestion story: `sync_source` brings the index in line with a source, `_index` is its engine.

Stages overlap behind bounded queues: files are parsed in other processes while earlier ones are
embedded and still earlier ones are written. The catalogue is written last, so whatever is killed
is done again, and ids are deterministic, so doing it again changes nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ingestion.backends import Backends, passage_vectors
from ingestion.duplicates import Originals, as_duplicate, give_way, indexable
from ingestion.planning import (
    MAX_ATTEMPTS,
    PASSING,
    Plan,
    SyncRequest,
    Task,
    check_deletions,
    known_documents,
    walk,
)
from ingestion.progress import SyncProgress
from ingestion.weighed_queue import WeighedQueue
from kb.errors import DocumentError, IndexUnavailable
from kb.ports import Parser, Source
from kb.types import (
    Chunk,
    Document,
    DocumentStatus,
    FailureCategory,
    IndexedDocument,
    PreparedDocument,
)

BATCH_CHUNKS = 128
"""Most chunks embedded or written together: enough to sort by length, few enough to write often."""
WAITING_CHUNKS = 256
"""Chunks that wait between two stages: while one batch is embedded the next one is parsed."""
DELETE_BATCH = 500
"""Documents deleted together: each batch is gone for good when the next one begins."""
OPTIMISE_CHUNKS = 2_000
"""Unindexed rows slow lexical search from about 4,000 on (design, section 14)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A document that was read: its row for the catalogue and, unless it failed, its chunks."""

    document: Document
    is_new: bool
    chunks: tuple[Chunk, ...] = ()


@dataclass(frozen=True, slots=True)
class Embedded:
    """A document ready to be written: first to the index, then to the catalogue."""

    outcome: Outcome
    indexable: IndexedDocument


async def sync_source(
    source: Source,
    backends: Backends,
    progress: SyncProgress,
    request: SyncRequest | None = None,
) -> None:
    """Makes index and catalogue hold exactly what the source (or the part asked for) holds now.

    Raises ConfigError where the source can't be read, DeletionRefused, and BackendError where a
    backend fails or another generation went live meanwhile; what was done until then stays done, and
    the next call goes on.
    """
    request = request or SyncRequest()
    plan = Plan(source, request, await known_documents(backends.catalog, source, request.scope))

    async def tasks() -> AsyncIterator[Task]:
        async for to_read, touched in walk(plan, progress):
            if touched:
                await backends.catalog.save_documents(touched, backends.generation)
            changed = [task.document.id for task in to_read if task.is_changed]
            plan.note(await give_way(changed, backends, progress))
            for task in to_read:
                yield task

    await _index(tasks(), backends, progress)
    moved, lost = check_deletions(plan)
    await delete([document.id for document in (*moved, *lost)], backends, progress)
    _count_gone(moved, lost, progress)
    if progress.indexed or progress.deleted:
        await backends.index.optimise()


async def _index(tasks: AsyncIterator[Task], backends: Backends, progress: SyncProgress) -> None:
    """Reads, embeds and writes all tasks, each stage behind a bounded queue."""
    to_parse: asyncio.Queue[Task | None] = asyncio.Queue(backends.parsers)
    parsed = WeighedQueue[Outcome](WAITING_CHUNKS, _weight)
    embedded = WeighedQueue[Embedded](WAITING_CHUNKS, lambda ready: _weight(ready.outcome))
    try:
        async with asyncio.TaskGroup() as stages:
            stages.create_task(_feed(tasks, to_parse, backends.parsers))
            stages.create_task(_parse(to_parse, parsed, backends))
            stages.create_task(_embed(parsed, embedded, backends, progress))
            stages.create_task(_write(embedded, backends, progress))
    except ExceptionGroup as group:
        raise group.exceptions[0] from group


def _weight(outcome: Outcome) -> int:
    """A document without chunks takes room too."""
    return max(1, len(outcome.chunks))


async def _feed(
    tasks: AsyncIterator[Task], to_parse: asyncio.Queue[Task | None], parsers: int
) -> None:
    async for task in tasks:
        await to_parse.put(task)
    for _ in range(parsers):
        await to_parse.put(None)


async def _parse(
    to_parse: asyncio.Queue[Task | None],
    parsed: WeighedQueue[Outcome],
    backends: Backends,
) -> None:
    async def lane() -> None:
        while task := await to_parse.get():
            await parsed.put(await read(task, backends.parser))

    async with asyncio.TaskGroup() as lanes:
        for _ in range(backends.parsers):
            lanes.create_task(lane())
    await parsed.end()


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


async def _embed(
    parsed: WeighedQueue[Outcome],
    embedded: WeighedQueue[Embedded],
    backends: Backends,
    progress: SyncProgress,
) -> None:
    originals = Originals(backends.catalog)
    while outcomes := await parsed.take(BATCH_CHUNKS):
        outcomes = await without_duplicates(outcomes, originals)
        chunks = [chunk for outcome in outcomes for chunk in outcome.chunks]
        vectors = await passage_vectors(chunks, backends, progress)
        for outcome in outcomes:
            dimensions = backends.embedder.dimensions
            ready = indexable(outcome.document, outcome.chunks, vectors, dimensions)
            await embedded.put(Embedded(outcome, ready))
    await embedded.end()


async def without_duplicates(outcomes: Sequence[Outcome], originals: Originals) -> list[Outcome]:
    """A document whose text another one brings, or has brought, to the index is left without chunks."""
    found = await originals.of([outcome.document for outcome in outcomes])
    return [
        replace(
            outcome, document=as_duplicate(outcome.document, found[outcome.document.id]), chunks=()
        )
        if outcome.document.id in found
        else outcome
        for outcome in outcomes
    ]


async def _write(
    embedded: WeighedQueue[Embedded], backends: Backends, progress: SyncProgress
) -> None:
    unindexed = 0
    while batch := await embedded.take(BATCH_CHUNKS):
        emptied = [r.indexable.id for r in batch if not r.outcome.is_new and not r.outcome.chunks]
        await give_way(emptied, backends, progress)
        refused = await backends.index.replace([ready.indexable for ready in batch])
        outcomes = [_accepted(ready.outcome, refused) for ready in batch]
        await _save([outcome.document for outcome in outcomes], backends)
        _count(outcomes, progress)
        unindexed += sum(len(outcome.chunks) for outcome in outcomes)
        if unindexed >= OPTIMISE_CHUNKS:
            await backends.index.optimise()
            unindexed = 0


async def _save(documents: Sequence[Document], backends: Backends) -> None:
    """Duplicates last: one whose original was refused is not saved, and found without it next time."""
    own = [document for document in documents if document.duplicate_of is None]
    duplicates = [document for document in documents if document.duplicate_of]
    for some in (own, duplicates):
        if some:
            await backends.catalog.save_documents(some, backends.generation)


def _accepted(outcome: Outcome, refused: Mapping[str, str]) -> Outcome:
    """The outcome as it is, or as a failure where the index refused the document for good."""
    reason = refused.get(outcome.document.id)
    if reason is None:
        return outcome
    message = f"The index refuses this document: {reason}"
    failed = _failed(outcome.document, FailureCategory.REJECTED, message)
    return Outcome(failed, outcome.is_new)


async def delete(
    document_ids: Sequence[str], backends: Backends, progress: SyncProgress | None = None
) -> None:
    """Index first: a document that the catalogue has forgotten must not be found any more.

    A duplicate of one of them takes its place before. Raises IndexUnavailable where the index still
    gives one of them.
    """
    await give_way(document_ids, backends, progress or SyncProgress())
    for start in range(0, len(document_ids), DELETE_BATCH):
        batch = document_ids[start : start + DELETE_BATCH]
        await backends.index.delete(batch)
        for document_id in batch:
            if await backends.index.chunks(document_id):
                raise IndexUnavailable(
                    f"The index still holds the deleted document {document_id}. "
                    "`kb doctor` says whether it is well."
                )
        await backends.catalog.delete_documents(batch, backends.generation)


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


def _count(outcomes: Iterable[Outcome], progress: SyncProgress) -> None:
    for outcome in outcomes:
        if outcome.document.error_category:
            progress.failed[outcome.document.error_category] += 1
            progress.quarantined += outcome.document.status is DocumentStatus.QUARANTINED
            continue
        if outcome.is_new:
            progress.new += 1
        else:
            progress.changed += 1
        progress.warned += bool(outcome.document.warnings)
        progress.duplicates += outcome.document.duplicate_of is not None


def _count_gone(moved: list[Document], lost: list[Document], progress: SyncProgress) -> None:
    """Only at the end is it known that a new document is one that moved."""
    arrived = min(len(moved), progress.new)
    progress.new -= arrived
    progress.moved += arrived
    progress.deleted += len(lost) + len(moved) - arrived
