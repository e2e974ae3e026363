"""The ingestion story: `sync_source` brings the index in line with a source, an engine does the work.

The catalogue is written last, and here only, so whatever is killed is done again; ids are
deterministic, so doing it again changes nothing.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass

from ingestion.indexing import Engine, Outcome
from ingestion.planning import (
    Plan,
    SyncRequest,
    Task,
    check_deletions,
    known_documents,
    walk,
)
from ingestion.progress import SyncProgress
from kb.errors import IndexUnavailable
from kb.ports import Catalog, ChunkIndex, Source
from kb.types import Document, DocumentStatus, Generation

DELETE_BATCH = 500
"""Documents deleted together: each batch is gone for good when the next one begins."""


@dataclass(frozen=True, slots=True)
class Backends:
    """What a synchronisation works with. `index` is that of the live `generation`; `engine` fills it."""

    catalog: Catalog
    generation: Generation
    index: ChunkIndex
    engine: Engine


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
            for task in to_read:
                yield task

    async def settle(outcomes: Sequence[Outcome]) -> None:
        documents = [outcome.document for outcome in outcomes]
        await backends.catalog.save_documents(documents, backends.generation)
        _count(outcomes, progress)

    await backends.engine.run(tasks(), settle, progress)
    moved, lost = check_deletions(plan)
    for documents in (moved, lost):
        await delete([document.id for document in documents], backends)
    _count_gone(moved, lost, progress)
    if progress.indexed or progress.deleted:
        await backends.index.optimise()


async def delete(document_ids: Sequence[str], backends: Backends) -> None:
    """Index first: a document that the catalogue has forgotten must not be found any more.

    Raises IndexUnavailable where the index still gives one of them.
    """
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


def _count_gone(moved: list[Document], lost: list[Document], progress: SyncProgress) -> None:
    """Only at the end is it known that a new document is one that moved."""
    arrived = min(len(moved), progress.new)
    progress.new -= arrived
    progress.moved += arrived
    progress.deleted += len(lost) + len(moved) - arrived
