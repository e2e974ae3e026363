"""What the queue does: each kind of run that can be asked for over HTTP, as work over the services."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from ingestion.planning import EngineKind, SyncMode
from ingestion.progress import SyncProgress
from kb.errors import BackendError, DocumentError, KBError, NotFoundError
from kb.types import Run
from retrieval.generations import CopyProgress
from serving.backup.kept import folder_of
from serving.backup.making import create
from serving.bootstrap import Services
from serving.golden import EVALUATION, Accuracy, measure_live
from serving.parts import embedder_named
from serving.reindexing import reindex
from serving.repair import repair
from serving.sync import place_of, request_of, sync_within_run, to_be_read_again

UPLOAD: Final = "upload"
RETRY_DOCUMENT: Final = "retry_document"
REPAIR: Final = "repair"
REINDEX: Final = "reindex"
BACKUP: Final = "backup"

LANES: Final[Mapping[str, tuple[str, ...]]] = {
    "documents": (UPLOAD, RETRY_DOCUMENT),
    "sources": (*SyncMode, REPAIR),
    "indexes": (REINDEX, BACKUP, EVALUATION),
}
"""Of each lane one run goes on at a time: nobody waits hours for a file because an index is built anew."""

Counts = Callable[[], Mapping[str, int]]
Work = Coroutine[object, object, None]


def work_of(run: Run, services: Services) -> tuple[Work, Counts]:
    """What a run was asked to do, and the counts that grow while it does."""
    if run.kind in (REINDEX, BACKUP):
        copied = CopyProgress()
        copy = _reindex if run.kind == REINDEX else _back_up
        return copy(run, services, copied), copied.counts
    if run.kind == EVALUATION:
        accuracy = Accuracy()
        return _evaluate(run, services, accuracy), accuracy.counts
    read = SyncProgress()
    act = {UPLOAD: _index_upload, RETRY_DOCUMENT: _read_again, REPAIR: _repair}.get(run.kind, _sync)
    return act(run, services, read), read.counts


def goes_on(run: Run, error: KBError) -> bool:
    """An upload was accepted and nobody asks for it again: what may pass is waited for."""
    return run.kind == UPLOAD and isinstance(error, BackendError) and error.retryable


async def _index_upload(run: Run, services: Services, progress: SyncProgress) -> None:
    record = await services.catalog.source(_source_of(run))
    request = request_of(services, scope=run.request["scope"])
    await sync_within_run(record, services, progress, request)
    await _check_read(run, services)


async def _read_again(run: Run, services: Services, progress: SyncProgress) -> None:
    document = await services.catalog.document(run.request["document_id"])
    await to_be_read_again(document, services)
    record, scope = await place_of(document, services)
    await sync_within_run(record, services, progress, request_of(services, scope=scope))
    await _check_read(run, services)


async def _check_read(run: Run, services: Services) -> None:
    """The failure of the one document is that of its run. Raises DocumentError."""
    try:
        document = await services.catalog.document(run.request["document_id"])
    except NotFoundError:
        return  # Deleted while it waited.
    if document.error_category is not None:
        raise DocumentError(document.error_message or "", document.error_category)


async def _sync(run: Run, services: Services, progress: SyncProgress) -> None:
    record = await services.catalog.source(_source_of(run))
    asked: Mapping[str, Any] = run.request
    request = request_of(
        services,
        SyncMode(run.kind),
        confirm_deletes=asked.get("confirm_deletes", False),
        engine=EngineKind(asked.get("engine", EngineKind.IN_PROCESS)),
    )
    await sync_within_run(record, services, progress, request)


async def _repair(run: Run, services: Services, progress: SyncProgress) -> None:
    assert run.collection is not None
    await repair(run.collection, services, progress)


async def _reindex(run: Run, services: Services, progress: CopyProgress) -> None:
    assert run.collection is not None
    chosen = embedder_named(run.request.get("embedder", ""))
    await reindex(run.collection, services, progress, chosen, run.request.get("chunks_per_s"))


async def _evaluate(run: Run, services: Services, accuracy: Accuracy) -> None:
    assert run.collection is not None
    await measure_live(run.collection, services, accuracy)


async def _back_up(_: Run, services: Services, progress: CopyProgress) -> None:
    await create(folder_of(services.settings), services, progress)


def _source_of(run: Run) -> str:
    if run.source_id is None:
        raise NotFoundError("The source of this run was removed.")
    return run.source_id
