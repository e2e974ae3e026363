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
    """Documents missing from the index, orphaned in it, or with another number of chunks."""
    part = f"collection {collection}"
    try:
        index = await services.index(collection)
        indexed = await index.chunk_ids()
    except KBError as error:
        yield Finding(part, "", error.message)
        return
    rows = await services.catalog.documents(collection=collection)
    expected = {d.id: d for d in rows if d.status is DocumentStatus.INDEXED}
    chunks = sum(len(chunk_ids) for chunk_ids in indexed.values())
    yield Finding(part, f"{len(expected)} documents, {chunks} chunks in the index")
    for document in expected.values():
        found = len(indexed.get(document.id, ()))
        if found != document.chunk_count:
            yield Finding(
                part,
                document.uri,
                f"has {found} of {document.chunk_count} chunks: `kb documents retry {document.id}`",
            )
    known = {d.id for d in rows if d.status is not DocumentStatus.PENDING}
    for document_id in sorted(indexed.keys() - expected.keys()):
        if document_id in known or document_id not in {d.id for d in rows}:
            yield Finding(
                part,
                document_id,
                "is in the index but not in the catalogue as indexed: ingest its source again",
            )
