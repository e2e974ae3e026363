"""POST /v1/embeddings, as OpenAI's, with the index's own model."""

import base64
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from kb.errors import InvalidQueryError
from kb.types import Vector
from serving.app.dependencies import ModelNotFound, ServicesDep

EMBEDDING_MODEL = "kb-embedding"
MAX_INPUTS = 2048
"""OpenAI's own limit for one request."""

router = APIRouter(prefix="/v1/embeddings", tags=["embeddings"])


class EmbeddingsRequest(BaseModel):
    """`input_type` is ours: questions and passages are embedded differently."""

    model_config = ConfigDict(extra="forbid")

    model: str
    input: str | list[str]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None
    input_type: Literal["passage", "query"] = "passage"


@router.post("")
async def embed(request: EmbeddingsRequest, services: ServicesDep) -> dict[str, Any]:
    embedder = await services.embedder()
    if request.model not in (EMBEDDING_MODEL, embedder.fingerprint):
        raise ModelNotFound(
            f"There is no embedding model {request.model!r}; the one here is {EMBEDDING_MODEL!r}."
        )
    if request.dimensions not in (None, embedder.dimensions):
        raise InvalidQueryError(
            f"dimensions: this model has {embedder.dimensions}, no other number."
        )
    texts = [request.input] if isinstance(request.input, str) else request.input
    if not 1 <= len(texts) <= MAX_INPUTS:
        raise InvalidQueryError(f"input: give 1 to {MAX_INPUTS} texts.")
    if not all(text.strip() for text in texts):
        raise InvalidQueryError("input: a text is empty.")
    embed_texts = embedder.queries if request.input_type == "query" else embedder.passages
    vectors = await embed_texts(texts)
    tokens = sum(embedder.count_tokens(texts))
    return {
        "object": "list",
        "model": embedder.fingerprint,
        "data": [
            {
                "object": "embedding",
                "index": i,
                "embedding": _encoded(vector, request.encoding_format),
            }
            for i, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _encoded(vector: Vector, encoding: str) -> list[float] | str:
    """Base64 of little-endian float32 is what OpenAI's clients ask for by default."""
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    return [float(number) for number in vector]
