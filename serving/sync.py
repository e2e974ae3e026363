"""Bringing index and catalogue in line with sources: one, some, or the part that a path names."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from ingestion.duplicates import give_way
from ingestion.pipeline import sync_source
from ingestion.planning import DeleteGuard, EngineKind, SyncMode, SyncRequest
from ingestion.progress import SyncProgress
from ingestion.sources import folder_record
from kb.disk import check_free, full_disk_told
from kb.errors import (
    ConfigError,
    GenerationSwitched,
    IndexUnavailable,
    KBError,
    NotFoundError,
    OriginalGone,
    SourceBusy,
    SourcePaused,
)
from kb.ports import Source
from kb.types import Document, DocumentStatus, Run, SourceKind, SourceRecord
from serving.bootstrap import Services
from serving.patience import retrying
from serving.runs import close_interrupted, recorded
from serving.sources import only_one, stored_source

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SourceResult:
    """What became of one source: a run that was done, or the error that kept it from that."""

    source: SourceRecord
    progress: SyncProgress
    run: Run | None = None
    error: KBError | None = None

    @property
    def failed(self) -> bool:
        """A source that another process is just synchronising is no failure."""
        return self.error is not None and not isinstance(self.error, SourceBusy)


async def run_sync(
    record: SourceRecord,
    services: Services,
    progress: SyncProgress,
    request: SyncRequest,
    *,
    wait: bool = False,
) -> Run:
    """Synchronises under the source's lock and gives the finished run.

    Where another process holds the lock: waits for it, or raises SourceBusy. While the index is gone,
    and when another generation goes live, it begins again from what is done already.
    Raises ConfigError for a source that is paused or can't be read, RunCancelled, BackendError; DiskFull
    before anything is begun where too little space is free.
    """
    async with _alone(record, services, wait=wait) as source:
        work = _sync(source, services, progress, request)
        return await recorded(work, record, request.mode, progress, services.catalog)


async def sync_within_run(
    record: SourceRecord, services: Services, progress: SyncProgress, request: SyncRequest
) -> None:
    """As `run_sync` when it waits, as a part of a run that there is already."""
    async with _alone(record, services, wait=True) as source:
        await _sync(source, services, progress, request)


@asynccontextmanager
async def _alone(record: SourceRecord, services: Services, *, wait: bool) -> AsyncIterator[Source]:
    """The source, under its lock and with room on the disk. Raises as `run_sync` does."""
    folder = services.settings.data_dir
    with full_disk_told(folder):
        check_free(folder, services.settings.ingest.min_free_mb)
        await services.ensure_collection(record.collection)
        async with only_one(record, services, wait=wait):
            source = await stored_source(record, services)
            if source.record.paused:
                raise SourcePaused(
                    f"The source {source.record.root} is paused: `kb sources resume {record.id}`."
                )
            await close_interrupted(record, services.catalog)
            yield source


async def _sync(
    source: Source, services: Services, progress: SyncProgress, request: SyncRequest
) -> None:
    patience_s = services.settings.ingest.index_patience_s
    async for attempt in retrying(
        patience_s,
        IndexUnavailable,
        GenerationSwitched,
        OriginalGone,
        done=lambda: progress.written,
    ):
        with attempt:
            progress.restart()
            backends = await services.backends(source.record.collection, request.engine)
            await sync_source(source, backends, progress, request)


def request_of(
    services: Services,
    mode: SyncMode = SyncMode.INCREMENTAL,
    scope: str = "",
    *,
    confirm_deletes: bool = False,
    engine: EngineKind = EngineKind.IN_PROCESS,
) -> SyncRequest:
    """A request with the settings' guard against deleting too much."""
    ingest = services.settings.ingest
    guard = DeleteGuard(ingest.max_delete_share, ingest.free_deletes)
    return SyncRequest(mode, scope, None if confirm_deletes else guard, engine)


async def sync_all(
    records: Iterable[SourceRecord],
    services: Services,
    request: SyncRequest,
    show: Callable[[SyncProgress], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> list[SourceResult]:
    """Synchronises sources one after another; one that fails does not keep the others from theirs.

    `show` is entered around each. Cancelling one run goes on with the next source.
    Raises ConfigError where the engine is not to be had.
    """
    if request.engine is EngineKind.SPARK:
        services.spark()
    results = []
    for record in records:
        progress = SyncProgress()
        try:
            with show(progress):
                run = await run_sync(record, services, progress, request)
            results.append(SourceResult(record, progress, run))
        except KBError as error:
            log.warning("source_not_synced", source=record.id, code=error.code, reason=str(error))
            results.append(SourceResult(record, progress, error=error))
    return results


async def wanted_sources(
    services: Services, source_id: str | None = None, collection: str | None = None
) -> list[SourceRecord]:
    """One source, or all of a collection or of all, without those that are paused.

    Raises NotFoundError, and ConfigError when the one that is named is paused.
    """
    if source_id:
        record = await services.catalog.source(source_id)
        if record.paused:
            raise SourcePaused(f"This source is paused: `kb sources resume {source_id}`.")
        return [record]
    if collection:
        await services.catalog.collection(collection)
    return [r for r in await services.catalog.sources(collection) if not r.paused]


async def ingest_path(
    path: Path, collection: str, services: Services, progress: SyncProgress
) -> None:
    """Indexes a folder or a single file.

    A path below a folder that is already a source brings only that part up to date; sources below
    the path are brought up to date too. Raises ConfigError when there is no such path, BackendError.
    """
    path = await asyncio.to_thread(_existing, path)
    records = await services.catalog.sources(collection)
    record, scope = _record_for(path, collection, records)
    await run_sync(record, services, progress, request_of(services, scope=scope))
    for nested in records:
        if (
            nested.kind is SourceKind.FOLDER
            and nested.id != record.id
            and Path(nested.root).is_relative_to(path)
        ):
            await run_sync(nested, services, progress, request_of(services))


async def sync_collection(collection: str, services: Services, progress: SyncProgress) -> None:
    """Brings all sources of a collection up to date, one after another; waits for other processes."""
    for record in await wanted_sources(services, collection=collection):
        await run_sync(record, services, progress, request_of(services), wait=True)


async def sync_document(document: Document, services: Services, progress: SyncProgress) -> None:
    """Brings one document of a source up to date. Raises NotFoundError when its source is gone."""
    record, scope = await place_of(document, services)
    await run_sync(record, services, progress, request_of(services, scope=scope))


async def place_of(document: Document, services: Services) -> tuple[SourceRecord, str]:
    """A document's source and its path within it. Raises NotFoundError when its source is gone."""
    try:
        record = await services.catalog.source(document.source_id)
    except NotFoundError as error:
        raise NotFoundError(
            f"The source of {document.uri} is gone. Ingest its folder again."
        ) from error
    source = await stored_source(record, services)
    return record, source.relative_path(document.uri)


async def to_be_read_again(document: Document, services: Services) -> Document:
    """A document that failed or was taken out as one that the next sync reads. Twice is harmless."""
    async for attempt in retrying(services.settings.ingest.index_patience_s, GenerationSwitched):
        with attempt:
            backends = await services.backends(document.collection)
            await give_way([document.id], backends, SyncProgress())
            pending = replace(document, status=DocumentStatus.PENDING, attempts=0)
            await services.catalog.save_documents([pending])
            return pending
    raise AssertionError("retrying ends with a result or an error")


def _existing(path: Path) -> Path:
    absolute = path.expanduser().resolve()
    if not absolute.exists():
        raise ConfigError(f"{absolute} does not exist.")
    return absolute


def _record_for(
    path: Path, collection: str, records: list[SourceRecord]
) -> tuple[SourceRecord, str]:
    """The source that looks after a path, and the part of it that is meant.

    A file on its own makes its folder a source of which only that file is read.
    """
    for record in records:
        if record.kind is SourceKind.FOLDER and path.is_relative_to(record.root):
            scope = path.relative_to(record.root).as_posix()
            return record, "" if scope == "." else scope
    if path.is_file():
        return folder_record(collection, path.parent), path.name
    return folder_record(collection, path), ""
