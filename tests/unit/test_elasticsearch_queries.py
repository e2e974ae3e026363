"""What is asked of Elasticsearch, to the letter."""

from typing import Any

import pytest

from kb.settings import IndexSettings
from kb.types import Access, IndexQuery
from retrieval import elasticsearch_queries as queries
from tests.conformance.indexed_documents import unit

SETTINGS = IndexSettings()
VECTOR = unit(1)
HEADER = {"index": "kb-a-1", "allow_partial_search_results": False}


def test_one_request_asks_both_sides_with_the_same_filter() -> None:
    query = IndexQuery(VECTOR, ("port", "9180", "port"), 50, Access(frozenset({"b", "a"})), ("d",))
    everybody = {"bool": {"must_not": {"exists": {"field": "groups"}}}}
    filters = [
        {"bool": {"should": [everybody, {"terms": {"groups": ["a", "b"]}}]}},
        {"terms": {"document_id": ["d"]}},
    ]
    assert queries.searches("kb-a-1", query, SETTINGS) == [
        HEADER,
        {
            "knn": {
                "field": "vector",
                "query_vector": VECTOR,
                "k": 50,
                "num_candidates": 200,
                "filter": filters,
                "rescore_vector": {"oversample": 3.0},
            },
            "size": 50,
            "track_total_hits": False,
            "_source": True,
        },
        HEADER,
        {
            "query": {
                "bool": {"must": {"match": {"terms": {"query": "port 9180"}}}, "filter": filters}
            },
            "size": 50,
            "track_total_hits": False,
            "_source": True,
            "stored_fields": ["exact"],
        },
    ]


def test_a_side_that_has_nothing_to_ask_is_left_out() -> None:
    dense = queries.searches("i", IndexQuery(VECTOR, (), 5), SETTINGS)
    lexical = queries.searches("i", IndexQuery(None, ("a",), 5), SETTINGS)
    assert ["knn" in line for line in dense] == [False, True]
    assert ["query" in line for line in lexical] == [False, True]
    assert "stored_fields" not in lexical[1], "without a query vector nobody needs the chunk's"
    assert queries.searches("i", IndexQuery(None, (), 5), SETTINGS) == []
    assert queries.searches("i", IndexQuery(VECTOR, ("a",), 0), SETTINGS) == []


def test_several_shards_gather_statistics_first() -> None:
    header = {**HEADER, "search_type": "dfs_query_then_fetch"}
    lines = queries.searches("kb-a-1", IndexQuery(VECTOR, ("a",), 5), IndexSettings(shards=2))
    assert (lines[0], lines[2]) == (HEADER, header)


@pytest.mark.parametrize(
    ("settings", "rescored", "brings_vectors"),
    [
        ({}, True, False),
        ({"vector_index": "int8_hnsw", "rescore_oversample": 2}, True, False),
        ({"vector_index": "int8_hnsw", "rescore_oversample": 0}, False, True),
        ({"vector_index": "hnsw"}, False, False),
    ],
)
def test_quantised_scores_are_made_exact_by_the_server_or_by_us(
    settings: dict[str, Any], rescored: bool, brings_vectors: bool
) -> None:
    _, body = queries.searches("i", IndexQuery(VECTOR, (), 5), IndexSettings(**settings))
    assert ("rescore_vector" in body["knn"]) is rescored
    assert ("stored_fields" in body) is brings_vectors


def test_no_fewer_candidates_are_looked_at_than_wanted() -> None:
    def looked_at(limit: int) -> tuple[int, int]:
        _, body = queries.searches("i", IndexQuery(VECTOR, (), limit), SETTINGS)
        return body["knn"]["k"], body["knn"]["num_candidates"]

    assert looked_at(500) == (500, 500)
    assert looked_at(20_000) == (10_000, 10_000)


def test_access() -> None:
    everybody = {"bool": {"must_not": {"exists": {"field": "groups"}}}}
    assert queries.readable(Access()) == []
    assert queries.readable(Access(frozenset())) == [everybody]


def test_no_documents_match_nothing() -> None:
    query = IndexQuery(None, ("a",), 5, document_ids=())
    assert queries.restriction(query) == [{"terms": {"document_id": []}}]


def test_pages_follow_one_another() -> None:
    first = queries.page("p1", 2, queries.ONLY_IDS)
    assert first == {
        "pit": {"id": "p1", "keep_alive": "2m"},
        "query": {"match_all": {}},
        "sort": [{"_shard_doc": "asc"}],
        "size": 2,
        "track_total_hits": False,
        "_source": False,
    }
    response = {"pit_id": "p2", "hits": {"hits": [{"sort": [1]}, {"sort": [7]}]}}
    assert queries.after(first, response) == first | {
        "pit": {"id": "p2", "keep_alive": "2m"},
        "search_after": [7],
    }


def test_vectors_come_once_a_text() -> None:
    assert queries.vectors(["h1", "h2"]) == {
        "query": {"bool": {"filter": [{"terms": {"text_hash": ["h1", "h2"]}}]}},
        "collapse": {"field": "text_hash"},
        "size": 2,
        "_source": ["text_hash", "exact"],
        "stored_fields": ["exact"],
        "track_total_hits": False,
    }


def test_documents_are_counted_page_by_page() -> None:
    first = queries.documents(10, None)
    by_document = {"size": 10, "sources": [{"document": {"terms": {"field": "document_id"}}}]}
    assert first["aggs"] == {"documents": {"composite": by_document}}
    assert first["size"] == 0
    following = queries.documents(10, {"document": "d9"})
    assert following["aggs"]["documents"]["composite"]["after"] == {"document": "d9"}
