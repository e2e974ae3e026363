"""A run as server-sent events: one at first, one for each change, the last one with how it ended."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from fastapi.sse import ServerSentEvent

from kb.errors import CatalogUnavailable, NotFoundError
from kb.ports import Catalog
from kb.types import Run
from serving.app.runs.protocol import RUN_EXAMPLE, run_body

POLL_S: Final = 0.5
"""Another process may do the work: the catalogue is looked at."""
RETRY_MS: Final = 2_000
"""After which a browser connects again when the stream broke."""

DESCRIBED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Events named `run`, each with the run; the stream ends after its last change. "
        "Comments keep the connection alive.",
        "content": {
            "text/event-stream": {
                "example": f'event: run\ndata: {{"id": "{RUN_EXAMPLE["id"]}", "status": "done", ...}}\n\n'
            }
        },
    }
}
"""For `responses=`."""


async def run_events(
    run: Run, catalog: Catalog, stopping: asyncio.Event
) -> AsyncIterator[ServerSentEvent]:
    """Ends with the run, or when it is deleted, or the server stops. While the catalogue is away it waits."""
    said: Run | None = None
    while True:
        if _unlike(run, said):
            said = run
            body = run_body(run).model_dump(mode="json")
            yield ServerSentEvent(data=body, event="run", retry=RETRY_MS)
        if run.finished_at is not None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_S):
                await stopping.wait()
            return
        try:
            run = await catalog.run(run.id)
        except NotFoundError:
            return
        except CatalogUnavailable:
            continue


def _unlike(run: Run, said: Run | None) -> bool:
    """That it lives is no news."""
    return said is None or replace(run, beat_at=None) != replace(said, beat_at=None)
