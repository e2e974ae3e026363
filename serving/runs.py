"""A piece of work as a run: its counts are seen while it goes on, it can be cancelled, and it ends."""

import asyncio
import uuid
from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from ingestion.progress import SyncProgress
from kb.errors import CatalogUnavailable, KBError, NotFoundError, RunCancelled
from kb.ports import Catalog
from kb.types import Run, RunStatus, SourceRecord

HEARTBEAT_S = 1.0
"""How often the counts of a run are written to the catalogue, and a request to cancel is seen."""
SILENT = timedelta(minutes=2)
"""A run that has not been heard of for so long belongs to a process that was killed."""

log = structlog.get_logger(__name__)


async def recorded(
    work: Coroutine[object, object, None],
    record: SourceRecord,
    kind: str,
    progress: SyncProgress,
    catalog: Catalog,
) -> Run:
    """Does the work as a run of this source and gives the run; it ends in the catalogue whatever happens.

    Raises RunCancelled when a person cancelled it, and what the work raises.
    """
    run = Run(
        uuid.uuid4().hex,
        record.collection,
        record.id,
        kind,
        RunStatus.RUNNING,
        datetime.now(UTC),
    )
    doing = asyncio.ensure_future(work)
    status, message = RunStatus.FAILED, None
    try:
        await catalog.start_run(run)
        await _watch(doing, run, progress, catalog)
        status = RunStatus.DONE
    except asyncio.CancelledError:
        status = RunStatus.INTERRUPTED
        raise
    except RunCancelled:
        status = RunStatus.CANCELLED
        raise
    except KBError as error:
        message = error.message
        raise
    finally:
        doing.cancel()
        await asyncio.wait({doing})
        await _end(replace(run, status=status, error=message), progress, catalog)
        log.info("sync_finished", run=run.id, status=status, **progress.counts())
    return await catalog.run(run.id)


async def _end(run: Run, progress: SyncProgress, catalog: Catalog) -> None:
    """A catalogue that can't be written now must not hide why the work failed: whoever holds the
    source's lock next closes the run."""
    counts = progress.counts()
    try:
        await catalog.update_run(run.id, counts=counts, status=run.status, error=run.error)
    except (CatalogUnavailable, NotFoundError) as error:
        if run.status is RunStatus.DONE:
            raise
        log.warning("run_not_closed", run=run.id, code=error.code, reason=error.message)


async def _watch(
    doing: asyncio.Future[None], run: Run, progress: SyncProgress, catalog: Catalog
) -> None:
    while not (await asyncio.wait({doing}, timeout=HEARTBEAT_S))[0]:
        if await catalog.update_run(run.id, counts=progress.counts()):
            raise RunCancelled(f"The run {run.id} was cancelled. What was finished is kept.")
    await doing


async def cancel(run_id: str, catalog: Catalog) -> Run:
    """Asks a run to end, within seconds; that of a killed process is closed. Raises NotFoundError."""
    run = await catalog.cancel_run(run_id)
    if run.status is RunStatus.RUNNING and is_silent(run):
        await catalog.update_run(run.id, counts=run.counts, status=RunStatus.INTERRUPTED)
        run = await catalog.run(run.id)
    return run


def is_silent(run: Run) -> bool:
    return datetime.now(UTC) - (run.beat_at or run.started_at) > SILENT


async def close_interrupted(record: SourceRecord, catalog: Catalog) -> None:
    """For who holds the source's lock: a run of it that still says 'running' was killed."""
    for run in await catalog.runs(source_id=record.id, status=RunStatus.RUNNING):
        await catalog.update_run(run.id, counts=run.counts, status=RunStatus.INTERRUPTED)
