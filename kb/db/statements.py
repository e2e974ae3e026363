"""Statements that SQLite and PostgreSQL both know, in each one's dialect."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import CursorResult, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from kb.types import ApiKey, Document, Lease, Run, SourceRecord


async def insert_new(
    connection: AsyncConnection, table: Table, row: Mapping[str, Any]
) -> CursorResult[Any]:
    """Inserts a row unless its key is there; `rowcount` says whether it was new."""
    return await connection.execute(_insert(connection, table).on_conflict_do_nothing(), row)


async def upsert(
    connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Inserts rows, or overwrites all columns of those that are there."""
    if not rows:
        return
    statement = _insert(connection, table)
    statement = statement.on_conflict_do_update(
        index_elements=list(table.primary_key),
        set_={
            column.name: statement.excluded[column.name]
            for column in table.columns
            if not column.primary_key
        },
    )
    await connection.execute(statement, rows)


def values_of(entry: Document | Run | SourceRecord | Lease | ApiKey) -> dict[str, Any]:
    """A value's fields as they are: columns bear their names."""
    return {field.name: getattr(entry, field.name) for field in fields(entry)}


def _insert(connection: AsyncConnection, table: Table) -> postgresql.Insert | sqlite.Insert:
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)
