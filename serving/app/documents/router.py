"""Upload, list, get, status, chunks and delete under /v1/documents."""

from typing import Annotated, Final

from fastapi import APIRouter, Form, Query, UploadFile

from kb.errors import AccessDenied
from kb.types import ApiKey, DocumentStatus
from serving.app.dependencies import (
    TO_FOLLOW,
    TO_INGEST,
    TO_QUERY,
    AccessDep,
    KeyDep,
    QueueDep,
    ServicesDep,
    check_collection,
    id_of,
)
from serving.app.documents.protocol import (
    ChunkBody,
    ChunkList,
    DocumentBody,
    DocumentDeleted,
    DocumentPage,
    DocumentState,
    UploadBody,
    document_body,
    document_error,
    upload_body,
)
from serving.bootstrap import DEFAULT_COLLECTION
from serving.keys import clean_groups
from serving.uploads import add_upload, remove_document

EVERYBODY = "*"
"""An empty field of a form is as good as none, so this has a word."""

UPLOAD_EXAMPLE: Final = {
    "requestBody": {
        "content": {
            "multipart/form-data": {
                "example": {"file": "leave.pdf", "collection": "handbook", "groups": "staff"}
            }
        }
    }
}

router = APIRouter(prefix="/v1/documents", tags=["documents"])


@router.post("", status_code=202, dependencies=[TO_INGEST], openapi_extra=UPLOAD_EXAMPLE)
async def upload(
    file: UploadFile,
    queue: QueueDep,
    services: ServicesDep,
    key: KeyDep,
    access: AccessDep,
    collection: Annotated[str, Form()] = DEFAULT_COLLECTION,
    groups: Annotated[str | None, Form()] = None,
) -> UploadBody:
    """Stores a file and gives the run that indexes it; the same name with the same groups replaces it.

    The run waits in the queue, and survives a restart: watch it at `/v1/runs/{run_id}` or
    `/v1/runs/{run_id}/events`. A document that can't be read fails its run, and says why in both.

    `groups` (with commas) are those who may read it; none given: the key's own. `*`: everybody
    who may read the collection.
    """
    if not access.may_read(collection):
        await check_collection(collection, services, access)
    chosen = _upload_groups(groups, key)
    document, run = await add_upload(
        file.filename or "",
        file.file,
        collection,
        services,
        queue,
        groups=chosen,
        requested_by=id_of(key),
    )
    return upload_body(document, run.id)


@router.get("", dependencies=[TO_FOLLOW])
async def list_documents(
    services: ServicesDep,
    access: AccessDep,
    collection: str | None = None,
    status: DocumentStatus | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: str | None = None,
) -> DocumentPage:
    documents = await services.catalog.documents(
        collection=collection, status=status, limit=limit + 1, after=after, access=access
    )
    page = documents[:limit]
    return DocumentPage(
        data=[document_body(document) for document in page],
        last_id=page[-1].id if page else None,
        has_more=len(documents) > limit,
    )


@router.get("/{document_id}", dependencies=[TO_FOLLOW])
async def get_document(document_id: str, services: ServicesDep, access: AccessDep) -> DocumentBody:
    return document_body(await services.catalog.document(document_id, access))


@router.get("/{document_id}/status", dependencies=[TO_FOLLOW])
async def get_status(document_id: str, services: ServicesDep, access: AccessDep) -> DocumentState:
    document = await services.catalog.document(document_id, access)
    return DocumentState(id=document.id, status=document.status, error=document_error(document))


@router.get("/{document_id}/chunks", dependencies=[TO_QUERY])
async def get_chunks(document_id: str, services: ServicesDep, access: AccessDep) -> ChunkList:
    """The document's text as it is indexed: what citations point into."""
    document = await services.catalog.document(document_id, access)
    index = await services.index(document.collection)
    return ChunkList(
        data=[
            ChunkBody(
                id=chunk.id,
                ordinal=chunk.ordinal,
                heading_path=list(chunk.heading_path),
                page=chunk.page,
                start=chunk.start,
                end=chunk.end,
                text=chunk.text,
            )
            for chunk in await index.chunks(document.indexed_as)
        ]
    )


@router.delete("/{document_id}", dependencies=[TO_INGEST])
async def delete_document(
    document_id: str, services: ServicesDep, access: AccessDep
) -> DocumentDeleted:
    document = await services.catalog.document(document_id, access)
    remaining = await remove_document(document, services)
    return DocumentDeleted(
        id=document_id, deleted=remaining is None, status=remaining.status if remaining else None
    )


def _upload_groups(given: str | None, key: ApiKey | None) -> tuple[str, ...]:
    """Raises AccessDenied for a group that the key has not, InvalidQueryError."""
    if given is None:
        return () if key is None or key.is_admin else key.groups
    groups = () if given.strip() == EVERYBODY else clean_groups(tuple(given.split(",")))
    if key is not None and not key.is_admin and not set(groups) <= set(key.groups):
        raise AccessDenied("groups: this API key may only give groups that it has itself.")
    return groups
