"""The `Catalog` port on SQLite or PostgreSQL."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    Table,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from kb.db import tables
from kb.db.generations import (
    being_switched,
    check_live,
    generation_of,
    generation_row,
    holder,
    lock_collection,
    set_hold,
)
from kb.db.migrate import check_schema
from kb.db.session import LOCK_TIMEOUT_S, Database
from kb.errors import ConfigError, NotFoundError
from kb.ids import check_collection_name
from kb.types import (
    Collection,
    Document,
    DocumentStatus,
    Generation,
    IndexSchema,
    Run,
    RunStatus,
    SourceRecord,
)

STREAM_PAGE = 1_000
"""Documents a stream reads at a time: about 1 MB."""

Entry = TypeVar("Entry", Document, Run, SourceRecord)


class SQLCatalog:
    """Open it on the event loop that uses it; the tables must be there (`kb.db.migrate`)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    async def open(cls, url: str, *, lock_timeout_s: float = LOCK_TIMEOUT_S) -> "SQLCatalog":
        """Raises ConfigError for a URL or a schema that is not ours, and CatalogUnavailable.

        A write waits up to `lock_timeout_s` seconds for another to end.
        """
        database = Database(url, lock_timeout_s=lock_timeout_s)
        try:
            async with database.read() as connection:
                await check_schema(connection, database.place)
        except BaseException:
            await database.close()
            raise
        return cls(database)

    async def close(self) -> None:
        await self._database.close()

    # --- Collections ----------------------------------------------------------------------------

    async def ensure_collection(self, name: str) -> None:
        check_collection_name(name)
        row = {"name": name, "created_at": datetime.now(UTC)}
        async with self._database.write() as connection:
            await _insert_new(connection, tables.collections, row)

    async def collections(self) -> list[Collection]:
        async with self._database.read() as connection:
            return _collections((await connection.execute(_counted_collections())).all())

    async def collection(self, name: str) -> Collection:
        query = _counted_collections().where(tables.collections.c.name == name)
        async with self._database.read() as connection:
            found = _collections((await connection.execute(query)).all())
            if found:
                return found[0]
            names = (await connection.scalars(select(tables.collections.c.name))).all()
        there = f"There are: {', '.join(sorted(names))}." if names else "There are none yet."
        raise NotFoundError(f"There is no collection {name!r}. {there}")

    async def delete_collection(self, name: str) -> None:
        async with self._database.write() as connection:
            await connection.execute(
                delete(tables.collections).where(tables.collections.c.name == name)
            )

    # --- Generations ----------------------------------------------------------------------------

    async def add_generation(
        self, collection: str, schema: IndexSchema, embedder: Mapping[str, Any] | None = None
    ) -> Generation:
        async with self._database.write() as connection:
            await lock_collection(connection, collection)
            newest = await connection.scalar(
                select(func.max(tables.generations.c.number)).where(
                    tables.generations.c.collection == collection
                )
            )
            number = (newest or 0) + 1
            generation = Generation(
                collection,
                number,
                f"kb-{collection}.{number}",
                schema,
                live=False,
                embedder=dict(embedder or {}),
            )
            await connection.execute(insert(tables.generations).values(generation_row(generation)))
        return generation

    async def delete_generation(self, collection: str, number: int) -> None:
        async with self._database.write() as connection:
            await connection.execute(
                delete(tables.generations).where(
                    tables.generations.c.collection == collection,
                    tables.generations.c.number == number,
                    ~tables.generations.c.live,
                )
            )

    async def hold(self, collection: str, owner: str, seconds: float) -> None:
        async with self._database.write() as connection:
            await lock_collection(connection, collection)
            if await holder(connection, collection) not in (None, owner):
                raise being_switched(collection)
            until = datetime.now(UTC) + timedelta(seconds=seconds)
            await set_hold(connection, collection, owner, until)

    async def release(self, collection: str, owner: str) -> None:
        async with self._database.write() as connection:
            if await holder(connection, collection) == owner:
                await set_hold(connection, collection, None, None)

    async def set_live(self, collection: str, number: int, owner: str | None = None) -> None:
        of_collection = tables.generations.c.collection == collection
        async with self._database.write() as connection:
            await lock_collection(connection, collection)
            if await holder(connection, collection) != owner:
                raise being_switched(collection)
            await set_hold(connection, collection, None, None)
            await connection.execute(
                update(tables.generations)
                .where(of_collection, tables.generations.c.live)
                .values(live=False)
            )
            switched = await connection.execute(
                update(tables.generations)
                .where(of_collection, tables.generations.c.number == number)
                .values(live=True)
            )
            if switched.rowcount == 0:
                raise NotFoundError(
                    f"The collection {collection!r} has no index generation {number}."
                )

    async def live_generation(self, collection: str) -> Generation | None:
        found = await self._generations(
            tables.generations.c.collection == collection, tables.generations.c.live
        )
        return found[0] if found else None

    async def generations(self, collection: str) -> list[Generation]:
        return await self._generations(tables.generations.c.collection == collection)

    async def _generations(self, *where: ColumnElement[bool]) -> list[Generation]:
        query = select(tables.generations).where(*where).order_by(tables.generations.c.number)
        async with self._database.read() as connection:
            return [generation_of(row) for row in await connection.execute(query)]

    # --- Sources --------------------------------------------------------------------------------

    async def ensure_source(self, source: SourceRecord) -> None:
        _check_storable(source.root)
        async with self._database.write() as connection:
            await _upsert(connection, tables.sources, [_values(source)])

    async def sources(self, collection: str | None = None) -> list[SourceRecord]:
        query = select(tables.sources).order_by(tables.sources.c.id)
        if collection is not None:
            query = query.where(tables.sources.c.collection == collection)
        async with self._database.read() as connection:
            return [SourceRecord(**row._mapping) for row in await connection.execute(query)]

    # --- Documents ------------------------------------------------------------------------------

    async def document(self, document_id: str) -> Document:
        query = select(tables.documents).where(tables.documents.c.id == document_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise NotFoundError(f"There is no document {document_id!r}.")
        return Document(**row._mapping)

    async def documents(
        self,
        *,
        collection: str | None = None,
        source_id: str | None = None,
        status: DocumentStatus | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> list[Document]:
        query = select(tables.documents).order_by(tables.documents.c.id).limit(limit)
        if collection is not None:
            query = query.where(tables.documents.c.collection == collection)
        if source_id is not None:
            query = query.where(tables.documents.c.source_id == source_id)
        if status is not None:
            query = query.where(tables.documents.c.status == status)
        if after is not None:
            query = query.where(tables.documents.c.id > after)
        async with self._database.read() as connection:
            return [Document(**row._mapping) for row in await connection.execute(query)]

    async def document_stream(self, source_id: str) -> AsyncIterator[Document]:
        """Page by page, so that a slow reader keeps no transaction open.

        Each document is as it was when its page was read.
        """
        last: str | None = None
        while page := await self.documents(source_id=source_id, after=last, limit=STREAM_PAGE):
            for document in page:
                yield document
            last = page[-1].id

    async def save_documents(
        self, documents: Sequence[Document], generation: Generation | None = None
    ) -> None:
        # By id, so that two writers lock rows in the same order and never wait for each other.
        rows = sorted(map(_values, documents), key=lambda row: row["id"])
        async with self._database.write() as connection:
            await check_live(connection, generation)
            await _upsert(connection, tables.documents, rows)

    async def delete_documents(
        self, document_ids: Sequence[str], generation: Generation | None = None
    ) -> None:
        statement = delete(tables.documents).where(
            tables.documents.c.id == bindparam("document_id")
        )
        rows = [{"document_id": document_id} for document_id in sorted(document_ids)]
        if not rows:
            return
        async with self._database.write() as connection:
            await check_live(connection, generation)
            await connection.execute(statement, rows)

    # --- Runs -----------------------------------------------------------------------------------

    async def start_run(self, run: Run) -> None:
        async with self._database.write() as connection:
            await _upsert(connection, tables.runs, [_values(run) | {"counts": dict(run.counts)}])

    async def update_run(
        self,
        run_id: str,
        *,
        counts: Mapping[str, int],
        status: RunStatus = RunStatus.RUNNING,
        error: str | None = None,
    ) -> None:
        finished_at = None if status is RunStatus.RUNNING else datetime.now(UTC)
        change = update(tables.runs).where(tables.runs.c.id == run_id)
        change = change.values(
            counts=dict(counts), status=status, error=error, finished_at=finished_at
        )
        async with self._database.write() as connection:
            if (await connection.execute(change)).rowcount == 0:
                raise NotFoundError(f"There is no run {run_id!r}; its collection may be deleted.")

    async def runs(self, *, collection: str | None = None, limit: int = 50) -> list[Run]:
        query = (
            select(tables.runs)
            .order_by(tables.runs.c.started_at.desc(), tables.runs.c.id.desc())
            .limit(limit)
        )
        if collection is not None:
            query = query.where(tables.runs.c.collection == collection)
        async with self._database.read() as connection:
            return [Run(**row._mapping) for row in await connection.execute(query)]


# --- Statements ---------------------------------------------------------------------------------


def _counted_collections() -> Select[Any]:
    """One row a collection and status; a collection without documents has one row."""
    return (
        select(
            tables.collections.c.name,
            tables.collections.c.created_at,
            tables.documents.c.status,
            func.count(tables.documents.c.id).label("documents"),
            func.coalesce(func.sum(tables.documents.c.chunk_count), 0).label("chunks"),
        )
        .select_from(tables.collections.outerjoin(tables.documents))
        .group_by(
            tables.collections.c.name, tables.collections.c.created_at, tables.documents.c.status
        )
    )


async def _insert_new(connection: AsyncConnection, table: Table, row: Mapping[str, Any]) -> None:
    await connection.execute(_insert(connection, table).on_conflict_do_nothing(), row)


async def _upsert(
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


def _insert(connection: AsyncConnection, table: Table) -> postgresql.Insert | sqlite.Insert:
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


# --- Rows and values ----------------------------------------------------------------------------


def _values(entry: Entry) -> dict[str, Any]:
    """A value's fields as they are: columns bear their names."""
    return {field.name: getattr(entry, field.name) for field in fields(entry)}


def _collections(rows: Iterable[Row[Any]]) -> list[Collection]:
    """Collections by name, each made of its rows."""
    found: dict[str, Collection] = {}
    for row in rows:
        before = found.get(row.name) or Collection(row.name, row.created_at)
        counts = dict(before.documents)
        if row.status is not None:
            counts[row.status] = row.documents
        found[row.name] = replace(before, documents=counts, chunks=before.chunks + int(row.chunks))
    return [found[name] for name in sorted(found)]


def _check_storable(root: str) -> None:
    """A folder's path must come back exactly as it was. Raises ConfigError."""
    try:
        root.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"The folder name {root!r} is not valid UTF-8. Rename the folder."
        ) from error
