"""List, get, watch and cancel under /v1/admin/runs."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from kb.types import RunStatus
from serving.app.dependencies import AccessDep, ManagedRunDep, ServicesDep, StoppingDep
from serving.app.runs.events import DESCRIBED, run_events
from serving.app.runs.protocol import RunBody, RunList, run_body, run_list
from serving.runs import cancel

router = APIRouter(prefix="/v1/admin/runs", tags=["runs"])


@router.get("")
async def list_runs(
    services: ServicesDep,
    access: AccessDep,
    collection: str | None = None,
    source_id: str | None = None,
    status: RunStatus | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> RunList:
    """Newest first."""
    runs = await services.catalog.runs(
        collection=collection, source_id=source_id, status=status, limit=limit, access=access
    )
    return run_list(runs)


@router.get("/{run_id}")
async def get_run(run: ManagedRunDep) -> RunBody:
    return run_body(run)


@router.get("/{run_id}/events", response_class=EventSourceResponse, responses=DESCRIBED)
async def watch_run(
    run: ManagedRunDep, services: ServicesDep, stopping: StoppingDep
) -> AsyncIterator[ServerSentEvent]:
    """The run as it changes, as server-sent events."""
    async for event in run_events(run, services.catalog, stopping):
        yield event


@router.post("/{run_id}/cancel")
async def cancel_run(run: ManagedRunDep, services: ServicesDep) -> RunBody:
    """One that waits has ended; one that goes on ends within seconds, and what it has finished is kept.

    A finished one stays as it is.
    """
    return run_body(await cancel(run.id, services.catalog))
