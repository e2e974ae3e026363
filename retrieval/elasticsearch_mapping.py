"""How chunks become Elasticsearch documents and hits become candidates. Pure, but for `actions`' clock time.

A chunk is one document whose `_id` is the chunk's id. Terms are cut by `retrieval.terms` and split by
the server at white space only. Of a vector there are two copies: `vector`, which the server searches
(quantised in memory), and `exact`, its float32 bytes in base64, from which vectors come back bit for bit
and which gives candidates that only the terms found their true cosine. Neither is in `_source`, so a
search has the server copy that as it is: picking fields out of it costs more than the few sent in vain.
"""

import binascii
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from kb.settings import IndexSettings
from kb.types import Candidate, Chunk, IndexedDocument, IndexSchema, Vector
from retrieval import mapping

META: Final = "kb"
"""The entry of the mapping's `_meta` that holds the IndexSchema."""

BBQ_LEAST_DIMENSIONS: Final = 64
"""Elasticsearch refuses bbq_hnsw for shorter vectors: one bit a dimension would tell too little."""

CHUNK_FIELDS: Final = [name for name in mapping.CHUNK_COLUMNS if name != "id"]

Hit = Mapping[str, Any]

_KEYWORD: Final = {"type": "keyword"}
# Kept in `_source` only: checked to be strings or numbers, but neither indexed nor in a column.
_TEXT: Final = {"type": "text", "index": False}
_INTEGER: Final = {"type": "integer", "index": False, "doc_values": False}
_LONG: Final = {"type": "long", "index": False, "doc_values": False}


# --- The index ---------------------------------------------------------------------------------


def index_body(schema: IndexSchema, settings: IndexSettings) -> dict[str, Any]:
    """What an index is created with. Any field not named here is refused (`strict`)."""
    return {
        "settings": {
            "index": {
                "number_of_shards": settings.shards,
                "number_of_replicas": settings.replicas,
                # BM25's own defaults, written down because the ranking rests on them.
                "similarity": {"default": {"type": "BM25", "k1": 1.2, "b": 0.75}},
            }
        },
        "mappings": {
            "dynamic": "strict",
            "_meta": {META: asdict(schema)},
            "_source": {"excludes": ["vector", "exact"]},
            "properties": {
                "document_id": _KEYWORD,
                "uri": _TEXT,
                "groups": _KEYWORD,
                "revision": _KEYWORD,
                "ordinal": _INTEGER,
                "title": _TEXT,
                "heading_path": _TEXT,
                "page": _INTEGER,
                "start": _LONG,
                "end": _LONG,
                "text": _TEXT,
                "text_hash": _KEYWORD,
                "tokens": _INTEGER,
                # Positions would serve phrases, which nobody asks for.
                "terms": {"type": "text", "analyzer": "whitespace", "index_options": "freqs"},
                "vector": {
                    "type": "dense_vector",
                    "dims": schema.dimensions,
                    "index": True,
                    "similarity": "dot_product",
                    "index_options": vector_options(schema.dimensions, settings),
                },
                "exact": {"type": "binary", "store": True},
            },
        },
    }


def vector_options(dimensions: int, settings: IndexSettings) -> dict[str, Any]:
    kind = settings.vector_index
    if kind == "bbq_hnsw" and dimensions < BBQ_LEAST_DIMENSIONS:
        kind = "int8_hnsw"
    return {"type": kind, "m": settings.hnsw_m, "ef_construction": settings.hnsw_ef_construction}


def stored_schema(mappings: Mapping[str, Any]) -> IndexSchema | None:
    """The IndexSchema that an index's mappings carry; None when it is not one of ours."""
    stored = mappings.get("_meta", {}).get(META)
    return IndexSchema(**stored) if stored else None


# --- Writing -----------------------------------------------------------------------------------


def actions(index: str, documents: Sequence[IndexedDocument]) -> Iterator[dict[str, Any]]:
    """One bulk action a chunk, in the form of the client's helpers. Cuts terms, at about 0.3 ms a chunk."""
    for document in documents:
        if not document.chunks:
            continue
        vectors = np.ascontiguousarray(document.vectors, np.dtype("<f4"))
        for chunk, vector in zip(document.chunks, vectors, strict=True):
            yield {
                "_op_type": "index",
                "_index": index,
                "_id": chunk.id,
                "_source": source(document, chunk, vector),
            }


def source(document: IndexedDocument, chunk: Chunk, vector: Vector) -> dict[str, Any]:
    row = mapping.row(document, chunk)
    del row["id"]
    exact = binascii.b2a_base64(vector.tobytes(), newline=False).decode()
    return row | {"vector": vector, "exact": exact}


def deletions(index: str, chunk_ids: Iterable[str]) -> Iterator[dict[str, Any]]:
    for chunk_id in chunk_ids:
        yield {"_op_type": "delete", "_index": index, "_id": chunk_id}


# --- Reading -----------------------------------------------------------------------------------


def chunk_of(hit: Hit) -> Chunk:
    row = hit["_source"]
    return Chunk(
        hit["_id"],
        row["document_id"],
        row["ordinal"],
        row["title"],
        tuple(row["heading_path"]),
        row["page"],
        row["start"],
        row["end"],
        row["text"],
        row["text_hash"],
        row["tokens"],
    )


def vector_of(hit: Hit) -> Vector:
    """The vector as it was written, bit for bit."""
    data = binascii.a2b_base64(exact_of(hit) or "")
    return np.frombuffer(data, np.dtype("<f4")).astype(np.float32, copy=False)


def exact_of(hit: Hit) -> str | None:
    """The vector in base64, where it was asked for. Older indexes hold it in `_source`."""
    stored = hit.get("fields", {}).get("exact")
    found: str | None = stored[0] if stored else hit["_source"].get("exact")
    return found


def candidates(
    dense: Sequence[Hit], lexical: Sequence[Hit], vector: Vector | None
) -> list[Candidate]:
    """The union of both sides' hits, each chunk once.

    A hit that carries `exact` has its cosine computed from that; a dense one without it has a score
    that is exact: (1 + dot product) / 2.
    """
    hits = {hit["_id"]: hit for hit in (*lexical, *dense)}
    scores = {hit["_id"]: hit["_score"] for hit in lexical}
    similarities = similarities_of(dense, lexical, vector)
    return [
        Candidate(
            chunk_of(hit),
            hit["_source"]["uri"],
            similarities.get(chunk_id),
            scores.get(chunk_id, 0.0),
            hit["_source"]["terms"],
        )
        for chunk_id, hit in hits.items()
    ]


def similarities_of(
    dense: Sequence[Hit], lexical: Sequence[Hit], vector: Vector | None
) -> dict[str, float]:
    """The cosine by chunk id; nothing without a query vector."""
    if vector is None:
        return {}
    found = {hit["_id"]: mapping.cosine(2 * hit["_score"] - 1) for hit in dense}
    # Decoding is what costs here: not for hits whose score is their cosine already.
    carrying = [(hit["_id"], exact) for hit in dense if (exact := exact_of(hit))]
    carrying += [
        (hit["_id"], exact)
        for hit in lexical
        if hit["_id"] not in found and (exact := exact_of(hit))
    ]
    if carrying:
        data = b"".join([binascii.a2b_base64(exact) for _, exact in carrying])
        dots = np.frombuffer(data, np.dtype("<f4")).reshape(len(carrying), -1) @ vector
        for (chunk_id, _), dot in zip(carrying, dots.tolist(), strict=True):
            found[chunk_id] = mapping.cosine(dot)
    return found
