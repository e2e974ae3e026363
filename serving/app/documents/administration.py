"""POST /v1/admin/documents/{id}/retry."""

from fastapi import APIRouter

from serving.app.dependencies import AccessDep, KeyDep, QueueDep, ServicesDep, id_of
from serving.app.runs.protocol import RunBody, run_body
from serving.queued_work import RETRY_DOCUMENT
from serving.run_queue import queued_run

router = APIRouter(prefix="/v1/admin/documents", tags=["documents"])


@router.post("/{document_id}/retry", status_code=202)
async def retry_document(
    document_id: str, services: ServicesDep, queue: QueueDep, key: KeyDep, access: AccessDep
) -> RunBody:
    """Queues that a document is read again that failed or was taken out; gives the run."""
    document = await services.catalog.document(document_id, access)
    run = queued_run(
        RETRY_DOCUMENT,
        document.collection,
        source_id=document.source_id,
        request={"document_id": document.id},
        requested_by=id_of(key),
    )
    return run_body(await queue.add(run))
