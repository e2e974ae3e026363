"""What Elasticsearch is given and what is made of its hits, to the letter."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kb.settings import IndexSettings
from kb.types import IndexSchema
from retrieval import elasticsearch_mapping as mapping
from tests.conformance.indexed_documents import DIMENSIONS, SCHEMA, document, unit

SETTINGS = IndexSettings()


def test_an_index_takes_nothing_that_is_not_named_and_knows_its_schema() -> None:
    wide = IndexSchema("e5/abc", 384, 1, 2)
    text = {"type": "text", "index": False}
    assert mapping.index_body(wide, IndexSettings(shards=3, replicas=1)) == {
        "settings": {
            "index": {
                "number_of_shards": 3,
                "number_of_replicas": 1,
                "similarity": {"default": {"type": "BM25", "k1": 1.2, "b": 0.75}},
            }
        },
        "mappings": {
            "dynamic": "strict",
            "_meta": {
                "kb": {
                    "fingerprint": "e5/abc",
                    "dimensions": 384,
                    "mapping_version": 1,
                    "chunker_version": 2,
                }
            },
            "_source": {"excludes": ["vector", "exact"]},
            "properties": {
                "document_id": {"type": "keyword"},
                "uri": text,
                "groups": {"type": "keyword"},
                "revision": {"type": "keyword"},
                "ordinal": {"type": "integer", "index": False, "doc_values": False},
                "title": text,
                "heading_path": text,
                "page": {"type": "integer", "index": False, "doc_values": False},
                "start": {"type": "long", "index": False, "doc_values": False},
                "end": {"type": "long", "index": False, "doc_values": False},
                "text": text,
                "text_hash": {"type": "keyword"},
                "tokens": {"type": "integer", "index": False, "doc_values": False},
                "terms": {"type": "text", "analyzer": "whitespace", "index_options": "freqs"},
                "vector": {
                    "type": "dense_vector",
                    "dims": 384,
                    "index": True,
                    "similarity": "dot_product",
                    "index_options": {"type": "bbq_hnsw", "m": 16, "ef_construction": 200},
                },
                "exact": {"type": "binary", "store": True},
            },
        },
    }


@pytest.mark.parametrize(
    ("dimensions", "wanted", "given"),
    [
        (64, "bbq_hnsw", "bbq_hnsw"),
        (63, "bbq_hnsw", "int8_hnsw"),
        (16, "int8_hnsw", "int8_hnsw"),
        (16, "hnsw", "hnsw"),
    ],
)
def test_short_vectors_are_not_cut_down_to_bits(dimensions: int, wanted: Any, given: str) -> None:
    settings = IndexSettings(vector_index=wanted, hnsw_m=8, hnsw_ef_construction=50)
    options = mapping.vector_options(dimensions, settings)
    assert options == {"type": given, "m": 8, "ef_construction": 50}


def test_a_schema_is_read_back_and_only_ours_is() -> None:
    assert mapping.stored_schema(mapping.index_body(SCHEMA, SETTINGS)["mappings"]) == SCHEMA
    assert mapping.stored_schema({}) is None
    assert mapping.stored_schema({"_meta": {"other": {}}}) is None


def test_a_chunk_becomes_one_action() -> None:
    written = document("d", ["Two apples"], np.stack([unit(1)]), groups=("staff",))
    chunk = replace(written.chunks[0], title="T", heading_path=("T", "H"), page=3)
    written = replace(written, chunks=(chunk,))
    (action,) = mapping.actions("kb-a-1", [document("empty", []), written])
    vector = action["_source"].pop("vector")
    np.testing.assert_array_equal(vector, unit(1))
    assert vector.dtype == np.float32
    assert action == {
        "_op_type": "index",
        "_index": "kb-a-1",
        "_id": chunk.id,
        "_source": {
            "document_id": "d",
            "uri": "file:///d",
            "groups": ["staff"],
            "revision": "1",
            "ordinal": 0,
            "title": "T",
            "heading_path": ["T", "H"],
            "page": 3,
            "start": 0,
            "end": 10,
            "text": "Two apples",
            "text_hash": chunk.text_hash,
            "tokens": 3,
            "terms": "t h two appl",
            # 1.0 as four little-endian bytes, then zeros.
            "exact": "AACAPwAA" + "A" * 78 + "==",
        },
    }


@pytest.mark.parametrize("stored", [True, False], ids=["stored field", "older index"])
def test_a_vector_comes_back_bit_for_bit(stored: bool) -> None:
    written = document("d", ["x"])
    (action,) = mapping.actions("i", [written])
    exact = action["_source"].pop("exact")
    hit = {"fields": {"exact": [exact]}, "_source": {}} if stored else {"_source": {"exact": exact}}
    found = mapping.vector_of(hit)
    np.testing.assert_array_equal(found, written.vectors[0])
    assert found.shape == (DIMENSIONS,)


def _hit(name: str, score: float, vector: Any = None) -> dict[str, Any]:
    written = document(name, [name], None if vector is None else np.stack([vector]))
    (action,) = mapping.actions("i", [written])
    source = action["_source"]
    del source["vector"]
    exact = source.pop("exact")
    hit = {"_id": action["_id"], "_score": score, "_source": source}
    return hit if vector is None else hit | {"fields": {"exact": [exact]}}


def test_both_sides_join_and_each_candidate_has_its_cosine() -> None:
    """(1 + cosine) / 2 where the score is exact, the vectors' product where the vector came along."""
    dense = [_hit("both", 0.9), _hit("near", 0.75)]
    lexical = [_hit("both", 3.5, unit(0.8, 0.6)), _hit("far", 2.5, unit(0.6, -0.8))]
    found = {each.chunk.text: each for each in mapping.candidates(dense, lexical, unit(1))}
    assert set(found) == {"both", "near", "far"}
    assert found["near"].similarity == pytest.approx(0.5)
    assert found["both"].similarity == pytest.approx(0.8)
    assert found["far"].similarity == pytest.approx(0.6)
    assert {name: each.bm25 for name, each in found.items()} == {"both": 3.5, "near": 0, "far": 2.5}
    assert found["far"].uri == "file:///far"
    assert found["far"].terms == "far"


def test_a_dense_hit_with_its_vector_takes_the_cosine_from_that() -> None:
    (found,) = mapping.candidates([_hit("d", 0.7, unit(1))], [], unit(1))
    assert found.similarity == 1


def test_without_a_query_vector_there_is_no_cosine() -> None:
    (found,) = mapping.candidates([], [_hit("d", 2.0)], None)
    assert (found.similarity, found.bm25) == (None, 2.0)
