"""List, get and cancel under /v1/admin/runs."""

from typing import Annotated

from fastapi import APIRouter, Query

from kb.types import RunStatus
from serving.app.dependencies import ServicesDep
from serving.app.runs.protocol import RunBody, RunList, run_body
from serving.runs import cancel

router = APIRouter(prefix="/v1/admin/runs", tags=["runs"])


@router.get("")
async def list_runs(
    services: ServicesDep,
    collection: str | None = None,
    source_id: str | None = None,
    status: RunStatus | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> RunList:
    """Newest first."""
    runs = await services.catalog.runs(
        collection=collection, source_id=source_id, status=status, limit=limit
    )
    return RunList(data=[run_body(run) for run in runs])


@router.get("/{run_id}")
async def get_run(run_id: str, services: ServicesDep) -> RunBody:
    return run_body(await services.catalog.run(run_id))


@router.post("/{run_id}/cancel")
async def cancel_run(run_id: str, services: ServicesDep) -> RunBody:
    """The run ends within seconds; what it has finished is kept. A finished one stays as it is."""
    return run_body(await cancel(run_id, services.catalog))
