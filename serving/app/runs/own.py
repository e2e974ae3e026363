"""Under /v1/runs: who uploads watches what becomes of it."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.sse import EventSourceResponse, ServerSentEvent

from kb.db.runs import no_run
from kb.types import Run
from serving.app.dependencies import AccessDep, KeyDep, ServicesDep, StoppingDep, id_of
from serving.app.runs.events import DESCRIBED, run_events
from serving.app.runs.protocol import RunBody, run_body

router = APIRouter(prefix="/v1/runs", tags=["runs"])


async def own_run(run_id: str, services: ServicesDep, key: KeyDep, access: AccessDep) -> Run:
    """What this key asked for; an administrator's are all. Raises NotFoundError for others' too."""
    run = await services.catalog.run(run_id)
    own = key is None or key.is_admin or run.requested_by == id_of(key)
    if not own or not access.may_manage(run.collection):
        raise no_run(run_id)
    return run


OwnRunDep = Annotated[Run, Depends(own_run)]


@router.get("/{run_id}")
async def get_own_run(run: OwnRunDep) -> RunBody:
    """The run of an upload: its progress, how it ended, and why."""
    return run_body(run)


@router.get("/{run_id}/events", response_class=EventSourceResponse, responses=DESCRIBED)
async def watch_own_run(
    run: OwnRunDep, services: ServicesDep, stopping: StoppingDep
) -> AsyncIterator[ServerSentEvent]:
    """The same as it changes, as server-sent events."""
    async for event in run_events(run, services.catalog, stopping):
        yield event
