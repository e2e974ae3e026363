"""A LlamaIndex retriever over our API.

KBRetriever(SearchAPI("http://127.0.0.1:8000")).retrieve("How long is the warranty?")
"""

from typing import Any

from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from serving.clients.search_api import SearchAPI, split


class KBRetriever(BaseRetriever):
    """Passages as text nodes with their scores; the place of each is in its metadata."""

    def __init__(self, api: SearchAPI, **options: Any) -> None:
        self._api = api
        super().__init__(**options)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [_node(hit) for hit in self._api.search(query_bundle.query_str)]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [_node(hit) for hit in await self._api.asearch(query_bundle.query_str)]


def _node(hit: dict[str, Any]) -> NodeWithScore:
    text, score, rest = split(hit)
    return NodeWithScore(node=TextNode(id_=hit["chunk_id"], text=text, metadata=rest), score=score)
