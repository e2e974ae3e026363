"""GET /healthz and /readyz."""

from fastapi import APIRouter, Response

from kb.errors import KBError
from serving.app.dependencies import AdministratorDep, DrainingDep, ServicesDep

NO_DOCUMENT = "0" * 32
"""Looking for it reads every shard of an index, and next to nothing in it."""

NOT_READY = "Not ready; the parts say why."

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"model": dict[str, str], "description": NOT_READY}})
async def ready(
    services: ServicesDep,
    sees_parts: AdministratorDep,
    draining: DrainingDep,
    response: Response,
) -> dict[str, str]:
    """The parts an answer needs work: catalogue, model and every collection's index. Else 503.

    Also 503 once the server was told to stop, though it answers on for a while: ask another one.
    Where keys exist, only administrators are told which parts: collections have names.
    """
    parts = {"catalog": "ok", "embedder": "ok"}
    try:
        collections = await services.catalog.collections()
    except KBError as error:
        parts["catalog"] = error.message
        collections = []
    try:
        await services.embedder()
    except KBError as error:
        parts["embedder"] = error.message
    for collection in collections:
        try:
            await (await services.index(collection.name)).chunks(NO_DOCUMENT)
            parts[f"index {collection.name}"] = "ok"
        except KBError as error:
            parts[f"index {collection.name}"] = error.message
    if draining.is_set():
        parts["server"] = "It was told to stop."
    is_ready = all(state == "ok" for state in parts.values())
    response.status_code = 200 if is_ready else 503
    status = {"status": "ok" if is_ready else "not ready"}
    return status | parts if sees_parts else status
