"""The ingestion story: `sync_source` brings the index in line with a source, an engine does the work.

The catalogue is written last, and here only, so whatever is killed is done again; ids are
deterministic, so doing it again changes nothing.
"""

from collections.abc import AsyncIterator, Iterable, Sequence

from ingestion.backends import Backends
from ingestion.duplicates import Originals, give_way, without_duplicates
from ingestion.indexing import Ledger, Outcome
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
from kb.ports import Source
from kb.types import Document, DocumentStatus

DELETE_BATCH = 500
"""Documents deleted together: each batch is gone for good when the next one begins."""


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

    await backends.engine.run(tasks(), CatalogLedger(backends, progress), progress)
    moved, lost = check_deletions(plan)
    await delete([document.id for document in (*moved, *lost)], backends, progress)
    _count_gone(moved, lost, progress)
    if progress.indexed or progress.deleted:
        await backends.index.optimise()


class CatalogLedger(Ledger):
    """The catalogue's side of a synchronisation: which of two equal texts is indexed, and what is done."""

    def __init__(self, backends: Backends, progress: SyncProgress) -> None:
        self._backends = backends
        self._progress = progress
        self._originals = Originals(backends.catalog)

    async def screen(self, outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        return await without_duplicates(outcomes, self._originals)

    async def before_writing(self, outcomes: Sequence[Outcome]) -> None:
        """Duplicates take over before one that they stand for is emptied."""
        emptied = [o.document.id for o in outcomes if not o.is_new and not o.document.chunk_count]
        await give_way(emptied, self._backends, self._progress)

    async def settle(self, outcomes: Sequence[Outcome]) -> None:
        outcomes = await self._screened(outcomes)
        # Duplicates last: one whose original was refused is not saved, and found without it next time.
        for is_duplicate in (False, True):
            documents = [
                outcome.document
                for outcome in outcomes
                if bool(outcome.document.duplicate_of) is is_duplicate
            ]
            if documents:
                await self._backends.catalog.save_documents(documents, self._backends.generation)
        _count(outcomes, self._progress)

    async def _screened(self, outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        """Of an engine that has embedded duplicates too: their chunks are taken out again."""
        screened = await without_duplicates(outcomes, self._originals)
        late = [
            after.document.id
            for before, after in zip(outcomes, screened, strict=True)
            if after.document.duplicate_of and not before.document.duplicate_of
        ]
        if late:
            await self._backends.index.delete(late)
        return screened


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
