"""Upload, list, get, status, chunks and delete under /v1/documents."""

from typing import Annotated

from fastapi import APIRouter, Form, Query, UploadFile

from kb.types import DocumentStatus
from serving.app.dependencies import ServicesDep, UploadsDep
from serving.app.documents.protocol import (
    ChunkBody,
    ChunkList,
    DocumentBody,
    DocumentDeleted,
    DocumentPage,
    DocumentState,
    document_body,
    document_error,
)
from serving.bootstrap import DEFAULT_COLLECTION
from serving.uploads import remove_document

router = APIRouter(prefix="/v1/documents", tags=["documents"])


@router.post("", status_code=202)
async def upload(
    file: UploadFile,
    uploads: UploadsDep,
    collection: Annotated[str, Form()] = DEFAULT_COLLECTION,
) -> DocumentBody:
    """Stores a file and indexes it in the background; the same name replaces the earlier file."""
    return document_body(await uploads.add(file.filename or "", file.file, collection))


@router.get("")
async def list_documents(
    services: ServicesDep,
    collection: str | None = None,
    status: DocumentStatus | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: str | None = None,
) -> DocumentPage:
    documents = await services.catalog.documents(
        collection=collection, status=status, limit=limit + 1, after=after
    )
    page = documents[:limit]
    return DocumentPage(
        data=[document_body(document) for document in page],
        last_id=page[-1].id if page else None,
        has_more=len(documents) > limit,
    )


@router.get("/{document_id}")
async def get_document(document_id: str, services: ServicesDep) -> DocumentBody:
    return document_body(await services.catalog.document(document_id))


@router.get("/{document_id}/status")
async def get_status(document_id: str, services: ServicesDep) -> DocumentState:
    document = await services.catalog.document(document_id)
    return DocumentState(id=document.id, status=document.status, error=document_error(document))


@router.get("/{document_id}/chunks")
async def get_chunks(document_id: str, services: ServicesDep) -> ChunkList:
    """The document's text as it is indexed: what citations point into."""
    document = await services.catalog.document(document_id)
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
            for chunk in await index.chunks(document_id)
        ]
    )


@router.delete("/{document_id}")
async def delete_document(document_id: str, services: ServicesDep) -> DocumentDeleted:
    document = await services.catalog.document(document_id)
    remaining = await remove_document(document, services)
    return DocumentDeleted(
        id=document_id, deleted=remaining is None, status=remaining.status if remaining else None
    )
