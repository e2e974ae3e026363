"""The queue of what was asked for over HTTP: kept in the catalogue, done by one process at a time.

Who asks gets the run at once. What waits, or was cut off by a kill or a stop, goes on when a server
of the same data folder runs again: see docs/decisions/0018-queue.md.
"""

import asyncio
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import structlog

from kb import tracing
from kb.errors import CatalogUnavailable, KBError
from kb.types import Run, RunStatus
from serving.bootstrap import Services
from serving.queued_work import LANES, goes_on, work_of
from serving.runs import carried_out

POLL_S: Final = 2.0
"""How often it looks for what other processes have put into the queue, and for what a killed one left."""
RETRY_S: Final = 2.0
"""Pause of a lane after work that waits for its next turn."""
MOST_ATTEMPTS: Final = 3
"""A run during which the process was killed so often is not begun again."""
CUT_OFF: Final = "The server was killed while it did this; it begins again."

log = structlog.get_logger(__name__)


def queued_run(
    kind: str,
    collection: str | None,
    *,
    source_id: str | None = None,
    request: Mapping[str, Any] | None = None,
    requested_by: str | None = None,
) -> Run:
    """A run that waits from now on; `requested_by` is the id of a key.

    What was asked carries the asking request's trace, where there is one, to whoever does it.
    """
    now = datetime.now(UTC)
    return Run(
        uuid.uuid4().hex,
        collection,
        source_id,
        kind,
        RunStatus.QUEUED,
        now,
        queued_at=now,
        request={**(request or {}), **tracing.carrier()},
        requested_by=requested_by,
    )


class RunQueue:
    """Does queued runs, in each lane one after another in the order of their arrival."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._news = asyncio.Event()
        self._lanes: dict[str, asyncio.Task[None]] = {}
        self._runs: set[str] = set()
        self._left: set[str] = set()
        """Runs whose end could not be written: nobody was killed."""
        self._dispatcher: asyncio.Task[None] | None = None
        self._is_working = False

    @property
    def is_working(self) -> bool:
        """Whether it is this process that works on the queue of its data folder."""
        return self._is_working

    async def add(self, run: Run) -> Run:
        """Keeps it: from here on it is done, whatever becomes of this process. Raises NotFoundError."""
        await self._services.catalog.start_run(run)
        self._news.set()
        return run

    async def start(self) -> None:
        self._dispatcher = asyncio.create_task(self._dispatch())

    async def stop(self) -> None:
        """What goes on is stopped, and waits again."""
        if self._dispatcher:
            self._dispatcher.cancel()
            await asyncio.gather(self._dispatcher, return_exceptions=True)

    async def _dispatch(self) -> None:
        """Under a lock: who holds it knows that whatever else says it is running was killed."""
        lock = self._services.lock("queue")
        await lock.acquire(poll_interval=POLL_S)
        self._is_working = True
        try:
            while True:
                self._news.clear()
                try:
                    await self._take_over()
                    await self._begin()
                except CatalogUnavailable as error:
                    log.warning("queue_waits", reason=error.message)
                except Exception:
                    log.exception("queue_failed")
                # Not `wait_for`: before Python 3.12 it misses a stop that comes with the news.
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._news.wait()
        finally:
            self._is_working = False
            doing = list(self._lanes.values())
            for task in doing:
                task.cancel()
            await asyncio.gather(*doing, return_exceptions=True)
            await self._put_back()
            await lock.release()

    async def _put_back(self) -> None:
        """A stop may come between the claiming of a run and its beginning: nobody was killed then."""
        try:
            for run in await self._services.catalog.claimed_runs():
                if not run.cancel_requested:  # Else it is ended at the next start.
                    waiting = replace(run, attempts=run.attempts - 1)
                    await self._services.catalog.requeue_run(waiting)
        except CatalogUnavailable as error:
            log.warning("queue_left_as_it_is", reason=error.message)

    async def _take_over(self) -> None:
        catalog = self._services.catalog
        ours = set(self._runs)  # What ends while the catalogue is read was not cut off.
        for run in await catalog.claimed_runs():
            if run.id in ours:
                continue
            if run.id in self._left:
                self._left.discard(run.id)
                await catalog.requeue_run(replace(run, attempts=0))
                continue
            log.warning("run_was_cut_off", run=run.id, kind=run.kind, attempts=run.attempts)
            close = partial(catalog.update_run, run.id, counts=run.counts)
            if run.cancel_requested:
                await close(status=RunStatus.CANCELLED)
            elif run.attempts >= MOST_ATTEMPTS:
                message = f"The server was killed {run.attempts} times while it did this."
                await close(status=RunStatus.INTERRUPTED, error=message)
            else:
                await catalog.requeue_run(replace(run, error=CUT_OFF))

    async def _begin(self) -> None:
        for lane, kinds in LANES.items():
            if lane in self._lanes:
                continue
            if run := await self._services.catalog.claim_run(kinds):
                self._runs.add(run.id)
                self._left.discard(run.id)
                self._lanes[lane] = asyncio.create_task(self._do(lane, run))

    async def _do(self, lane: str, run: Run) -> None:
        try:
            await self._carry_out(run)
        finally:
            self._runs.discard(run.id)
            del self._lanes[lane]
            self._news.set()

    async def _carry_out(self, run: Run) -> None:
        work, counts = work_of(run, self._services)
        try:
            await carried_out(
                work,
                run,
                counts,
                self._services.catalog,
                stopped=RunStatus.QUEUED,
                goes_on=partial(goes_on, run),
            )
        except KBError as error:
            log.warning(
                "run_not_done", run=run.id, kind=run.kind, code=error.code, reason=error.message
            )
            if isinstance(error, CatalogUnavailable):
                self._left.add(run.id)
            if goes_on(run, error):
                await asyncio.sleep(RETRY_S)
        except Exception:
            log.exception("run_not_done", run=run.id, kind=run.kind)
