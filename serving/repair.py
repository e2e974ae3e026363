"""Where catalogue and index differ, and how that is mended: the catalogue is right."""

from dataclasses import dataclass, replace

from ingestion.progress import SyncProgress
from kb.types import DocumentStatus
from retrieval.differences import Differences, differences
from serving.bootstrap import Services, alias_of
from serving.sync import sync_collection


@dataclass(frozen=True, slots=True)
class Comparison:
    """The live index of a collection held against the catalogue."""

    documents: Differences
    alias: str
    aliased: str | None
    """The index that the alias names now."""
    alias_right: bool
    summary: str


async def compare(collection: str, services: Services) -> Comparison:
    """Only reads. Raises what `Services.live` does."""
    live = await services.live(collection)
    found = await differences(services.catalog, collection, live.index)
    alias = alias_of(collection)
    aliased = await services.store.aliased(alias)
    return Comparison(
        found,
        alias=alias,
        aliased=aliased,
        alias_right=aliased == live.generation.index_name,
        summary=f"{len(found.wanted)} documents, {found.chunks} chunks in index "
        f"{live.generation.index_name}, built with {live.generation.schema.fingerprint}",
    )


async def repair(collection: str, services: Services, progress: SyncProgress) -> Differences:
    """Takes out what should not be there and reads again what is missing or stale; gives what was wrong.

    Documents that an ingest is writing at this moment look stale: reading them again is harmless.
    """
    live = await services.live(collection)
    await services.store.alias(alias_of(collection), live.generation.index_name)
    found = await differences(services.catalog, collection, live.index)
    if found.orphaned:
        await live.index.delete(sorted(found.orphaned))
        await services.catalog.touch(collection)
    again = [
        replace(found.wanted[document_id], status=DocumentStatus.PENDING)
        for document_id in sorted(found.to_read)
    ]
    await services.catalog.save_documents(again, live.generation)
    if again:
        await sync_collection(collection, services, progress)
    return found
