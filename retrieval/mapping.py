"""How chunks become rows, Arrow's or others', and rows become chunks, with the checks before writing."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from kb.types import Candidate, Chunk, IndexedContent, IndexedDocument, IndexSchema, Vector
from retrieval.terms import terms

MAPPING_VERSION: Final = 1
"""Raise it when columns, or what `terms` returns, change: older indexes are then refused."""

SCHEMA_KEY: Final = b"kb"
"""The entry of the table's Arrow metadata that holds the IndexSchema as JSON."""

CHUNK_COLUMNS: Final = (
    "id",
    "document_id",
    "uri",
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

HIT_COLUMNS: Final = (*CHUNK_COLUMNS, "terms")
"""What a search reads: with the terms, the fusion need not work them out again."""

Row = Mapping[str, Any]


def arrow_schema(schema: IndexSchema) -> Any:
    """The `pyarrow.Schema` of a table: one row a chunk; `vector` is float32[dimensions]."""
    import pyarrow as pa

    strings = pa.list_(pa.field("item", pa.string(), nullable=False))
    vector = pa.list_(pa.float32(), schema.dimensions)
    required = [
        ("id", pa.string()),
        ("document_id", pa.string()),
        ("uri", pa.string()),
        ("groups", strings),
        ("revision", pa.string()),
        ("ordinal", pa.int32()),
        ("title", pa.string()),
        ("heading_path", strings),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("text", pa.string()),
        ("text_hash", pa.string()),
        ("tokens", pa.int32()),
        ("terms", pa.string()),
        ("vector", vector),
    ]
    fields = [pa.field(name, kind, nullable=False) for name, kind in required]
    fields.append(pa.field("page", pa.int32(), nullable=True))
    return pa.schema(fields, metadata={SCHEMA_KEY: json.dumps(asdict(schema)).encode()})


def stored_schema(table_schema: Any) -> IndexSchema | None:
    """The IndexSchema a `pyarrow.Schema` carries; None when it is not one of ours."""
    stored = (table_schema.metadata or {}).get(SCHEMA_KEY)
    return IndexSchema(**json.loads(stored)) if stored else None


def difference(name: str, built: IndexSchema | None, wanted: IndexSchema) -> str | None:
    """A sentence naming what differs and the remedy; None when the schemas are equal."""
    if built == wanted:
        return None
    if built is None:
        differs = "it was not made by this program"
    else:
        old, new = asdict(built), asdict(wanted)
        differs = ", ".join(
            f"{key.replace('_', ' ')} {old[key]} (now {new[key]})"
            for key in new
            if old[key] != new[key]
        )
        differs = f"it was built with {differs}"
    return (
        f"The index {name} does not fit the present settings: {differs}. Put the settings back, or run"
        " `kb reindex --collection NAME` for its collection."
    )


def check_documents(documents: Sequence[IndexedDocument], dimensions: int) -> None:
    """Raises ValueError for anything an index must not hold. Called before the first write."""
    seen_documents: set[str] = set()
    seen_chunks: set[str] = set()
    for document in documents:
        if document.id in seen_documents:
            raise ValueError(f"Document {document.id} is there twice in one call.")
        seen_documents.add(document.id)
        _check_vectors(document, dimensions)
        for chunk in document.chunks:
            if chunk.document_id != document.id:
                raise ValueError(f"Chunk {chunk.id} is not one of document {document.id}.")
            if chunk.id in seen_chunks:
                raise ValueError(f"Chunk {chunk.id} is there twice in one call.")
            seen_chunks.add(chunk.id)
        _check_text(document)


def _check_vectors(document: IndexedDocument, dimensions: int) -> None:
    expected = (len(document.chunks), dimensions)
    # A document without chunks is a deletion: whatever empty array comes with it will do.
    if document.vectors.shape != expected and (document.chunks or document.vectors.size):
        raise ValueError(
            f"Vectors of document {document.id} have shape {document.vectors.shape}, not {expected}."
        )
    if not np.isfinite(document.vectors).all():
        raise ValueError(f"Vectors of document {document.id} are not finite.")


def _check_text(document: IndexedDocument) -> None:
    """Lone surrogates cannot be stored; UnicodeEncodeError is a ValueError that names the place."""
    for text in (document.uri, *document.groups):
        text.encode()
    for chunk in document.chunks:
        for text in (chunk.title, *chunk.heading_path, chunk.text):
            text.encode()


def check_query_vector(vector: Vector, dimensions: int) -> None:
    if vector.shape != (dimensions,) or not np.isfinite(vector).all():
        raise ValueError(f"A query vector must be {dimensions} finite numbers.")


def arrow_rows(documents: Sequence[IndexedDocument], schema: IndexSchema) -> Any:
    """All chunks of these documents as one `pyarrow.Table`. Cuts terms: call it off the event loop."""
    import pyarrow as pa

    table_schema = arrow_schema(schema)
    rows = [row(document, chunk) for document in documents for chunk in document.chunks]
    if not rows:
        return table_schema.empty_table()
    matrix = np.concatenate([document.vectors for document in documents if document.chunks])
    flat = pa.array(np.ascontiguousarray(matrix, dtype=np.float32).reshape(-1))
    columns = {
        "vector": pa.FixedSizeListArray.from_arrays(flat, type=table_schema.field("vector").type)
    }
    arrays = [
        columns[field.name]
        if field.name in columns
        else pa.array([row[field.name] for row in rows], type=field.type)
        for field in table_schema
    ]
    return pa.Table.from_arrays(arrays, schema=table_schema)


def row(document: IndexedDocument, chunk: Chunk) -> dict[str, Any]:
    """All that an index stores of a chunk, but for its vector."""
    values = {name: getattr(chunk, name) for name in CHUNK_COLUMNS if name != "uri"}
    return values | {
        "uri": document.uri,
        "groups": list(document.groups),
        "revision": document.revision,
        "heading_path": list(chunk.heading_path),
        "terms": " ".join(terms(chunk.passage)),
    }


def chunk_of(row: Row) -> Chunk:
    values = {name: row[name] for name in CHUNK_COLUMNS if name != "uri"}
    return Chunk(**values | {"heading_path": tuple(row["heading_path"])})


def contents(rows: Iterable[tuple[str, str, str]]) -> dict[str, IndexedContent]:
    """Document id, chunk id and revision of each row, put together by document."""
    chunk_ids: dict[str, set[str]] = {}
    revisions: dict[str, set[str]] = {}
    for document, chunk, revision in rows:
        chunk_ids.setdefault(document, set()).add(chunk)
        revisions.setdefault(document, set()).add(revision)
    return {
        document: IndexedContent(frozenset(chunks), frozenset(revisions[document]))
        for document, chunks in chunk_ids.items()
    }


def candidates(
    dense: Iterable[Row], lexical: Iterable[Row], vector: Vector | None
) -> list[Candidate]:
    """The union of both sides' rows, each chunk once.

    Dense rows carry `_distance` (1 - dot product), lexical rows `_score` and their vector, from which
    the cosine of those the dense side did not bring is computed here.
    """
    found: dict[str, Candidate] = {}
    for row in dense:
        similarity = cosine(1.0 - row["_distance"])
        found[row["id"]] = _candidate(row, similarity, 0.0)
    for row in lexical:
        known = found.get(row["id"])
        if known is not None:
            similarity_known = known.similarity
        elif vector is None:
            similarity_known = None
        else:
            similarity_known = cosine(float(np.dot(np.asarray(row["vector"], np.float32), vector)))
        found[row["id"]] = _candidate(row, similarity_known, row["_score"])
    return list(found.values())


def _candidate(row: Row, similarity: float | None, bm25: float) -> Candidate:
    return Candidate(chunk_of(row), row["uri"], similarity, bm25, row["terms"])


def cosine(dot: float) -> float:
    """The dot product of two unit vectors, without what rounding adds beyond 1."""
    return min(1.0, max(-1.0, dot))
