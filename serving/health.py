"""What `kb doctor` looks at: each part on its own, then whether catalogue and index agree."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass

from kb.errors import KBError
from kb.types import Collection
from serving.answering.deadlines import within
from serving.answering.generated import GeneratedRung
from serving.bootstrap import Services
from serving.repair import compare

_PATIENCE_S = 60.0
"""A fallback in this process is loaded for the look."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: `problem` is None where it is as it should be, else what to do."""

    part: str
    detail: str
    problem: str | None = None


async def examine(services: Services) -> AsyncIterator[Finding]:
    """Findings in the order a person would look. Only reads: `serving.repair` mends."""
    yield await _part("embedder", lambda: _embedder(services))
    async for finding in _generators(services):
        yield finding
    collections: list[Collection] = []

    async def catalog() -> str:
        collections.extend(await services.catalog.collections())
        return f"{len(collections)} collections"

    yield await _part("catalogue", catalog)
    async for finding in _store(services):
        yield finding
    async for finding in examine_collections([c.name for c in collections], services):
        yield finding


async def examine_collections(names: Iterable[str], services: Services) -> AsyncIterator[Finding]:
    """Whether index and catalogue of each agree. Only reads."""
    for name in names:
        async for finding in _compare(name, services):
            yield finding


async def _embedder(services: Services) -> str:
    embedder = await services.embedder()
    await embedder.queries(["ready?"])
    return f"{embedder.fingerprint}, {embedder.dimensions} dimensions"


async def _generators(services: Services) -> AsyncIterator[Finding]:
    """Models behind the settings' addresses; without one, quoting is what was asked for."""
    for guarded in services.answering().ladder.rungs():
        rung = guarded.rung
        if isinstance(rung, GeneratedRung):

            async def look(rung: GeneratedRung = rung) -> str:
                await within(rung.ready(), _PATIENCE_S, "It does not answer.")
                return rung.model

            yield await _part(rung.name, look)


async def _part(name: str, look: Callable[[], Awaitable[str]]) -> Finding:
    try:
        return Finding(name, await look())
    except KBError as error:
        return Finding(name, "", error.message)


async def _store(services: Services) -> AsyncIterator[Finding]:
    """What endangers the indexes as a whole: disk, memory, blocks."""
    problems = await services.store.problems()
    for problem in problems:
        yield Finding("index store", "", problem)
    if not problems:
        yield Finding("index store", "nothing endangers it")


async def _compare(collection: str, services: Services) -> AsyncIterator[Finding]:
    part = f"collection {collection}"
    try:
        compared = await compare(collection, services)
    except KBError as error:
        yield Finding(part, "", error.message)
        return
    yield Finding(part, compared.summary)
    remedy = "kb doctor --repair"
    if not compared.alias_right:
        wrong = "names another index" if compared.aliased else "is missing"
        yield Finding(
            part, f"{compared.alias} > {compared.aliased}", f"the alias {wrong}: {remedy}"
        )
    found = compared.documents
    for kind, documents in (
        ("missing in the index", found.missing),
        ("in the index with other content than the catalogue says", found.stale),
        ("in the index, though the catalogue does not know it", found.orphaned),
    ):
        for document_id in sorted(documents):
            document = found.wanted.get(document_id)
            name = document.uri if document else document_id
            yield Finding(part, name, f"{kind}: {remedy}")
