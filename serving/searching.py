"""Search in one collection, with everything but the question already chosen."""

from collections.abc import Awaitable, Callable

from kb.types import UNRESTRICTED, Access, Hit
from retrieval.search import search
from serving.bootstrap import Services
from serving.parts import Live


def bound_search(
    live: Live, services: Services, access: Access = UNRESTRICTED, limit: int | None = None
) -> Callable[[str], Awaitable[list[Hit]]]:
    """A search of the generation that is live now; it stays the same when another goes live."""

    async def find(question: str) -> list[Hit]:
        return await search(
            question,
            collection=live.generation.collection,
            index=live.index,
            embedder=live.embedder,
            limit=limit or services.settings.answers.passages,
            candidates=services.settings.search.candidates,
            access=access,
            catalog=services.catalog,
        )

    return find
