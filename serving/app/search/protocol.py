"""Bodies of /v1/search."""

from pydantic import BaseModel, ConfigDict, Field

from kb.types import Hit
from serving.bootstrap import DEFAULT_COLLECTION


class SearchRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    query: str
    collection: str = DEFAULT_COLLECTION
    limit: int = Field(10, ge=1)


class SearchHit(BaseModel):
    """A passage. `score` is 0 to 1 and absolute; `similarity` (cosine) and `bm25` are its sides.

    `also_at`: other documents with the same text, of those this key may read.
    """

    document_id: str
    chunk_id: str
    uri: str
    also_at: list[str]
    title: str
    heading_path: list[str]
    page: int | None
    start: int
    end: int
    text: str
    score: float
    similarity: float | None
    bm25: float


class SearchOrigin(BaseModel):
    """`cached`: found before, and still what would be found."""

    cached: bool


class SearchResponse(BaseModel):
    object: str = "list"
    collection: str
    query: str
    data: list[SearchHit]
    kb: SearchOrigin


def search_hit(hit: Hit) -> SearchHit:
    chunk = hit.chunk
    return SearchHit(
        document_id=chunk.document_id,
        chunk_id=chunk.id,
        uri=hit.uri,
        also_at=list(hit.also_at),
        title=chunk.title,
        heading_path=list(chunk.heading_path),
        page=chunk.page,
        start=chunk.start,
        end=chunk.end,
        text=chunk.text,
        score=hit.score,
        similarity=hit.similarity,
        bm25=hit.bm25,
    )
