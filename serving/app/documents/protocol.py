"""Bodies of /v1/documents."""

from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel

from kb.types import Document, DocumentStatus, FailureCategory
from serving.app.examples import example

ERROR_EXAMPLE: Final = {
    "category": "encrypted",
    "message": "The file is encrypted. Save a copy without a password.",
}
EXAMPLE: Final[dict[str, Any]] = {
    "id": "0f3c5d7e9b1a2c4d6e8f0a1b2c3d4e5f",
    "object": "document",
    "collection": "handbook",
    "uri": "upload:leave.pdf",
    "title": "Annual leave",
    "media_type": "application/pdf",
    "bytes": 48213,
    "status": "indexed",
    "chunks": 12,
    "error": None,
    "warnings": [],
    "groups": ["staff"],
    "duplicate_of": None,
    "indexed_at": "2026-11-25T09:30:05Z",
}
CHUNK_EXAMPLE: Final[dict[str, Any]] = {
    "id": "7a1b2c3d4e5f60718293a4b5c6d7e8f9",
    "ordinal": 0,
    "heading_path": ["Annual leave", "Entitlement"],
    "page": 1,
    "start": 0,
    "end": 42,
    "text": "Everybody has twenty days of leave a year.",
}


class DocumentError(BaseModel):
    category: FailureCategory
    message: str


class DocumentBody(BaseModel):
    """A document; `error` says why it failed and what to do, `warnings` what was left out of it.

    The text of a `duplicate_of` another document is indexed once, as that one's.
    """

    model_config = example(EXAMPLE)

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

    model_config = example(
        EXAMPLE
        | {
            "status": "pending",
            "chunks": 0,
            "indexed_at": None,
            "run_id": "9b1d0c6f4a1e4c0f8f3f6c1a2b3c4d5e",
        }
    )

    run_id: str


class DocumentPage(BaseModel):
    """Ask for the next page with `after=last_id` while `has_more`."""

    model_config = example(
        {"object": "list", "data": [EXAMPLE], "last_id": EXAMPLE["id"], "has_more": False}
    )

    object: str = "list"
    data: list[DocumentBody]
    last_id: str | None
    has_more: bool


class DocumentState(BaseModel):
    model_config = example(
        {
            "id": EXAMPLE["id"],
            "object": "document.status",
            "status": "failed",
            "error": ERROR_EXAMPLE,
        }
    )

    id: str
    object: str = "document.status"
    status: DocumentStatus
    error: DocumentError | None


class DocumentDeleted(BaseModel):
    """`deleted` is true for an upload; a file of a folder is kept out of the index instead."""

    model_config = example(
        {"id": EXAMPLE["id"], "object": "document.deleted", "deleted": True, "status": None}
    )

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
    model_config = example({"object": "list", "data": [CHUNK_EXAMPLE]})

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
