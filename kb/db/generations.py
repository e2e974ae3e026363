"""Which index generation of a collection is live, who may change that, and who may write meanwhile."""

import uuid
from collections.abc import Iterable
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kb.db import tables
from kb.errors import GenerationSwitched, NotFoundError
from kb.types import Generation, IndexSchema


async def lock_collection(connection: AsyncConnection, name: str, *, shared: bool = False) -> None:
    """Makes changes to a collection's generations take turns. Raises NotFoundError.

    Those who write documents share the lock: they may go on side by side, but not during a switch.
    """
    query = (
        select(tables.collections.c.name)
        .where(tables.collections.c.name == name)
        .with_for_update(read=shared)
    )
    if await connection.scalar(query) is None:
        raise NotFoundError(f"There is no collection {name!r}.")


async def holder(connection: AsyncConnection, collection: str) -> str | None:
    """Who holds the collection now; a hold that has run out is none."""
    query = select(tables.collections.c.held_by, tables.collections.c.held_until).where(
        tables.collections.c.name == collection
    )
    row = (await connection.execute(query)).one_or_none()
    if row is None or row.held_until is None or row.held_until <= datetime.now(UTC):
        return None
    return str(row.held_by)


async def set_hold(
    connection: AsyncConnection, collection: str, owner: str | None, until: datetime | None
) -> None:
    await connection.execute(
        update(tables.collections)
        .where(tables.collections.c.name == collection)
        .values(held_by=owner, held_until=until)
    )


async def check_live(connection: AsyncConnection, generation: Generation | None) -> None:
    """Raises GenerationSwitched where the index of this generation is, or may soon be, the wrong one."""
    if generation is None:
        return
    collection = generation.collection
    await lock_collection(connection, collection, shared=True)
    live = await connection.scalar(
        select(tables.generations.c.number).where(
            tables.generations.c.collection == collection, tables.generations.c.live
        )
    )
    if live != generation.number or await holder(connection, collection) is not None:
        raise being_switched(collection)


async def lock_shared(connection: AsyncConnection, collections: Iterable[str]) -> None:
    """As writers of documents do, before anything else: whoever deletes a collection locks it first too."""
    for name in sorted(set(collections)):
        await lock_collection(connection, name, shared=True)


async def restamp(connection: AsyncConnection, collections: Iterable[str]) -> None:
    """Tells everybody that what was found in these before may be found no more.

    Last in its transaction: other writers of the collection wait for this row until it ends.
    """
    for name in sorted(set(collections)):
        await connection.execute(
            update(tables.generations)
            .where(tables.generations.c.collection == name, tables.generations.c.live)
            .values(stamp=new_stamp())
        )


def new_stamp() -> str:
    """Never the same again: a counter would be, after a backup is restored."""
    return uuid.uuid4().hex


def being_switched(collection: str) -> GenerationSwitched:
    return GenerationSwitched(
        f"The collection {collection} is changing to another index. Try again in a moment."
    )


def generation_row(generation: Generation) -> dict[str, Any]:
    return {
        "collection": generation.collection,
        "number": generation.number,
        "index_name": generation.index_name,
        "live": generation.live,
        "embedder": dict(generation.embedder),
        "stamp": new_stamp(),
        "created_at": datetime.now(UTC),
        **{field.name: getattr(generation.schema, field.name) for field in fields(IndexSchema)},
    }


def generation_of(row: Row[Any]) -> Generation:
    schema = IndexSchema(*(row._mapping[field.name] for field in fields(IndexSchema)))
    return Generation(
        row.collection, row.number, row.index_name, schema, row.live, row.embedder, row.stamp
    )
