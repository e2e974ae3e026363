"""/v1/admin/sources, and /v1/admin/sync for all of them."""

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends

from kb.errors import InvalidSource, NotFoundError
from kb.types import Run, SourceRecord
from serving.app.dependencies import (
    TO_ADMINISTER,
    AccessDep,
    KeyDep,
    QueueDep,
    ServicesDep,
    check_administers,
    check_collection,
    id_of,
)
from serving.app.runs.protocol import RunBody, RunList, run_body, run_list
from serving.app.sources.protocol import (
    SourceBody,
    SourceChange,
    SourceCreate,
    SourceDeleted,
    SourceDetail,
    SourceList,
    SyncAllStart,
    SyncStart,
    source_body,
    source_detail,
)
from serving.keys import clean_groups
from serving.run_queue import queued_run
from serving.sources import add_source, change_source, new_record, remove_source
from serving.sync import wanted_sources

router = APIRouter(prefix="/v1/admin", tags=["sources"])


async def managed_source(source_id: str, services: ServicesDep, access: AccessDep) -> SourceRecord:
    """Raises NotFoundError, also for a source of a collection that the key does not administer."""
    record = await services.catalog.source(source_id)
    if not access.may_manage(record.collection):
        raise NotFoundError(
            f"There is no source {source_id!r}. `kb sources list` shows those there are."
        )
    return record


SourceDep = Annotated[SourceRecord, Depends(managed_source)]


@router.get("/sources")
async def list_sources(
    services: ServicesDep, access: AccessDep, collection: str | None = None
) -> SourceList:
    records = await services.catalog.sources(collection)
    return SourceList(data=[source_body(r) for r in records if access.may_manage(r.collection)])


@router.post("/sources", status_code=201, dependencies=[TO_ADMINISTER])
async def create_source(body: SourceCreate, services: ServicesDep) -> SourceBody:
    """Adds a source, or sets one anew that is there. The next sync reads it.

    Whoever names a folder of the server can read it: not for keys that are limited to collections.
    """
    place = body.place()
    if place is not None and not place.is_absolute():
        raise InvalidSource("path must be absolute: it is one of the server's machine.")
    record = replace(
        new_record(body.kind, place, body.collection, services),
        groups=clean_groups(tuple(body.groups)),
        include=tuple(body.include),
        exclude=tuple(body.exclude),
        max_file_mb=body.max_file_mb,
        symlinks=body.symlinks,
    )
    return source_body(await add_source(record, services))


@router.get("/sources/{source_id}")
async def get_source(record: SourceDep, services: ServicesDep) -> SourceDetail:
    """What is read of it, and its last run."""
    return source_detail(record, await services.catalog.runs(source_id=record.id, limit=1))


@router.patch("/sources/{source_id}")
async def update_source(
    body: SourceChange, record: SourceDep, services: ServicesDep, key: KeyDep
) -> SourceBody:
    """Pauses or resumes it, and sets its groups and patterns; the next sync brings that to the index."""
    changes = body.model_dump(exclude_unset=True)
    if changes.keys() & {"include", "exclude"}:
        check_administers(key)
    if "groups" in changes:
        changes["groups"] = clean_groups(tuple(changes["groups"]))
    changes |= {name: tuple(changes[name]) for name in ("include", "exclude") if name in changes}
    return source_body(await change_source(record.id, services, **changes))


@router.delete("/sources/{source_id}")
async def delete_source(record: SourceDep, services: ServicesDep) -> SourceDeleted:
    """Takes its documents out of the index and forgets it. Files stay where they are, but for uploads."""
    number = await remove_source(record, services)
    return SourceDeleted(id=record.id, deleted_documents=number)


@router.post("/sources/{source_id}/sync", status_code=202)
async def sync_source(
    record: SourceDep,
    services: ServicesDep,
    queue: QueueDep,
    key: KeyDep,
    body: SyncStart | None = None,
) -> RunBody:
    """Queues a sync of one source and gives its run."""
    await wanted_sources(services, record.id)  # A paused one is said at once.
    return run_body(await _queue_sync(record, body or SyncStart(), queue, key))


@router.post("/sync", status_code=202)
async def sync_sources(
    services: ServicesDep,
    queue: QueueDep,
    key: KeyDep,
    access: AccessDep,
    body: SyncAllStart | None = None,
) -> RunList:
    """Queues a sync of each source that is not paused, and gives their runs."""
    asked = body or SyncAllStart()
    if asked.collection is not None:
        await check_collection(asked.collection, services, access)
    records = await wanted_sources(services, collection=asked.collection)
    wanted = [record for record in records if access.may_manage(record.collection)]
    return run_list([await _queue_sync(record, asked, queue, key) for record in wanted])


async def _queue_sync(record: SourceRecord, asked: SyncStart, queue: QueueDep, key: KeyDep) -> Run:
    return await queue.add(
        queued_run(
            asked.mode,
            record.collection,
            source_id=record.id,
            request=asked.asked_for(),
            requested_by=id_of(key),
        )
    )
