"""The `Catalog` port on SQLite or PostgreSQL."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from kb.db import duplicates, tables
from kb.db.copying import copy_rows
from kb.db.feedback import SQLFeedback
from kb.db.generations import (
    being_switched,
    check_live,
    generation_of,
    generation_row,
    holder,
    lock_collection,
    lock_shared,
    restamp,
    set_hold,
)
from kb.db.keys import SQLKeys
from kb.db.migrate import check_schema
from kb.db.rights import readable
from kb.db.runs import SQLRuns
from kb.db.session import LOCK_TIMEOUT_S, Database
from kb.db.statements import insert_new, upsert, values_of
from kb.errors import ConfigError, NotFoundError
from kb.ids import check_collection_name
from kb.types import (
    UNRESTRICTED,
    Access,
    Collection,
    Document,
    DocumentStatus,
    Generation,
    IndexSchema,
    Place,
    SourceRecord,
)

STREAM_PAGE = 1_000
"""Documents a stream reads at a time: about 1 MB."""


class SQLCatalog(SQLRuns):
    """Open it on the event loop that uses it; the tables must be there (`kb.db.migrate`)."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.keys = SQLKeys(database)
        self.feedback = SQLFeedback(database)

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

    async def copy_to(self, url: str) -> None:
        target = Database(url)
        try:
            await copy_rows(self._database, target)
        finally:
            await target.close()

    # --- Collections ----------------------------------------------------------------------------

    async def ensure_collection(self, name: str) -> None:
        check_collection_name(name)
        row = {"name": name, "created_at": datetime.now(UTC)}
        async with self._database.write() as connection:
            await insert_new(connection, tables.collections, row)

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
            await restamp(connection, [collection])

    async def touch(self, collection: str) -> None:
        async with self._database.write() as connection:
            await lock_collection(connection, collection, shared=True)
            await restamp(connection, [collection])

    async def live_generation(self, collection: str) -> Generation | None:
        found = await self._generations(
            tables.generations.c.collection == collection, tables.generations.c.live
        )
        return found[0] if found else None

    async def generations(self, collection: str) -> list[Generation]:
        return await self._generations(tables.generations.c.collection == collection)

    async def _generations(self, *where: ColumnElement[bool]) -> list[Generation]:
        query = select(tables.generations).where(*where).order_by(tables.generations.c.number)
        return [generation_of(row) for row in await self._database.rows(query)]

    # --- Sources --------------------------------------------------------------------------------

    async def ensure_source(self, source: SourceRecord) -> SourceRecord:
        _check_storable(source.root)
        async with self._database.write() as connection:
            await insert_new(connection, tables.sources, values_of(source))
        return await self.source(source.id)

    async def save_source(self, source: SourceRecord) -> None:
        _check_storable(source.root)
        async with self._database.write() as connection:
            await upsert(connection, tables.sources, [values_of(source)])

    async def delete_source(self, source_id: str) -> None:
        of_source = tables.sources.c.id == source_id
        async with self._database.write() as connection:
            collection = await connection.scalar(
                select(tables.sources.c.collection).where(of_source)
            )
            if collection is not None:
                await lock_collection(connection, collection, shared=True)
                await connection.execute(delete(tables.sources).where(of_source))
                await restamp(connection, [collection])

    async def source(self, source_id: str) -> SourceRecord:
        query = select(tables.sources).where(tables.sources.c.id == source_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise NotFoundError(
                f"There is no source {source_id!r}. `kb sources list` shows those there are."
            )
        return SourceRecord(**row._mapping)

    async def sources(self, collection: str | None = None) -> list[SourceRecord]:
        query = select(tables.sources).order_by(tables.sources.c.id)
        if collection is not None:
            query = query.where(tables.sources.c.collection == collection)
        async with self._database.read() as connection:
            return [SourceRecord(**row._mapping) for row in await connection.execute(query)]

    # --- Documents ------------------------------------------------------------------------------

    async def document(self, document_id: str, access: Access = UNRESTRICTED) -> Document:
        query = select(tables.documents).where(
            tables.documents.c.id == document_id, self._readable(access)
        )
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
        access: Access = UNRESTRICTED,
    ) -> list[Document]:
        query = select(tables.documents).order_by(tables.documents.c.id).limit(limit)
        query = query.where(self._readable(access))
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

    def _readable(self, access: Access) -> ColumnElement[bool]:
        return readable(access, self._database.engine.dialect.name)

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
        rows = sorted(map(values_of, documents), key=lambda row: row["id"])
        collections = {document.collection for document in documents}
        async with self._database.write() as connection:
            await lock_shared(connection, collections)
            await check_live(connection, generation)
            await upsert(connection, tables.documents, rows)
            await duplicates.check_originals(connection, documents)
            await restamp(connection, collections)

    async def delete_documents(
        self, document_ids: Sequence[str], generation: Generation | None = None
    ) -> None:
        statement = delete(tables.documents).where(
            tables.documents.c.id == bindparam("document_id")
        )
        rows = [{"document_id": document_id} for document_id in sorted(document_ids)]
        if not rows:
            return
        of_these = tables.documents.c.id.in_(document_ids)
        in_collections = select(tables.documents.c.collection).where(of_these).distinct()
        async with self._database.write() as connection:
            collections = (await connection.scalars(in_collections)).all()
            await lock_shared(connection, collections)
            await check_live(connection, generation)
            await connection.execute(statement, rows)
            await restamp(connection, collections)

    # --- Duplicates -----------------------------------------------------------------------------

    async def originals(self, collection: str, text_hashes: Sequence[str]) -> list[Document]:
        if not text_hashes:
            return []
        async with self._database.read() as connection:
            rows = await connection.execute(duplicates.originals(collection, text_hashes))
            return [Document(**row._mapping) for row in rows]

    async def give_up(self, document_ids: Sequence[str]) -> list[Document]:
        of_these = tables.documents.c.id.in_(document_ids)
        indexed = tables.documents.c.status == DocumentStatus.INDEXED
        given_up = (
            update(tables.documents)
            .where(of_these, indexed)
            .values(status=DocumentStatus.PENDING)
            .returning(tables.documents.c.id)
        )
        async with self._database.write() as connection:
            ids = (await connection.scalars(given_up)).all()
            query = select(tables.documents).where(
                tables.documents.c.duplicate_of.in_(ids), indexed
            )
            rows = await connection.execute(query.order_by(tables.documents.c.id))
            return [Document(**row._mapping) for row in rows]

    async def strays(self, source_id: str) -> frozenset[str]:
        async with self._database.read() as connection:
            return frozenset(await connection.scalars(duplicates.strays(source_id)))

    async def places(
        self, document_ids: Sequence[str], access: Access = UNRESTRICTED
    ) -> Mapping[str, list[Place]]:
        found: dict[str, list[Place]] = {}
        query = duplicates.places(access, self._database.engine.dialect.name)
        for row in await self._database.rows(query, {"documents": list(document_ids)}):
            found.setdefault(row.document, []).append(Place(row.id, row.uri))
        return found


# --- Statements, rows and values ----------------------------------------------------------------


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
