"""POST /v1/admin/evaluate."""

from fastapi import APIRouter

from serving.app.dependencies import (
    AccessDep,
    KeyDep,
    QueueDep,
    ServicesDep,
    check_collection,
    id_of,
)
from serving.app.generations.protocol import OfCollection
from serving.app.runs.protocol import RunBody, run_body
from serving.golden import EVALUATION
from serving.run_queue import queued_run

router = APIRouter(prefix="/v1/admin/evaluate", tags=["evaluation"])


@router.post("", status_code=202)
async def evaluate(
    body: OfCollection, services: ServicesDep, queue: QueueDep, key: KeyDep, access: AccessDep
) -> RunBody:
    """Queues that the golden questions are asked of the live index; gives the run.

    Its counts: `questions`, and how many were answered `right`.
    """
    await check_collection(body.collection, services, access)
    return run_body(
        await queue.add(queued_run(EVALUATION, body.collection, requested_by=id_of(key)))
    )
