"""Requests to Elasticsearch as plain values. Everything from outside is data in them, never syntax."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from kb.settings import IndexSettings
from kb.types import Access, IndexQuery, Vector
from retrieval.elasticsearch_mapping import CHUNK_FIELDS

NUM_CANDIDATES_LIMIT: Final = 10_000
"""Most that Elasticsearch lets a vector search look at, and most hits of one request."""
FILTER_VALUES: Final = 10_000
"""Values of one filter; Elasticsearch's own limit is 65,536 (index.max_terms_count)."""
MOST_TERMS: Final = 1_000
"""Terms of a lexical query; Elasticsearch's own limit on clauses is 1,024 or more."""
ALL_IN_ORDER: Final = [{"_shard_doc": "asc"}]
"""The cheapest order in which a point in time can be paged through."""

Body = dict[str, Any]

WHOLE: Final[Body] = {"_source": True}
WHOLE_WITH_VECTOR: Final[Body] = {"_source": True, "stored_fields": ["exact"]}

# --- Search -------------------------------------------------------------------------------------


def searches(index: str, query: IndexQuery, settings: IndexSettings) -> list[Body]:
    """The lines of one `_msearch`: a header and a body for each side, dense before lexical.

    No lines when there is nothing to search for.
    """
    sides = []
    if query.limit < 1:
        return []
    if query.vector is not None:
        sides += [header(index), dense(query, query.vector, settings)]
    if query.terms:
        sides += [header(index, settings.shards), lexical(query)]
    return sides


def header(index: str, shards: int = 1) -> Body:
    """A failed shard fails the search: half an answer would look like a whole one.

    With several shards BM25's statistics are gathered from all of them first, so that a chunk's score
    does not depend on the shard it is in.
    """
    lines: Body = {"index": index, "allow_partial_search_results": False}
    return lines | {"search_type": "dfs_query_then_fetch"} if shards > 1 else lines


def dense(query: IndexQuery, vector: Vector, settings: IndexSettings) -> Body:
    """The filter is applied while the graph is walked, so a filtered search still fills its limit."""
    size = min(query.limit, NUM_CANDIDATES_LIMIT)
    knn: Body = {
        "field": "vector",
        "query_vector": vector,
        "k": size,
        "num_candidates": min(max(settings.num_candidates, size), NUM_CANDIDATES_LIMIT),
    }
    if filters := restriction(query):
        knn["filter"] = filters
    if rescores(settings):
        knn["rescore_vector"] = {"oversample": settings.rescore_oversample}
    shown = WHOLE if scores_are_exact(settings) else WHOLE_WITH_VECTOR
    return {"knn": knn, "size": size, "track_total_hits": False, **shown}


def lexical(query: IndexQuery) -> Body:
    """A term said twice counts once: a question that repeats a word does not ask for it twice as much."""
    text = " ".join(list(dict.fromkeys(query.terms))[:MOST_TERMS])
    body: Body = {
        "query": {"bool": {"must": {"match": {"terms": {"query": text}}}}},
        "size": min(query.limit, NUM_CANDIDATES_LIMIT),
        "track_total_hits": False,
        **(WHOLE if query.vector is None else WHOLE_WITH_VECTOR),
    }
    if filters := restriction(query):
        body["query"]["bool"]["filter"] = filters
    return body


def rescores(settings: IndexSettings) -> bool:
    """Whether the server is asked to compare the best quantised vectors exactly."""
    return settings.vector_index != "hnsw" and settings.rescore_oversample >= 1


def scores_are_exact(settings: IndexSettings) -> bool:
    """Whether the vector side's scores are those of the unquantised vectors."""
    return settings.vector_index == "hnsw" or rescores(settings)


def restriction(query: IndexQuery) -> list[Body]:
    """The filters that both sides apply before they rank; none lets everything through."""
    filters = readable(query.access)
    if query.document_ids is not None:
        filters.append(one_of("document_id", query.document_ids))
    return filters


def readable(access: Access) -> list[Body]:
    """A document without groups is for everybody; else one common group is needed."""
    if access.groups is None:
        return []
    everybody = {"bool": {"must_not": {"exists": {"field": "groups"}}}}
    if not access.groups:
        return [everybody]
    return [{"bool": {"should": [everybody, one_of("groups", sorted(access.groups))]}}]


def one_of(field: str, values: Iterable[str]) -> Body:
    """No values match nothing."""
    return {"terms": {field: list(values)}}


# --- Reading what is there ----------------------------------------------------------------------


def page(point_in_time: str, size: int, shown: Body, matching: Body | None = None) -> Body:
    """The first page of all chunks that match. `shown` says which fields come with them."""
    return {
        "pit": {"id": point_in_time, "keep_alive": "2m"},
        "query": matching or {"match_all": {}},
        "sort": ALL_IN_ORDER,
        "size": size,
        "track_total_hits": False,
        **shown,
    }


def after(body: Body, response: Mapping[str, Any]) -> Body:
    """The page that follows a response."""
    point_in_time = {"id": response["pit_id"], "keep_alive": "2m"}
    return body | {"pit": point_in_time, "search_after": response["hits"]["hits"][-1]["sort"]}


ONLY_IDS: Final[Body] = {"_source": False}
WHOLE_CHUNKS: Final[Body] = {"_source": CHUNK_FIELDS}
CONTENTS: Final[Body] = {"_source": False, "docvalue_fields": ["document_id", "revision"]}


def vectors(text_hashes: Sequence[str]) -> Body:
    """One chunk for each text hash, however many documents hold that text."""
    return {
        "query": {"bool": {"filter": [one_of("text_hash", text_hashes)]}},
        "collapse": {"field": "text_hash"},
        "size": len(text_hashes),
        # Older indexes hold it there.
        "_source": ["text_hash", "exact"],
        "stored_fields": ["exact"],
        "track_total_hits": False,
    }


def documents(size: int, after_key: Mapping[str, Any] | None) -> Body:
    """A page of document ids with the number of chunks of each: exact, unlike a cardinality."""
    by_document: Body = {
        "size": size,
        "sources": [{"document": {"terms": {"field": "document_id"}}}],
    }
    if after_key is not None:
        by_document["after"] = after_key
    return {
        "size": 0,
        "track_total_hits": False,
        "aggs": {"documents": {"composite": by_document}},
    }
