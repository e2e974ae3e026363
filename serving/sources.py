"""Sources as people keep them: opened, added, paused, removed."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import Timeout

from ingestion.pipeline import delete
from ingestion.sources import (
    check_patterns,
    folder_record,
    list_record,
    open_source,
    upload_record,
)
from kb import ids
from kb.errors import InvalidSource, SourceBusy
from kb.ports import Source
from kb.types import SourceKind, SourceRecord
from serving.bootstrap import Services


async def upload_source(
    collection: str, services: Services, groups: tuple[str, ...] = ()
) -> Source:
    """The collection's upload area; its folder and its record are made where missing.

    Each set of groups, sorted, has an area of its own, so that nobody replaces, or learns of, a file of
    the same name that they may not read.
    """
    await services.ensure_collection(collection)
    area = ",".join(groups)
    record = upload_record(collection, services.upload_folder(collection), groups, area)
    return await stored_source(record, services)


def folder_of_uploads(record: SourceRecord, services: Services) -> Path:
    """Where an upload area's files lie now: its groups may change, its id does not."""
    own = ids.source_id(record.collection, SourceKind.UPLOAD, "")
    area = "" if record.id == own else record.id
    return services.upload_folder(record.collection, area)


async def stored_source(record: SourceRecord, services: Services) -> Source:
    """The source as the catalogue keeps it; kept as given where it is new."""
    stored = await services.catalog.ensure_source(record)
    if stored.kind is SourceKind.UPLOAD:  # The data folder may have moved since.
        folder = folder_of_uploads(stored, services)
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        return open_source(replace(stored, root=str(folder.resolve())))
    records = await services.catalog.sources(stored.collection)
    others = (Path(other.root) for other in records if other.id != stored.id)
    return open_source(stored, frozenset(others))


async def add_source(record: SourceRecord, services: Services) -> SourceRecord:
    """Keeps a source, or sets one anew that is there; the next sync reads it. Raises InvalidSource."""
    check_patterns(record)
    _check_place(record)
    await services.ensure_collection(record.collection)
    await services.catalog.save_source(record)
    return record


def new_record(
    kind: SourceKind, path: Path | None, collection: str, services: Services
) -> SourceRecord:
    """A source as it is before anybody sets it; only upload areas need no path. Raises InvalidSource."""
    if kind is SourceKind.UPLOAD:
        return upload_record(collection, services.upload_folder(collection))
    if path is None:
        raise InvalidSource(f"A source of kind {kind} needs a path.")
    make = folder_record if kind is SourceKind.FOLDER else list_record
    try:
        return make(collection, path.expanduser())
    except (ValueError, RuntimeError) as error:  # A NUL in it, or a home that is nobody's.
        raise InvalidSource(f"{str(path)!r} is no path: {error}.") from error


async def pause_source(source_id: str, paused: bool, services: Services) -> SourceRecord:
    """Twice is harmless. Raises NotFoundError."""
    return await change_source(source_id, services, paused=paused)


async def change_source(source_id: str, services: Services, **changes: Any) -> SourceRecord:
    """Sets some fields of a source; the next sync reads it so. Twice is harmless.

    Raises NotFoundError, InvalidSource.
    """
    record = replace(await services.catalog.source(source_id), **changes)
    check_patterns(record)
    await services.catalog.save_source(record)
    return record


async def remove_source(record: SourceRecord, services: Services) -> int:
    """Takes its documents out of the index, verified, and forgets it; gives how many they were.

    Files stay where they are, but for uploads: those are deleted. Raises SourceBusy, BackendError.
    """
    async with only_one(record, services):
        documents = await services.catalog.documents(source_id=record.id)
        if documents:
            backends = await services.backends(record.collection)
            await delete([document.id for document in documents], backends)
            await backends.index.optimise()
        if record.kind is SourceKind.UPLOAD:
            folder = folder_of_uploads(record, services)
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        await services.catalog.delete_source(record.id)
    return len(documents)


@asynccontextmanager
async def only_one(
    record: SourceRecord, services: Services, *, wait: bool = False
) -> AsyncIterator[None]:
    """The source's lock. Where another process holds it: waits for it, or raises SourceBusy."""
    lock = services.lock(f"source-{record.id}")
    try:
        await lock.acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        raise SourceBusy(
            f"{record.root} is being ingested by another process. Wait until it has finished."
        ) from error
    try:
        yield
    finally:
        await lock.release()


def _check_place(record: SourceRecord) -> None:
    root = Path(record.root)
    if record.kind is SourceKind.FOLDER and not root.is_dir():
        raise InvalidSource(f"{root} is not a folder. For a list of files say --kind list.")
    if record.kind is SourceKind.LIST and not root.is_file():
        raise InvalidSource(f"{root} is not a file. Write one that names a file in each line.")
