"""Where catalogue and index differ, and how that is mended: the catalogue is right."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ingestion.progress import SyncProgress
from kb import ids
from kb.types import DocumentStatus
from retrieval.generations import indexed_documents
from serving.bootstrap import Services, alias_of
from serving.sync import sync_collection


@dataclass(frozen=True, slots=True)
class Difference:
    """Document ids by what is wrong with them; `names` are the URIs of those the catalogue knows."""

    missing: frozenset[str]
    stale: frozenset[str]
    orphaned: frozenset[str]
    alias: str
    alias_right: bool
    names: Mapping[str, str]
    summary: str

    @property
    def documents(self) -> frozenset[str]:
        return self.missing | self.stale | self.orphaned


async def compare(collection: str, services: Services) -> Difference:
    """Holds the live index against the catalogue. Raises what `Services.live` does."""
    live = await services.live(collection)
    wanted = await indexed_documents(services.catalog, collection)
    held = await live.index.contents()
    stale = {
        document_id
        for document_id in wanted.keys() & held.keys()
        if held[document_id].revisions != {ids.revision(wanted[document_id])}
        or len(held[document_id].chunk_ids) != wanted[document_id].chunk_count
    }
    alias = alias_of(collection)
    aliased = await services.store.aliased(alias)
    chunks = sum(len(content.chunk_ids) for content in held.values())
    return Difference(
        missing=frozenset(wanted.keys() - held.keys()),
        stale=frozenset(stale),
        orphaned=frozenset(held.keys() - wanted.keys()),
        alias=f"{alias} > {aliased}",
        alias_right=aliased == live.generation.index_name,
        names={document.id: document.uri for document in wanted.values()},
        summary=f"{len(wanted)} documents, {chunks} chunks in index {live.generation.index_name}, "
        f"built with {live.generation.schema.fingerprint}",
    )


async def repair(collection: str, services: Services, progress: SyncProgress) -> Difference:
    """Takes out what should not be there and reads again what is missing or stale; gives what was wrong.

    Documents that an ingest is writing at this moment look stale: reading them again is harmless.
    """
    difference = await compare(collection, services)
    live = await services.live(collection)
    await services.store.alias(alias_of(collection), live.generation.index_name)
    await live.index.delete(sorted(difference.orphaned))
    wanted = await indexed_documents(services.catalog, collection)
    again = [
        replace(wanted[document_id], status=DocumentStatus.PENDING)
        for document_id in sorted((difference.missing | difference.stale) & wanted.keys())
    ]
    await services.catalog.save_documents(again, live.generation)
    if again:
        await sync_collection(collection, services, progress)
    return difference
