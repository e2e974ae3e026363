"""All of a catalogue written into another, empty one, of either kind."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from kb.db import tables
from kb.db.generations import new_stamp
from kb.db.session import Database, is_sqlite
from kb.errors import ConfigError

PAGE: Final = 1_000
"""Rows read and written at a time."""
LEFT_OUT: Final = frozenset({tables.leases.name})
"""Who does what at this moment is nothing to keep; so it is with runs that have not ended."""


async def copy_rows(source: Database, target: Database) -> None:
    """One state of `source`, in one transaction of `target`. Raises ConfigError where that is not empty.

    Generations that are not live are left out, runs that have not ended, and holds, which end with
    their process.
    """
    async with _snapshot(source) as reading, target.write() as writing:
        if await writing.scalar(select(func.count()).select_from(tables.collections)):
            raise ConfigError(
                f"{target.place} is not empty: only an empty one can be written into."
            )
        for table in tables.metadata.sorted_tables:
            if table.name not in LEFT_OUT:
                async for rows in _pages(reading, _kept(select(table))):
                    await writing.execute(table.insert(), rows)


@asynccontextmanager
async def _snapshot(source: Database) -> AsyncIterator[AsyncConnection]:
    async with source.read() as connection:
        if not is_sqlite(source.url):  # SQLite's reads see one state anyway.
            await connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection


def _kept(rows: Select[Any]) -> Select[Any]:
    (table,) = rows.get_final_froms()
    if table is tables.generations:
        return rows.where(tables.generations.c.live)
    if table is tables.runs:
        return rows.where(tables.runs.c.finished_at.is_not(None))
    return rows


async def _pages(
    connection: AsyncConnection, rows: Select[Any]
) -> AsyncIterator[Sequence[dict[str, Any]]]:
    async with connection.stream(rows) as found:
        async for page in found.mappings().partitions(PAGE):
            yield [dict(row) | _anew(row) for row in page]


def _anew(row: Any) -> dict[str, Any]:
    """No hold, and a stamp of the copy's own: a cache may hold what was found under the old one."""
    fresh = {"held_by": None, "held_until": None, "stamp": new_stamp()}
    return {name: value for name, value in fresh.items() if name in row}
