"""Jobs at their times: each slot of each job is done once, whichever of several workers gets it.

APScheduler decides when; its store keeps the next time of each job, so that what was missed while no
worker ran is caught up, once. A row in the catalogue decides who: it has place for one worker for each
slot, and passes to another when that one dies. See docs/sync.md.
"""

import asyncio
import contextlib
import os
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import structlog
from apscheduler.executors.base import BaseExecutor
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from filelock import FileLock

from kb import tracing
from kb.errors import UNFORESEEN, CatalogUnavailable, KBError
from kb.ports import Catalog
from serving.patience import retrying

LONGEST_TICK_S = 5.0
"""How often abandoned slots are looked for, and the clock, which may have jumped."""
BEATS_PER_LEASE = 4
CATALOG_PATIENCE_S = 600.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """`trigger` is one of APScheduler's; `when` tells it apart from what it was set to before."""

    name: str
    trigger: Any
    when: str
    action: Callable[[], Awaitable[None]]


class Worker:
    """Several may work on one catalogue, on one machine or on many.

    `schedule` is the SQLite file with the next time of each job. A slot's name is the local time in
    `zone`: the hour that a clock goes through twice has each slot once.
    """

    def __init__(
        self,
        jobs: Iterable[Job],
        catalog: Catalog,
        schedule: Path,
        zone: tzinfo,
        lease_s: float,
    ) -> None:
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._jobs = {job.name: job for job in jobs}
        self._catalog = catalog
        self._schedule = schedule
        self._zone = zone
        self._lease_s = lease_s
        self._doing: set[asyncio.Task[None]] = set()
        self._turns = {name: asyncio.Lock() for name in self._jobs}
        self.ticks = 0
        """How often it has looked for abandoned slots; before the next time it looks at the clock."""

    @property
    def is_idle(self) -> bool:
        return not self._doing

    async def run(self) -> None:
        """Works until it is cancelled: what it is at then is stopped and left to the next worker."""
        scheduler = self._start_scheduler()
        log.info(
            "worker_started", worker=self.owner, jobs=[job.when for job in self._jobs.values()]
        )
        try:
            while True:
                self.ticks += 1
                await self._take_over()
                await asyncio.sleep(min(self._lease_s / 2, LONGEST_TICK_S))
                scheduler.wakeup()
        finally:
            scheduler.shutdown(wait=False)
            for task in self._doing:
                task.cancel()
            await asyncio.gather(*self._doing, return_exceptions=True)
            log.info("worker_stopped", worker=self.owner)

    def _start_scheduler(self) -> AsyncIOScheduler:
        store = SQLAlchemyJobStore(url=f"sqlite:///{self._schedule}")
        scheduler = AsyncIOScheduler(
            jobstores={"default": store},
            executors={"default": SlotExecutor(self._fire)},
            job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1},
            timezone=self._zone,
        )
        # Two that start together would both create the table.
        with FileLock(self._schedule.with_suffix(".lock")):
            scheduler.start(paused=True)
            self._keep_jobs(scheduler)
        scheduler.resume()
        return scheduler

    def _keep_jobs(self, scheduler: AsyncIOScheduler) -> None:
        """Only what is new or set otherwise is written: writing a job anew forgets what it has missed."""
        kept = {job.id: job.name for job in scheduler.get_jobs()}
        for name in kept.keys() - self._jobs.keys():
            scheduler.remove_job(name)
        for name, job in self._jobs.items():
            if kept.get(name) != job.when:
                scheduler.add_job(
                    _no_function, job.trigger, id=name, name=job.when, replace_existing=True
                )

    def _fire(self, job: str, due: datetime) -> asyncio.Task[None]:
        slot = due.astimezone(self._zone).replace(tzinfo=None).isoformat(timespec="seconds")
        return self._begin(job, slot)

    async def _take_over(self) -> None:
        try:
            abandoned = await self._catalog.leases(abandoned_for_s=self._lease_s)
        except CatalogUnavailable as error:
            log.warning("worker_waits", reason=error.message)
            return
        begun = {task.get_name() for task in self._doing}
        for lease in abandoned:
            if lease.job in self._jobs and _task_name(lease.job, lease.slot) not in begun:
                self._begin(lease.job, lease.slot)

    def _begin(self, job: str, slot: str) -> asyncio.Task[None]:
        task = asyncio.create_task(self._do(job, slot), name=_task_name(job, slot))
        self._doing.add(task)
        task.add_done_callback(self._doing.discard)
        return task

    async def _do(self, job: str, slot: str) -> None:
        """Does a slot unless it is another's, or was done; slots of one job one after another."""
        async with self._turns[job]:
            if await self._take(job, slot):
                await self._do_taken(job, slot)

    async def _do_taken(self, job: str, slot: str) -> None:
        log.info("job_started", job=job, slot=slot, worker=self.owner)
        work = asyncio.ensure_future(self._act(job))
        try:
            if not await self._keep_lease(work, job, slot):
                log.warning("job_lost", job=job, slot=slot, worker=self.owner)
                return
            error = _failure(work, job, slot)
            await self._catalog.finish_lease(job, slot, self.owner, error)
            log.info("job_finished", job=job, slot=slot, error=error)
        except asyncio.CancelledError:
            await _stopped(work)
            await self._catalog.release_lease(job, slot, self.owner)
            raise
        finally:
            await _stopped(work)

    async def _act(self, job: str) -> None:
        with tracing.begun(f"job {job}", {}, {}):
            await self._jobs[job].action()

    async def _take(self, job: str, slot: str) -> bool:
        async for attempt in retrying(CATALOG_PATIENCE_S, CatalogUnavailable):
            with attempt:
                return await self._catalog.take_lease(job, slot, self.owner, self._lease_s)
        raise AssertionError("retrying ends with a result or an error")

    async def _keep_lease(self, work: asyncio.Future[None], job: str, slot: str) -> bool:
        """Beats until the work is done; False when the slot has become another's."""
        while not (await asyncio.wait({work}, timeout=self._lease_s / BEATS_PER_LEASE))[0]:
            try:
                if not await self._catalog.beat_lease(job, slot, self.owner):
                    return False
            except CatalogUnavailable as error:
                log.warning("worker_waits", reason=error.message)
        return True


class SlotExecutor(BaseExecutor):  # type: ignore[misc]
    """Begins what is due, and says at which time it was due: APScheduler's own don't tell the job."""

    def __init__(self, fire: Callable[[str, datetime], asyncio.Task[None]]) -> None:
        super().__init__()
        self._fire = fire

    def _do_submit_job(self, job: Any, run_times: list[datetime]) -> None:
        task = self._fire(job.id, run_times[-1])
        task.add_done_callback(lambda _: self._run_job_success(job.id, []))


@asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[None]:
    """The worker works beside the block, and has stopped when the block has ended."""

    async def run() -> None:
        try:
            await worker.run()
        except Exception:
            log.exception("worker_failed")
            raise

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _no_function() -> None:
    """What the store is given to keep; `SlotExecutor` finds the action by the job's name."""


def _task_name(job: str, slot: str) -> str:
    return f"{job} {slot}"


def _failure(work: asyncio.Future[None], job: str, slot: str) -> str | None:
    """Why the work failed, logged; None when it did not."""
    try:
        work.result()
    except KBError as error:
        log.error("job_failed", job=job, slot=slot, code=error.code, reason=error.message)
        return error.message
    except Exception:
        log.exception("job_failed", job=job, slot=slot)
        return UNFORESEEN
    return None


async def _stopped(work: asyncio.Future[None]) -> None:
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait({work})
