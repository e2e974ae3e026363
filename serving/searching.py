"""Search in one collection, with everything but the question already chosen."""

from collections.abc import Awaitable, Callable

from kb.types import UNRESTRICTED, Access, Hit
from retrieval.search import search
from serving.bootstrap import Services


async def bound_search(
    collection: str, services: Services, access: Access = UNRESTRICTED, limit: int | None = None
) -> Callable[[str], Awaitable[list[Hit]]]:
    """Raises NotFoundError and IndexSchemaMismatch at once, before the first question."""
    index = await services.index(collection)
    embedder = await services.embedder()

    async def find(question: str) -> list[Hit]:
        return await search(
            question,
            collection=collection,
            index=index,
            embedder=embedder,
            limit=limit or services.settings.answers.passages,
            candidates=services.settings.search.candidates,
            access=access,
        )

    return find
