"""Documents ready for an index, made from texts: what the tests of indexes share."""

from collections.abc import Sequence

import numpy as np

from kb import ids
from kb.types import Chunk, IndexedDocument, IndexSchema, Vector, Vectors, passage_text

DIMENSIONS = 16
SCHEMA = IndexSchema("test-embedder", DIMENSIONS, 1, 1)


def unit(*values: float) -> Vector:
    """A vector of length 1 that begins with these values, the rest zero."""
    vector = np.zeros(DIMENSIONS, np.float32)
    vector[: len(values)] = values
    return vector / np.float32(np.linalg.norm(vector))


def random_vectors(count: int, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((count, DIMENSIONS)).astype(np.float32)
    normed: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return normed


def document(
    name: str,
    texts: Sequence[str],
    vectors: Vectors | None = None,
    groups: tuple[str, ...] = (),
    revision: str = "1",
) -> IndexedDocument:
    """A document of one chunk a text, without titles, so that a text is its own passage."""
    chunks = []
    for ordinal, text in enumerate(texts):
        digest = ids.text_hash(passage_text("", (), text))
        occurrence = list(texts[:ordinal]).count(text)
        identifier = ids.chunk_id(name, digest, occurrence)
        chunks.append(Chunk(identifier, name, ordinal, "", (), None, 0, len(text), text, digest, 3))
    if vectors is None:
        vectors = random_vectors(len(texts), seed=len(texts))
    return IndexedDocument(name, f"file:///{name}", groups, revision, tuple(chunks), vectors)
