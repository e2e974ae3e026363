"""One index generation as one Elasticsearch index.

Chunk ids are deterministic, so two processes that write the same document at once do not duplicate
anything. Those that write different revisions of it at once may leave both, which `contents` tells.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import orjson

from kb.errors import KBError
from kb.settings import IndexSettings
from kb.types import (
    Candidate,
    Chunk,
    IndexCount,
    IndexedContent,
    IndexedDocument,
    IndexQuery,
    IndexSchema,
    Vector,
)
from retrieval import elasticsearch_mapping as documents_of
from retrieval import elasticsearch_queries as queries
from retrieval import mapping
from retrieval.elasticsearch_errors import (
    BUSY,
    FOR_GOOD,
    api_error,
    cause_of,
    reason_of,
    translated,
)

if TYPE_CHECKING:
    from elasticsearch import AsyncElasticsearch

PAGE: Final = 10_000
WHOLE_PAGE: Final = 1_000
"""Chunks of one page that brings ids alone, or texts too (about 2 KB each)."""
HASHES_PER_QUERY: Final = 2_000
BULK_ACTIONS: Final = 1_000
BULK_RETRIES: Final = 4
FIRST_BACKOFF_S: Final = 0.5
"""Busy servers are tried again after 0.5, 1, 2 and 4 seconds."""


class ElasticsearchIndex:
    """The `ChunkIndex` port. `ElasticsearchStore` makes it, and keeps the connections."""

    def __init__(
        self, client: "AsyncElasticsearch", name: str, schema: IndexSchema, settings: IndexSettings
    ) -> None:
        self._name = name
        self._schema = schema
        self._settings = settings
        # A search that failed is not tried again: whoever waits for it is told at once.
        self._searching = client.options(request_timeout=settings.search_timeout_s, max_retries=0)
        self._client = client

    # --- Writing --------------------------------------------------------------------------------

    async def replace(
        self, documents: Sequence[IndexedDocument], *, refresh: bool = True
    ) -> Mapping[str, str]:
        """A document of which Elasticsearch refuses a chunk (status 400) is refused whole."""
        mapping.check_documents(documents, self._schema.dimensions)
        if not documents:
            return {}
        before = await self._chunk_ids([document.id for document in documents])
        refused = await self._add(documents)
        kept = {
            chunk.id
            for document in documents
            if document.id not in refused
            for chunk in document.chunks
        }
        written = {
            chunk.id
            for document in documents
            if document.id in refused
            for chunk in document.chunks
        }
        await self._remove((before | written) - kept)
        if refresh:
            await self.refresh()
        return refused

    async def delete(self, document_ids: Sequence[str], *, refresh: bool = True) -> None:
        if not document_ids:
            return
        await self._remove(await self._chunk_ids(document_ids))
        if refresh:
            await self.refresh()

    async def refresh(self) -> None:
        with translated(self._name):
            await self._client.indices.refresh(index=self._name)

    async def optimise(self) -> None:
        """Elasticsearch merges by itself; a forced merge would make segments it never merges again."""
        await self.refresh()

    async def _add(self, documents: Sequence[IndexedDocument]) -> dict[str, str]:
        """Writes all chunks; the reason for each document that has one refused for good."""
        owners = {chunk.id: document.id for document in documents for chunk in document.chunks}
        refused: dict[str, str] = {}
        actions = _off_the_loop(documents_of.actions(self._name, documents))
        async for item in self._failures(actions):
            if item["status"] != FOR_GOOD:
                raise self._item_error(item)
            refused.setdefault(owners[item["_id"]], reason_of(item["error"]))
        return refused

    async def _remove(self, chunk_ids: Iterable[str]) -> None:
        async for item in self._failures(documents_of.deletions(self._name, sorted(chunk_ids))):
            if item["status"] != 404:  # Gone already: another process was faster.
                raise self._item_error(item)

    async def _failures(self, actions: Any) -> AsyncIterator[dict[str, Any]]:
        """What of a bulk did not succeed, after tries with back-off where the server was busy."""
        from elasticsearch.helpers import async_streaming_bulk

        with translated(self._name):
            results = async_streaming_bulk(
                self._client,
                actions,
                chunk_size=BULK_ACTIONS,
                max_chunk_bytes=self._settings.bulk_mb << 20,
                max_retries=BULK_RETRIES,
                initial_backoff=FIRST_BACKOFF_S,
                retry_on_status=BUSY,
                raise_on_error=False,
                yield_ok=False,
            )
            async for _, result in results:
                yield next(iter(result.values()))

    def _item_error(self, item: Mapping[str, Any]) -> KBError:
        return api_error(item["status"], cause_of(item), self._name)

    async def _chunk_ids(self, document_ids: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for start in range(0, len(document_ids), queries.FILTER_VALUES):
            some = document_ids[start : start + queries.FILTER_VALUES]
            matching = {"bool": {"filter": [queries.one_of("document_id", some)]}}
            async for hit in self._all(PAGE, queries.ONLY_IDS, matching):
                found.add(hit["_id"])
        return found

    # --- Reading --------------------------------------------------------------------------------

    async def search(self, query: IndexQuery) -> list[Candidate]:
        """One round trip, whose failure is not tried again."""
        if query.vector is not None:
            mapping.check_query_vector(query.vector, self._schema.dimensions)
        lines = queries.searches(self._name, query, self._settings)
        if not lines:
            return []
        body = [orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY) for line in lines]
        with translated(self._name):
            # The client takes lines that are serialised already, though its type does not say so.
            response = await self._searching.msearch(searches=body)  # type: ignore[arg-type]
        sides = [self._hits(side) for side in response.body["responses"]]
        dense = sides[0] if query.vector is not None else []
        lexical = sides[-1] if query.terms else []
        return documents_of.candidates(dense, lexical, query.vector)

    def _hits(self, side: Mapping[str, Any]) -> list[dict[str, Any]]:
        if "error" in side:
            raise api_error(side["status"], cause_of(side), self._name)
        hits: list[dict[str, Any]] = side["hits"]["hits"]
        return hits

    async def vectors(self, text_hashes: Sequence[str]) -> Mapping[str, Vector]:
        found: dict[str, Vector] = {}
        hashes = list(dict.fromkeys(text_hashes))
        for start in range(0, len(hashes), HASHES_PER_QUERY):
            body = queries.vectors(hashes[start : start + HASHES_PER_QUERY])
            with translated(self._name):
                response = await self._client.search(index=self._name, **body)
            for hit in self._hits(response.body):
                found[hit["_source"]["text_hash"]] = documents_of.vector_of(hit)
        return found

    async def chunks(self, document_id: str) -> list[Chunk]:
        matching = {"bool": {"filter": [queries.one_of("document_id", [document_id])]}}
        hits = self._all(WHOLE_PAGE, queries.WHOLE_CHUNKS, matching)
        return sorted(
            [documents_of.chunk_of(hit) async for hit in hits], key=lambda chunk: chunk.ordinal
        )

    async def contents(self) -> Mapping[str, IndexedContent]:
        rows = [
            (hit["fields"]["document_id"][0], hit["_id"], hit["fields"]["revision"][0])
            async for hit in self._all(PAGE, queries.CONTENTS)
        ]
        return mapping.contents(rows)

    async def count(self) -> IndexCount:
        documents = chunks = 0
        after_key: Mapping[str, Any] | None = None
        while True:
            with translated(self._name):
                response = await self._client.search(
                    index=self._name, **queries.documents(PAGE, after_key)
                )
            found = response.body["aggregations"]["documents"]
            documents += len(found["buckets"])
            chunks += sum(bucket["doc_count"] for bucket in found["buckets"])
            after_key = found.get("after_key")
            if after_key is None:
                return IndexCount(documents, chunks)

    async def close(self) -> None:
        """The store keeps the connections."""

    async def _all(
        self, size: int, shown: queries.Body, matching: queries.Body | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Every chunk that matches, page by page, as they were at one point in time."""
        from elasticsearch import ApiError, TransportError

        with translated(self._name):
            opened = await self._client.open_point_in_time(index=self._name, keep_alive="2m")
            body = queries.page(opened["id"], size, shown, matching)
            try:
                while hits := (response := await self._client.search(**body)).body["hits"]["hits"]:
                    for hit in hits:
                        yield hit
                    if len(hits) < size:
                        break
                    body = queries.after(body, response.body)
            finally:
                # It would end by itself in two minutes; what the reader is told matters more.
                with suppress(ApiError, TransportError):
                    await self._client.close_point_in_time(id=body["pit"]["id"])


async def _off_the_loop(actions: Iterable[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    """Makes actions up in a thread, some at a time: cutting terms would hold the event loop up."""
    actions = iter(actions)
    while some := await asyncio.to_thread(lambda: list(islice(actions, BULK_ACTIONS))):
        for action in some:
            yield action
