"""What `kb doctor` looks at: each part on its own, then whether catalogue and index agree."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from kb.errors import KBError
from kb.types import Collection, DocumentStatus
from serving.bootstrap import Services


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: `problem` is None where it is as it should be, else what to do."""

    part: str
    detail: str
    problem: str | None = None


async def examine(services: Services) -> AsyncIterator[Finding]:
    """Findings in the order a person would look. Only reads."""
    yield await _part("embedder", lambda: _embedder(services))
    collections: list[Collection] = []

    async def catalog() -> str:
        collections.extend(await services.catalog.collections())
        return f"{len(collections)} collections"

    yield await _part("catalogue", catalog)
    for collection in collections:
        async for finding in _compare(collection.name, services):
            yield finding


async def _embedder(services: Services) -> str:
    embedder = await services.embedder()
    await embedder.queries(["ready?"])
    return f"{embedder.fingerprint}, {embedder.dimensions} dimensions"


async def _part(name: str, look: Callable[[], Awaitable[str]]) -> Finding:
    try:
        return Finding(name, await look())
    except KBError as error:
        return Finding(name, "", error.message)


async def _compare(collection: str, services: Services) -> AsyncIterator[Finding]:
    """Documents with a wrong number of chunks in the index, and chunks of no indexed document."""
    part = f"collection {collection}"
    try:
        index = await services.index(collection)
        indexed = await index.contents()
    except KBError as error:
        yield Finding(part, "", error.message)
        return
    documents = await services.catalog.documents(collection=collection)
    expected = {d.id: d.chunk_count for d in documents if d.status is DocumentStatus.INDEXED}
    names = {d.id: d.uri for d in documents}
    chunks = sum(len(content.chunk_ids) for content in indexed.values())
    yield Finding(part, f"{len(expected)} documents, {chunks} chunks in the index")
    for document_id in sorted(expected.keys() | indexed.keys()):
        wanted = expected.get(document_id, 0)
        there = len(indexed[document_id].chunk_ids) if document_id in indexed else 0
        if wanted == there:
            continue
        remedy = (
            f"kb documents retry {document_id}"
            if document_id in names
            else "ingest its folder again"
        )
        yield Finding(
            part,
            names.get(document_id, document_id),
            f"{there} chunks are in the index, {wanted} should be: {remedy}",
        )
