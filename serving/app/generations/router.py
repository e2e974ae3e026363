"""/v1/admin/generations, /v1/admin/reindex and /v1/admin/rollback."""

from fastapi import APIRouter, Response

from serving.app.dependencies import (
    AccessDep,
    KeyDep,
    QueueDep,
    ServicesDep,
    check_administers,
    check_collection,
    id_of,
)
from serving.app.generations.protocol import (
    EstimateBody,
    GenerationList,
    OfCollection,
    ReindexStart,
    RolledBack,
    estimate_body,
    generation_body,
    generation_list,
)
from serving.app.runs.protocol import RunBody, run_body
from serving.bootstrap import DEFAULT_COLLECTION
from serving.parts import embedder_named
from serving.queued_work import REINDEX
from serving.reindexing import estimate, prune_all, rollback
from serving.run_queue import queued_run

router = APIRouter(prefix="/v1/admin", tags=["generations"])


@router.get("/generations")
async def list_generations(
    services: ServicesDep, access: AccessDep, collection: str = DEFAULT_COLLECTION
) -> GenerationList:
    """Of one collection, oldest first."""
    await check_collection(collection, services, access)
    return generation_list(await services.catalog.generations(collection))


@router.post("/generations/prune")
async def prune_generations(
    body: OfCollection, services: ServicesDep, access: AccessDep
) -> GenerationList:
    """Deletes all but the live one and the one before it, unfinished ones too; gives those deleted."""
    await check_collection(body.collection, services, access)
    return generation_list(await prune_all(body.collection, services))


@router.post("/reindex", status_code=202, responses={200: {"model": EstimateBody}})
async def reindex(
    body: ReindexStart,
    response: Response,
    services: ServicesDep,
    queue: QueueDep,
    key: KeyDep,
    access: AccessDep,
) -> RunBody | EstimateBody:
    """Queues the building of a new index beside the live one, and the switch to it; gives the run.

    Searches and ingests go on meanwhile. With `dry_run`: what it would cost, and nothing is begun.
    Another embedder only by keys that administer everything: it is read from the server's disk.
    """
    await check_collection(body.collection, services, access)
    if body.embedder:
        check_administers(key)
    if body.dry_run:
        response.status_code = 200
        chosen = embedder_named(body.embedder)
        return estimate_body(await estimate(body.collection, services, chosen))
    request = {"embedder": body.embedder, "chunks_per_s": body.chunks_per_s}
    run = queued_run(REINDEX, body.collection, request=request, requested_by=id_of(key))
    return run_body(await queue.add(run))


@router.post("/rollback")
async def roll_back(body: OfCollection, services: ServicesDep, access: AccessDep) -> RolledBack:
    """Makes the index live again that was before the last reindex. What was deleted stays deleted."""
    await check_collection(body.collection, services, access)
    generation, changed = await rollback(body.collection, services)
    return RolledBack(generation=generation_body(generation), changed_since=changed)
