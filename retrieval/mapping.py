"""What an index row holds: the Arrow schema, and chunks to rows and back. Pure.

Raise MAPPING_VERSION whenever a column, or what `retrieval.terms` returns, changes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson

from kb.types import Candidate, Chunk, IndexedDocument, IndexSchema
from retrieval.terms import terms

if TYPE_CHECKING:
    import pyarrow as pa

MAPPING_VERSION: Final = 1
SCHEMA_KEY: Final = b"kb"
"""Under this key of the Arrow schema's metadata stands what the index was built with."""

CHUNK_COLUMNS: Final = (
    "id",
    "document_id",
    "ordinal",
    "title",
    "heading_path",
    "page",
    "start",
    "end",
    "text",
    "text_hash",
    "tokens",
)
HIT_COLUMNS: Final = (*CHUNK_COLUMNS, "uri", "terms")


def arrow_schema(schema: IndexSchema) -> "pa.Schema":
    """One row a chunk; `terms` are separated by white space, `vector` has L2 norm 1."""
    import pyarrow as pa

    text, number, texts = pa.string(), pa.int32(), pa.list_(pa.string())
    kinds = dict.fromkeys(CHUNK_COLUMNS, text) | {
        "ordinal": number,
        "heading_path": texts,
        "page": number,
        "start": pa.int64(),
        "end": pa.int64(),
        "tokens": number,
        "uri": text,
        "groups": texts,
        "terms": text,
        "vector": pa.list_(pa.float32(), schema.dimensions),
    }
    metadata = {SCHEMA_KEY: orjson.dumps(asdict(schema))}
    return pa.schema(list(kinds.items()), metadata=metadata)


def index_schema(metadata: Mapping[bytes, bytes] | None) -> IndexSchema | None:
    """What an index was built with, from its metadata; None when it is no index of ours."""
    stored = (metadata or {}).get(SCHEMA_KEY)
    return IndexSchema(**orjson.loads(stored)) if stored else None


def check_documents(documents: Sequence[IndexedDocument], dimensions: int) -> None:
    """Raises ValueError for what must never be written."""
    seen: set[str] = set()
    for document in documents:
        shape = (len(document.chunks), dimensions)
        if document.vectors.shape != shape:
            raise ValueError(
                f"{document.id}: vectors have shape {document.vectors.shape}, not {shape}"
            )
        if not np.isfinite(document.vectors).all():
            raise ValueError(f"{document.id}: a vector is not finite")
        names = [document.id, *(chunk.id for chunk in document.chunks)]
        if len(set(names)) < len(names) or seen & set(names):
            raise ValueError(f"{document.id}: an id is there twice")
        seen.update(names)
        if any(chunk.document_id != document.id for chunk in document.chunks):
            raise ValueError(f"{document.id}: a chunk belongs to another document")


def rows(documents: Sequence[IndexedDocument], schema: IndexSchema) -> "pa.Table":
    import pyarrow as pa

    chunks = [(document, chunk) for document in documents for chunk in document.chunks]
    columns: dict[str, Any] = {
        name: [getattr(chunk, name) for _, chunk in chunks] for name in CHUNK_COLUMNS
    }
    columns["uri"] = [document.uri for document, _ in chunks]
    columns["groups"] = [document.groups for document, _ in chunks]
    columns["terms"] = [" ".join(terms(chunk.passage)) for _, chunk in chunks]
    vectors = [document.vectors for document in documents]
    flat = (
        np.concatenate(vectors).astype(np.float32).ravel() if vectors else np.empty(0, np.float32)
    )
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(flat), schema.dimensions)
    return pa.table(columns, schema=arrow_schema(schema))


def chunk(row: Mapping[str, Any]) -> Chunk:
    values = {name: row[name] for name in CHUNK_COLUMNS}
    values["heading_path"] = tuple(values["heading_path"] or ())
    return Chunk(**values)


def candidate(row: Mapping[str, Any], similarity: float | None, bm25: float) -> Candidate:
    return Candidate(chunk(row), row["uri"], similarity, bm25, row["terms"])


def mismatch(name: str, there: IndexSchema | None, wanted: IndexSchema) -> str:
    """What differs, for the user."""
    if there is None:
        return f"{name} is not an index of ours: something else lies in the index folder."
    old, new = asdict(there), asdict(wanted)
    differences = ", ".join(f"{k} {old[k]} instead of {new[k]}" for k in new if old[k] != new[k])
    return (
        f"The index {name} was built with {differences}. Go back to the former settings, or delete "
        "the collection (`kb collections delete NAME --yes`) and ingest again."
    )
