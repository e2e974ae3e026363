"""Bodies of /v1/documents."""

from datetime import datetime

from pydantic import BaseModel

from kb.types import Document, DocumentStatus, FailureCategory


class DocumentError(BaseModel):
    category: FailureCategory
    message: str


class DocumentBody(BaseModel):
    """A document; `error` says why it failed and what to do, `warnings` what was left out of it.

    The text of a `duplicate_of` another document is indexed once, as that one's.
    """

    id: str
    object: str = "document"
    collection: str
    uri: str
    title: str
    media_type: str
    bytes: int
    status: DocumentStatus
    chunks: int
    error: DocumentError | None
    warnings: list[str]
    groups: list[str]
    duplicate_of: str | None
    indexed_at: datetime | None


class UploadBody(DocumentBody):
    """`run_id`: the run that indexes it."""

    run_id: str


class DocumentPage(BaseModel):
    """Ask for the next page with `after=last_id` while `has_more`."""

    object: str = "list"
    data: list[DocumentBody]
    last_id: str | None
    has_more: bool


class DocumentState(BaseModel):
    id: str
    object: str = "document.status"
    status: DocumentStatus
    error: DocumentError | None


class DocumentDeleted(BaseModel):
    """`deleted` is true for an upload; a file of a folder is kept out of the index instead."""

    id: str
    object: str = "document.deleted"
    deleted: bool
    status: DocumentStatus | None


class ChunkBody(BaseModel):
    id: str
    ordinal: int
    heading_path: list[str]
    page: int | None
    start: int
    end: int
    text: str


class ChunkList(BaseModel):
    object: str = "list"
    data: list[ChunkBody]


def document_body(document: Document) -> DocumentBody:
    return DocumentBody(
        id=document.id,
        collection=document.collection,
        uri=document.uri,
        title=document.title,
        media_type=document.media_type,
        bytes=document.size,
        status=document.status,
        chunks=document.chunk_count,
        error=document_error(document),
        warnings=list(document.warnings),
        groups=list(document.groups),
        duplicate_of=document.duplicate_of,
        indexed_at=document.indexed_at,
    )


def upload_body(document: Document, run_id: str) -> UploadBody:
    return UploadBody(**document_body(document).model_dump(), run_id=run_id)


def document_error(document: Document) -> DocumentError | None:
    if document.error_category is None:
        return None
    return DocumentError(category=document.error_category, message=document.error_message or "")
