"""Where an index differs from what the catalogue says it must hold."""

from collections.abc import Mapping
from dataclasses import dataclass

from kb import ids
from kb.ports import Catalog, ChunkIndex
from kb.types import Document, DocumentStatus


@dataclass(frozen=True, slots=True)
class Differences:
    """Document ids by what is wrong with them, and what was compared.

    `outdated` are there in another revision than the catalogue's; `incomplete` in the right one, with
    too few or too many chunks. `chunks` is how many the index holds in all.
    """

    wanted: Mapping[str, Document]
    chunks: int
    missing: frozenset[str]
    outdated: frozenset[str]
    incomplete: frozenset[str]
    orphaned: frozenset[str]

    @property
    def stale(self) -> frozenset[str]:
        return self.outdated | self.incomplete

    @property
    def to_read(self) -> frozenset[str]:
        """Those that the catalogue calls indexed and the index does not hold as they are."""
        return self.missing | self.stale

    @property
    def documents(self) -> frozenset[str]:
        return self.to_read | self.orphaned


async def indexed_documents(catalog: Catalog, collection: str) -> dict[str, Document]:
    """What an index of the collection must hold, by document id.

    A pending document is held as it was last read. A duplicate is held as its original, and belongs
    here only where it has lost that: then it is missing.
    """
    documents = [
        document
        for status in (DocumentStatus.INDEXED, DocumentStatus.PENDING)
        for document in await catalog.documents(collection=collection, status=status)
    ]
    held = {document.id: document for document in documents if document.chunk_count}
    return held | {document.id: document for document in documents if _is_lost(document, held)}


def _is_lost(document: Document, held: Mapping[str, Document]) -> bool:
    """Whether it is a duplicate, not to be read again anyway, that nothing in the index stands for."""
    if document.duplicate_of is None or document.status is DocumentStatus.PENDING:
        return False
    original = held.get(document.duplicate_of)
    return original is None or original.text_hash != document.text_hash


async def differences(catalog: Catalog, collection: str, index: ChunkIndex) -> Differences:
    """Documents being written at this moment may appear among them."""
    wanted = await indexed_documents(catalog, collection)
    held = await index.contents()
    both = wanted.keys() & held.keys()
    outdated = {i for i in both if held[i].revisions != {ids.revision(wanted[i])}}
    miscounted = {i for i in both if len(held[i].chunk_ids) != wanted[i].chunk_count}
    return Differences(
        wanted,
        sum(len(content.chunk_ids) for content in held.values()),
        missing=frozenset(wanted.keys() - held.keys()),
        outdated=frozenset(outdated),
        incomplete=frozenset(miscounted - outdated),
        orphaned=frozenset(held.keys() - wanted.keys()),
    )
