"""A collection's index built anew beside the live one, switched to, and switched back."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from filelock import Timeout

from kb.errors import BackendError, ConfigError, GenerationSwitched, NotFoundError
from kb.ports import Catalog
from kb.settings import EmbedderSettings
from kb.types import DocumentStatus, Generation
from retrieval.differences import differences, indexed_documents
from retrieval.generations import Copy, CopyProgress
from serving.bootstrap import Services, alias_of
from serving.golden import check_before_switch
from serving.parts import embedder_identity, schema_of
from serving.patience import retrying

HOLD_S = 60.0
"""How long writers wait at most when the process that switches is killed."""
FEW_DOCUMENTS = 50
"""With so few left to copy, writers are held: they wait a second or so."""
SAMPLE = 32
"""Chunks that an estimate embeds."""
MOST_ROUNDS = 5
"""Rounds after which writers are held even if they are as fast as the copying."""


class BeingReindexed(ConfigError):
    """A generation of this collection is being built, or others are dropped."""

    code = "being_reindexed"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What `reindex` would do. `seconds` is for embedding alone, from a sample.

    `disk_mb` (MiB) is the vectors' size and four times the text's: the text itself, its terms, the
    lexical index and what merging needs for a while. It is a guess, on the safe side.
    """

    documents: int
    chunks: int
    embedded: int
    seconds: float
    disk_mb: float


async def reindex(
    collection: str,
    services: Services,
    progress: CopyProgress,
    embedder: EmbedderSettings | None = None,
    chunks_per_s: float | None = None,
) -> Generation:
    """Builds a generation beside the live one and makes it live; gives it.

    Searches and writes go on. Killed or cancelled, the live index stays as it is, and the next call
    with the same settings goes on with what is built. Raises ConfigError, BackendError, and
    TooLittleAccuracy: the new one is kept, but not made live.
    """
    async with only_one(collection, services):
        live, generation, copy = await _copy_for(collection, services, embedder)

        async def throttle(chunks: int) -> None:
            if chunks_per_s:
                await asyncio.sleep(chunks / chunks_per_s)

        for _ in range(MOST_ROUNDS):
            if await copy.round(progress, throttle) <= FEW_DOCUMENTS:
                break
        await copy.new.optimise()
        await check_before_switch(
            await services.open(generation), await services.open(live), services
        )
        async with held(collection, services) as owner:

            async def hold_on(_: int) -> None:
                await services.catalog.hold(collection, owner, HOLD_S)

            while await copy.round(progress, hold_on):
                await hold_on(0)
            await verify(copy, progress)
            await _switch(generation, services, owner)
            await read_again(collection, progress.missing, services.catalog)
        await prune(collection, services, keep=live.number)
        return replace(generation, live=True)


async def estimate(
    collection: str, services: Services, embedder: EmbedderSettings | None = None
) -> Estimate:
    """What `reindex` would cost. Writes nothing."""
    live = await _live_generation(collection, services)
    target = await services.embedder(embedder_identity(embedder or services.settings.embedder))
    documents = await indexed_documents(services.catalog, collection)
    chunks = sum(document.chunk_count for document in documents.values())
    index = await services.store.open(live.index_name, live.schema)
    of_some = [await index.chunks(document_id) for document_id in list(documents)[:SAMPLE]]
    sample = [chunk.passage for found in of_some for chunk in found][:SAMPLE]
    size = sum(len(passage.encode()) for passage in sample) / max(1, len(sample))
    disk_mb = chunks * (4 * target.dimensions + 4 * size) / (1 << 20)
    if schema_of(target).fingerprint == live.schema.fingerprint:
        return Estimate(len(documents), chunks, 0, 0.0, disk_mb)
    started = time.perf_counter()
    await target.passages(sample)
    each_s = (time.perf_counter() - started) / max(1, len(sample))
    return Estimate(len(documents), chunks, chunks, each_s * chunks, disk_mb)


async def rollback(collection: str, services: Services) -> tuple[Generation, int]:
    """Makes the previous generation live again; gives it, and how many documents changed since.

    What was deleted since is deleted there too, before it is live; what changed is read again by
    the next ingest. Raises NotFoundError when there is no previous one, BackendError, and
    BeingReindexed: whoever builds a generation drops earlier ones in the end.
    """
    async with only_one(collection, services):
        previous = await _previous_generation(collection, services)
        index = await services.store.open(previous.index_name, previous.schema)
        async with held(collection, services) as owner:
            found = await differences(services.catalog, collection, index)
            await index.delete(sorted(found.orphaned))
            await _switch(previous, services, owner)
            await read_again(collection, found.to_read, services.catalog, found.stale)
    return replace(previous, live=True), len(found.to_read)


async def prune_earlier(collection: str, services: Services) -> list[Generation]:
    """As `prune`, but leaves unfinished generations to whoever builds them. Raises BeingReindexed."""
    async with only_one(collection, services):
        return await prune(collection, services, unfinished=False)


async def prune_all(collection: str, services: Services) -> list[Generation]:
    """As `prune`, unfinished generations included. Raises BeingReindexed while one is being built."""
    async with only_one(collection, services):
        return await prune(collection, services)


async def prune(
    collection: str, services: Services, keep: int | None = None, *, unfinished: bool = True
) -> list[Generation]:
    """Drops all generations but the live one and one to go back to; gives those dropped.

    The one kept is `keep`, else the newest before the live one. Those after the live one are
    unfinished, or were rolled back.
    """
    live = await _live_generation(collection, services)
    generations = await services.catalog.generations(collection)
    earlier = [g.number for g in generations if g.number < live.number]
    kept = {live.number, keep if keep is not None else max(earlier, default=live.number)}
    dropped = [
        generation
        for generation in generations
        if generation.number not in kept and (unfinished or generation.number < live.number)
    ]
    for generation in dropped:
        await services.store.drop(generation.index_name)
        await services.catalog.delete_generation(collection, generation.number)
    return dropped


async def _copy_for(
    collection: str, services: Services, embedder: EmbedderSettings | None
) -> tuple[Generation, Generation, Copy]:
    """The live generation, the one to build (a new one, or one left unfinished), and how to fill it."""
    live = await _live_generation(collection, services)
    identity = embedder_identity(embedder or services.settings.embedder)
    target = await services.embedder(identity)
    # Chunks are copied as they are cut.
    schema = replace(schema_of(target), chunker_version=live.schema.chunker_version)
    unfinished = [
        g
        for g in await services.catalog.generations(collection)
        if g.number > live.number and g.schema == schema and g.embedder == identity
    ]
    generation = (
        unfinished[-1]
        if unfinished
        else await services.catalog.add_generation(collection, schema, identity)
    )
    new = await services.store.create(generation.index_name, schema)
    old = await services.store.open(live.index_name, live.schema)
    same = schema.fingerprint == live.schema.fingerprint
    copy = Copy(services.catalog, collection, old, new, None if same else target)
    return live, generation, copy


async def _live_generation(collection: str, services: Services) -> Generation:
    live = await services.catalog.live_generation(collection)
    if live is None:
        await services.catalog.collection(collection)
        raise NotFoundError(f"The collection {collection} has no index yet. Ingest into it first.")
    return live


async def _previous_generation(collection: str, services: Services) -> Generation:
    live = await _live_generation(collection, services)
    before = [g for g in await services.catalog.generations(collection) if g.number < live.number]
    if not before:
        raise NotFoundError(f"The collection {collection} has no earlier index to go back to.")
    return before[-1]


async def verify(copy: Copy, progress: CopyProgress) -> None:
    """Raises BackendError where the new index does not hold exactly what it should."""
    found = await differences(copy.catalog, copy.collection, copy.new)
    different = (found.to_read - progress.missing) | found.orphaned
    if different:
        raise BackendError(
            f"The new index differs from the catalogue in {len(different)} documents, so it was not made "
            "live. Run `kb doctor --repair`, then `kb reindex` again."
        )


async def _switch(generation: Generation, services: Services, owner: str) -> None:
    """The catalogue decides; the alias is for people and other tools, and `kb doctor` mends it."""
    await services.catalog.set_live(generation.collection, generation.number, owner)
    await services.store.alias(alias_of(generation.collection), generation.index_name)


async def read_again(
    collection: str, document_ids: Set[str], catalog: Catalog, stale: Set[str] = frozenset()
) -> None:
    """The next ingest reads these documents, whether their files have changed or not.

    Only of the stale ones the index holds anything; what it lost it lost for their duplicates too.
    """
    wanted = await indexed_documents(catalog, collection)
    lost = document_ids - stale
    indexed = await catalog.documents(collection=collection, status=DocumentStatus.INDEXED)
    again = [wanted[document_id] for document_id in document_ids if document_id in wanted]
    again += [document for document in indexed if document.duplicate_of in lost]
    await catalog.save_documents(
        [
            replace(
                document,
                status=DocumentStatus.PENDING,
                chunk_count=document.chunk_count if document.id in stale else 0,
            )
            for document in again
        ]
    )


@asynccontextmanager
async def held(collection: str, services: Services) -> AsyncIterator[str]:
    """Keeps writers waiting until the block ends; gives the owner of the hold."""
    owner = uuid.uuid4().hex
    async for attempt in retrying(2 * HOLD_S, GenerationSwitched):
        with attempt:
            await services.catalog.hold(collection, owner, HOLD_S)
    try:
        yield owner
    finally:
        await services.catalog.release(collection, owner)


@asynccontextmanager
async def only_one(collection: str, services: Services) -> AsyncIterator[None]:
    lock = services.lock(f"reindex-{collection}")
    try:
        await lock.acquire(timeout=0)
    except Timeout as error:
        raise BeingReindexed(
            f"{collection} is being indexed anew. Try again when that is done."
        ) from error
    try:
        yield
    finally:
        await lock.release()
