"""One synchronisation of one source, as a run that can be watched."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import structlog
from filelock import Timeout

from ingestion.pipeline import sync_source
from ingestion.progress import SyncProgress
from ingestion.sources import FOLDER, FolderSource, folder_record, upload_record
from kb.errors import (
    ConfigError,
    GenerationSwitched,
    IndexUnavailable,
    KBError,
    NotFoundError,
)
from kb.ports import Catalog
from kb.types import Document, Run, RunStatus, SourceRecord
from serving.bootstrap import Services
from serving.patience import retrying

HEARTBEAT_S = 1.0
"""How often the counts of a run are written to the catalogue."""

log = structlog.get_logger(__name__)


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
    await run_sync(_source(record, records), services, progress, scope)
    for nested in records:
        if (
            nested.kind == FOLDER
            and nested.id != record.id
            and Path(nested.root).is_relative_to(path)
        ):
            await run_sync(_source(nested, records), services, progress)


async def run_sync(
    source: FolderSource,
    services: Services,
    progress: SyncProgress,
    scope: str = "",
    *,
    wait: bool = False,
) -> Run:
    """Synchronises under the source's lock; the run ends in the catalogue whatever happens.

    Where another process holds the lock: waits for it, or raises ConfigError. While the index is gone,
    and when another generation goes live, it begins again from what is done already.
    """
    record = source.record
    await services.ensure_collection(record.collection)
    async with _only_one(record, services, wait):
        await services.catalog.ensure_source(record)
        await _close_interrupted_runs(record, services.catalog)
        run = Run(
            uuid.uuid4().hex,
            record.collection,
            record.id,
            "sync",
            RunStatus.RUNNING,
            datetime.now(UTC),
        )
        await services.catalog.start_run(run)
        async with _recorded(run, progress, services.catalog):
            patience_s = services.settings.ingest.index_patience_s
            async for attempt in retrying(
                patience_s, IndexUnavailable, GenerationSwitched, done=lambda: progress.written
            ):
                with attempt:
                    progress.restart()
                    backends = await services.backends(record.collection)
                    await sync_source(source, backends, progress, scope)
    return run


async def upload_source(collection: str, services: Services) -> FolderSource:
    """The collection's upload area as a source; its folder is made where missing."""
    folder = services.upload_folder(collection)
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    return FolderSource(upload_record(collection, folder))


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
        if record.kind == FOLDER and path.is_relative_to(record.root):
            scope = path.relative_to(record.root).as_posix()
            return record, "" if scope == "." else scope
    if path.is_file():
        return folder_record(collection, path.parent), path.name
    return folder_record(collection, path), ""


def _source(record: SourceRecord, records: list[SourceRecord]) -> FolderSource:
    others = (Path(other.root) for other in records if other.id != record.id)
    return FolderSource(record, frozenset(others))


@asynccontextmanager
async def _only_one(record: SourceRecord, services: Services, wait: bool) -> AsyncIterator[None]:
    lock = services.lock(f"source-{record.id}")
    try:
        await lock.acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        raise ConfigError(
            f"{record.root} is being ingested by another process. Wait until it has finished."
        ) from error
    try:
        yield
    finally:
        await lock.release()


async def _close_interrupted_runs(record: SourceRecord, catalog: Catalog) -> None:
    """We hold the lock, so a run of this source that still says 'running' was killed."""
    for run in await catalog.runs(collection=record.collection):
        if run.source_id == record.id and run.status is RunStatus.RUNNING:
            await catalog.update_run(
                run.id, counts=run.counts, status=RunStatus.FAILED, error="interrupted"
            )


@asynccontextmanager
async def _recorded(run: Run, progress: SyncProgress, catalog: Catalog) -> AsyncIterator[None]:
    """Writes the run's counts while it goes on, and how it ended."""

    async def heartbeat() -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            await catalog.update_run(run.id, counts=progress.counts())

    beating = asyncio.create_task(heartbeat())
    status, message = RunStatus.FAILED, None
    try:
        yield
        status = RunStatus.DONE
    except asyncio.CancelledError:
        status = RunStatus.CANCELLED
        raise
    except KBError as error:
        message = error.message
        raise
    finally:
        beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beating
        await catalog.update_run(run.id, counts=progress.counts(), status=status, error=message)
        log.info("sync_finished", run=run.id, status=status, **progress.counts())


async def sync_collection(collection: str, services: Services, progress: SyncProgress) -> None:
    """Brings all sources of a collection up to date, one after another."""
    records = await services.catalog.sources(collection)
    for record in records:
        await run_sync(_source(record, records), services, progress, wait=True)


async def sync_document(document: Document, services: Services, progress: SyncProgress) -> None:
    """Brings one document of a source up to date. Raises NotFoundError when its source is gone."""
    records = await services.catalog.sources(document.collection)
    record = next((r for r in records if r.id == document.source_id), None)
    if record is None:
        raise NotFoundError(f"The source of {document.uri} is gone. Ingest its folder again.")
    source = _source(record, records)
    await run_sync(source, services, progress, source.relative_path(document.uri))
