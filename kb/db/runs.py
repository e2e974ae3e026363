"""The part of the catalogue that tells what is being done: runs, and the leases of workers."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, delete, func, or_, select, update

from kb.db import tables
from kb.db.session import Database
from kb.db.statements import insert_new, upsert, values_of
from kb.errors import NotFoundError
from kb.types import UNRESTRICTED, Access, Lease, Run, RunStatus

LET_GO = datetime(1970, 1, 1, tzinfo=UTC)
"""The heartbeat of a lease whose worker stopped: long ago, so that any other may take it at once."""


OPEN = frozenset({RunStatus.QUEUED, RunStatus.RUNNING})
"""Of runs that have not ended."""


def no_run(run_id: str) -> NotFoundError:
    return NotFoundError(f"There is no run {run_id!r}. `kb runs list` shows the newest.")


class SQLRuns:
    def __init__(self, database: Database) -> None:
        self._database = database

    # --- Runs -----------------------------------------------------------------------------------

    async def start_run(self, run: Run) -> None:
        async with self._database.write() as connection:
            row = values_of(run) | {"counts": dict(run.counts), "request": dict(run.request)}
            await upsert(connection, tables.runs, [row])

    async def update_run(
        self,
        run_id: str,
        *,
        counts: Mapping[str, int],
        status: RunStatus = RunStatus.RUNNING,
        error: str | None = None,
    ) -> bool:
        now = datetime.now(UTC)
        finished_at = None if status in OPEN else now
        change = (
            update(tables.runs)
            .where(tables.runs.c.id == run_id)
            .values(
                counts=dict(counts),
                status=status,
                error=error,
                finished_at=finished_at,
                beat_at=now,
            )
            .returning(tables.runs.c.cancel_requested)
        )
        async with self._database.write() as connection:
            cancel_requested = await connection.scalar(change)
        if cancel_requested is None:
            raise NotFoundError(f"There is no run {run_id!r}; its collection may be deleted.")
        return bool(cancel_requested)

    async def cancel_run(self, run_id: str) -> Run:
        now = datetime.now(UTC)
        this = update(tables.runs).where(tables.runs.c.id == run_id)
        waiting = this.where(tables.runs.c.status == RunStatus.QUEUED)
        running = this.where(tables.runs.c.status == RunStatus.RUNNING)
        ended = {"status": RunStatus.CANCELLED, "finished_at": now, "cancel_requested": True}
        async with self._database.write() as connection:
            await connection.execute(waiting.values(ended))
            await connection.execute(running.values(cancel_requested=True))
        return await self.run(run_id)

    async def run(self, run_id: str) -> Run:
        query = select(tables.runs).where(tables.runs.c.id == run_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise no_run(run_id)
        return Run(**row._mapping)

    async def runs(
        self,
        *,
        collection: str | None = None,
        source_id: str | None = None,
        status: RunStatus | None = None,
        kinds: Sequence[str] | None = None,
        limit: int = 50,
        access: Access = UNRESTRICTED,
    ) -> list[Run]:
        query = (
            select(tables.runs)
            .order_by(tables.runs.c.started_at.desc(), tables.runs.c.id.desc())
            .limit(limit)
        )
        if access.collections is not None:
            query = query.where(tables.runs.c.collection.in_(sorted(access.collections)))
        if collection is not None:
            query = query.where(tables.runs.c.collection == collection)
        if source_id is not None:
            query = query.where(tables.runs.c.source_id == source_id)
        if status is not None:
            query = query.where(tables.runs.c.status == status)
        if kinds is not None:
            query = query.where(tables.runs.c.kind.in_(kinds))
        async with self._database.read() as connection:
            return [Run(**row._mapping) for row in await connection.execute(query)]

    # --- The queue ------------------------------------------------------------------------------

    async def claim_run(self, kinds: Sequence[str]) -> Run | None:
        first = (
            select(tables.runs.c.id)
            .where(tables.runs.c.status == RunStatus.QUEUED, tables.runs.c.kind.in_(kinds))
            .order_by(tables.runs.c.queued_at, tables.runs.c.id)
            .limit(1)
        )
        async with self._database.read() as connection:  # An idle queue writes nothing.
            run_id = await connection.scalar(first)
        if run_id is None:
            return None
        now = datetime.now(UTC)
        change = (
            update(tables.runs)
            .where(tables.runs.c.id == run_id, tables.runs.c.status == RunStatus.QUEUED)
            .values(
                status=RunStatus.RUNNING,
                started_at=now,
                beat_at=now,
                attempts=tables.runs.c.attempts + 1,
            )
        )
        async with self._database.write() as connection:
            claimed = (await connection.execute(change)).rowcount == 1
        return await self.run(run_id) if claimed else None

    async def requeue_run(self, run: Run) -> None:
        change = (
            update(tables.runs)
            .where(tables.runs.c.id == run.id, tables.runs.c.status == RunStatus.RUNNING)
            .values(
                status=RunStatus.QUEUED,
                queued_at=run.queued_at,
                attempts=run.attempts,
                error=run.error,
            )
        )
        async with self._database.write() as connection:
            await connection.execute(change)

    async def claimed_runs(self) -> list[Run]:
        query = select(tables.runs).where(
            tables.runs.c.status == RunStatus.RUNNING, tables.runs.c.queued_at.is_not(None)
        )
        async with self._database.read() as connection:
            return [Run(**row._mapping) for row in await connection.execute(query)]

    async def queued_runs(self) -> Mapping[str, int]:
        query = (
            select(tables.runs.c.kind, func.count())
            .where(tables.runs.c.status == RunStatus.QUEUED)
            .group_by(tables.runs.c.kind)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return {kind: number for kind, number in rows}  # noqa: C416 - rows are no pairs to mypy

    # --- Leases ---------------------------------------------------------------------------------

    async def take_lease(self, job: str, slot: str, owner: str, timeout_s: float) -> bool:
        now = datetime.now(UTC)
        row = values_of(Lease(job, slot, owner, now))
        take_over = (
            update(tables.leases)
            .where(_slot(job, slot), _abandoned(now, timeout_s))
            .values(owner=owner, beat_at=now)
        )
        async with self._database.write() as connection:
            if (await insert_new(connection, tables.leases, row)).rowcount == 1:
                return True
            return (await connection.execute(take_over)).rowcount == 1

    async def beat_lease(self, job: str, slot: str, owner: str) -> bool:
        return await self._change_own(job, slot, owner, beat_at=datetime.now(UTC))

    async def finish_lease(self, job: str, slot: str, owner: str, error: str | None = None) -> bool:
        now = datetime.now(UTC)
        return await self._change_own(job, slot, owner, beat_at=now, finished_at=now, error=error)

    async def release_lease(self, job: str, slot: str, owner: str) -> bool:
        return await self._change_own(job, slot, owner, owner=None, beat_at=LET_GO)

    async def _change_own(self, job: str, slot: str, holder: str, **values: object) -> bool:
        mine = tables.leases.c.owner == holder, tables.leases.c.finished_at.is_(None)
        change = update(tables.leases).where(_slot(job, slot), *mine).values(values)
        async with self._database.write() as connection:
            return (await connection.execute(change)).rowcount == 1

    async def leases(self, *, abandoned_for_s: float | None = None) -> list[Lease]:
        query = select(tables.leases).order_by(tables.leases.c.slot, tables.leases.c.job)
        if abandoned_for_s is not None:
            query = query.where(_abandoned(datetime.now(UTC), abandoned_for_s))
        async with self._database.read() as connection:
            return [Lease(**row._mapping) for row in await connection.execute(query)]

    async def forget_finished(self, before: datetime) -> None:
        """Finished runs and leases older than this."""
        async with self._database.write() as connection:
            for table in (tables.runs, tables.leases):
                await connection.execute(delete(table).where(table.c.finished_at < before))


def _slot(job: str, slot: str) -> ColumnElement[bool]:
    return (tables.leases.c.job == job) & (tables.leases.c.slot == slot)


def _abandoned(now: datetime, timeout_s: float) -> ColumnElement[bool]:
    """Unfinished, and its worker has been silent for so long that it must be dead."""
    silent = tables.leases.c.beat_at < now - timedelta(seconds=timeout_s)
    return tables.leases.c.finished_at.is_(None) & or_(tables.leases.c.owner.is_(None), silent)
