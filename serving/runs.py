"""A piece of work as a run: its counts are seen while it goes on, it can be cancelled, and it ends."""

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from ingestion.progress import SyncProgress
from kb import tracing
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
    """Does the work as a new run of this source and gives the run.

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
    try:
        await catalog.start_run(run)
    except BaseException:
        work.close()
        raise
    return await carried_out(work, run, progress.counts, catalog)


async def carried_out(
    work: Coroutine[object, object, None],
    run: Run,
    counts: Callable[[], Mapping[str, int]],
    catalog: Catalog,
    *,
    stopped: RunStatus = RunStatus.INTERRUPTED,
    goes_on: Callable[[KBError], bool] = lambda _: False,
) -> Run:
    """Does the work of a run that is running, and gives the run; it ends in the catalogue whatever happens.

    `stopped` becomes of it when this task is cancelled. After an error with which it `goes_on` it waits
    for its next turn. Raises as `recorded` does.
    """
    with tracing.begun(f"run {run.kind}", run.request, _described(run)):
        doing = asyncio.ensure_future(work)
        status, message = RunStatus.FAILED, None
        try:
            await _watch(doing, run, counts, catalog)
            status = RunStatus.DONE
        except asyncio.CancelledError:
            status = stopped
            raise
        except RunCancelled:
            status = RunStatus.CANCELLED
            raise
        except KBError as error:
            message = error.message
            status = RunStatus.QUEUED if goes_on(error) else RunStatus.FAILED
            raise
        finally:
            doing.cancel()
            await asyncio.wait({doing})
            await _end(replace(run, counts=counts(), status=status, error=message), catalog)
            log.info("run_finished", run=run.id, kind=run.kind, status=status, **counts())
    return await catalog.run(run.id)


def _described(run: Run) -> dict[str, str]:
    return {"kb.run.id": run.id} | ({"kb.collection": run.collection} if run.collection else {})


async def _end(run: Run, catalog: Catalog) -> None:
    """A catalogue that can't be written now must not hide why the work failed: whoever holds the
    source's lock next, or the queue, closes the run."""
    try:
        if run.status is RunStatus.QUEUED:
            await catalog.requeue_run(_waiting(run))
        else:
            await catalog.update_run(run.id, counts=run.counts, status=run.status, error=run.error)
    except (CatalogUnavailable, NotFoundError) as error:
        if run.status is RunStatus.DONE:
            raise
        log.warning("run_not_closed", run=run.id, code=error.code, reason=error.message)


def _waiting(run: Run) -> Run:
    """Behind all others after an error; in its place, as if not begun, when its process stops."""
    if run.error:
        return replace(run, queued_at=datetime.now(UTC), attempts=0)
    return replace(run, attempts=run.attempts - 1)


async def _watch(
    doing: asyncio.Future[None],
    run: Run,
    counts: Callable[[], Mapping[str, int]],
    catalog: Catalog,
) -> None:
    while not (await asyncio.wait({doing}, timeout=HEARTBEAT_S))[0]:
        if await catalog.update_run(run.id, counts=counts()):
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
    """For who holds the source's lock: a run of it that still says 'running' was killed.

    Those out of the queue are the queue's own to close, or to begin again.
    """
    for run in await catalog.runs(source_id=record.id, status=RunStatus.RUNNING):
        if run.queued_at is not None:
            continue
        await catalog.update_run(run.id, counts=run.counts, status=RunStatus.INTERRUPTED)
