"""Search in one collection, with everything but the question already chosen."""

import asyncio
from collections.abc import Awaitable, Callable

from kb.errors import SearchTimeout
from kb.types import UNRESTRICTED, Access, Hit
from retrieval.search import search
from serving.bootstrap import Services
from serving.parts import Live


def bound_search(
    live: Live,
    services: Services,
    access: Access = UNRESTRICTED,
    limit: int | None = None,
    seconds: float | None = None,
) -> Callable[[str], Awaitable[list[Hit]]]:
    """A search of the generation that is live now; it stays the same when another goes live.

    It raises what `retrieval.search` does, and SearchTimeout when the `seconds`, if any, are over.
    """

    async def find(question: str) -> list[Hit]:
        try:
            async with asyncio.timeout(seconds) as deadline:
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
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise SearchTimeout(
                f"The search was not done in {seconds:g} s (search.timeout_s). Try again in a moment."
            ) from error

    return find
