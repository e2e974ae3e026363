"""What `kb doctor` looks at and mends, under /v1/admin/doctor."""

from fastapi import APIRouter

from serving.app.dependencies import (
    AccessDep,
    KeyDep,
    QueueDep,
    ServicesDep,
    check_collection,
    id_of,
    readable_collections,
)
from serving.app.doctor.protocol import Examined, RepairStart, examined
from serving.app.runs.protocol import RunList, run_list
from serving.health import examine, examine_collections
from serving.queued_work import REPAIR
from serving.run_queue import queued_run

router = APIRouter(prefix="/v1/admin/doctor", tags=["doctor"])


@router.get("")
async def look(services: ServicesDep, access: AccessDep) -> Examined:
    """Model, catalogue and index, and whether catalogue and index agree. Only reads.

    A key that is limited to collections is told of their indexes alone.
    """
    if access.collections is None:
        return examined([finding async for finding in examine(services)])
    names = [collection.name for collection in await readable_collections(services, access)]
    return examined([finding async for finding in examine_collections(names, services)])


@router.post("/repair", status_code=202)
async def mend(
    services: ServicesDep,
    queue: QueueDep,
    key: KeyDep,
    access: AccessDep,
    body: RepairStart | None = None,
) -> RunList:
    """Queues for each collection that its index is made to hold what the catalogue says; gives the runs."""
    only = body.collection if body else None
    if only is not None:
        await check_collection(only, services, access)
    names = [each.name for each in await readable_collections(services, access)]
    return run_list(
        [
            await queue.add(queued_run(REPAIR, name, requested_by=id_of(key)))
            for name in names
            if only in (None, name)
        ]
    )
