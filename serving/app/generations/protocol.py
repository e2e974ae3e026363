"""Bodies of /v1/admin/generations, /v1/admin/reindex and /v1/admin/rollback."""

from dataclasses import asdict
from typing import Any, Final

from pydantic import BaseModel, Field

from kb.types import Generation
from serving.app.examples import asked, example
from serving.bootstrap import DEFAULT_COLLECTION
from serving.reindexing import Estimate

EXAMPLE: Final[dict[str, Any]] = {
    "collection": "handbook",
    "object": "generation",
    "number": 2,
    "index": "kb-handbook.2",
    "live": True,
    "fingerprint": "multilingual-e5-small/onnx-int8",
    "dimensions": 384,
}


class OfCollection(BaseModel):
    model_config = asked({"collection": "handbook"})

    collection: str = DEFAULT_COLLECTION


class ReindexStart(BaseModel):
    """`embedder`: `e5-onnx`, or the folder or name of a sentence-transformers model; empty: the settings'."""

    model_config = asked({"collection": "handbook", "dry_run": False, "chunks_per_s": 200})

    collection: str = DEFAULT_COLLECTION
    embedder: str = ""
    dry_run: bool = Field(default=False, description="only say what it would cost (200, not 202)")
    chunks_per_s: float | None = Field(
        default=None, ge=0.1, le=1e9, description="most chunks per second, to spare the machine"
    )


class GenerationBody(BaseModel):
    """One physical index of a collection; `fingerprint` names the embedder it was built with."""

    model_config = example(EXAMPLE)

    collection: str
    object: str = "generation"
    number: int
    index: str
    live: bool
    fingerprint: str
    dimensions: int


class GenerationList(BaseModel):
    model_config = example({"object": "list", "data": [EXAMPLE]})

    object: str = "list"
    data: list[GenerationBody]


class EstimateBody(BaseModel):
    """What a reindex would cost: `embedded` chunks in about `seconds`, and `disk_mb` MiB (a guess on the
    safe side)."""

    model_config = example(
        {
            "object": "reindex.estimate",
            "documents": 120,
            "chunks": 1903,
            "embedded": 1903,
            "seconds": 160.0,
            "disk_mb": 9.5,
        }
    )

    object: str = "reindex.estimate"
    documents: int
    chunks: int
    embedded: int
    seconds: float
    disk_mb: float


class RolledBack(BaseModel):
    """`changed_since`: documents that changed meanwhile; the next sync reads them again."""

    model_config = example(
        {"object": "rollback", "generation": EXAMPLE | {"number": 1}, "changed_since": 3}
    )

    object: str = "rollback"
    generation: GenerationBody
    changed_since: int


def generation_body(generation: Generation) -> GenerationBody:
    return GenerationBody(
        collection=generation.collection,
        number=generation.number,
        index=generation.index_name,
        live=generation.live,
        fingerprint=generation.schema.fingerprint,
        dimensions=generation.schema.dimensions,
    )


def generation_list(generations: list[Generation]) -> GenerationList:
    return GenerationList(data=[generation_body(generation) for generation in generations])


def estimate_body(estimate: Estimate) -> EstimateBody:
    return EstimateBody(**asdict(estimate))
