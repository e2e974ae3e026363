"""Bodies of /v1/admin/collections."""

from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel, Field

from kb.types import Collection, DocumentStatus
from serving.app.examples import asked, example

EXAMPLE: Final[dict[str, Any]] = {
    "name": "handbook",
    "object": "collection",
    "created_at": "2026-11-25T09:00:00Z",
    "documents": {"indexed": 118, "failed": 2},
    "chunks": 1903,
}


class CollectionCreate(BaseModel):
    model_config = asked({"name": "handbook"})

    name: str = Field(description="lower case letters, digits and -")


class CollectionBody(BaseModel):
    """A collection with its documents by status."""

    model_config = example(EXAMPLE)

    name: str
    object: str = "collection"
    created_at: datetime
    documents: dict[DocumentStatus, int]
    chunks: int


class CollectionList(BaseModel):
    model_config = example({"object": "list", "data": [EXAMPLE]})

    object: str = "list"
    data: list[CollectionBody]


class CollectionDeleted(BaseModel):
    model_config = example({"name": "handbook", "object": "collection.deleted", "deleted": True})

    name: str
    object: str = "collection.deleted"
    deleted: bool = True


def collection_body(collection: Collection) -> CollectionBody:
    return CollectionBody(
        name=collection.name,
        created_at=collection.created_at,
        documents=dict(collection.documents),
        chunks=collection.chunks,
    )
