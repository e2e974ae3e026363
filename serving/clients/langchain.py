"""A LangChain retriever over our API. Needs `pip install langchain-core`.

KBRetriever(api=SearchAPI("http://127.0.0.1:8000")).invoke("How long is the warranty?")
"""

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from serving.clients.search_api import SearchAPI, split


class KBRetriever(BaseRetriever):
    """Passages as documents; the score and the place of each are in its metadata."""

    api: SearchAPI

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return [_document(hit) for hit in self.api.search(query)]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[Document]:
        return [_document(hit) for hit in await self.api.asearch(query)]


def _document(hit: dict[str, object]) -> Document:
    text, score, rest = split(hit)
    return Document(id=str(hit["chunk_id"]), page_content=text, metadata={**rest, "score": score})
