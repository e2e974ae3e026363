"""Filling a new index generation from the live one, while that one is read and written."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from kb import ids
from kb.ports import Catalog, ChunkIndex, Embedder
from kb.types import Chunk, Document, IndexedDocument, Vector
from retrieval.differences import differences

BATCH_CHUNKS: Final = 128
"""Chunks read, embedded and written together; a document is never split."""


@dataclass(slots=True)
class CopyProgress:
    """`total` counts the chunks of all documents; `copied` grows past it when documents change meanwhile."""

    total: int = 0
    copied: int = 0
    embedded: int = 0
    documents: int = 0
    missing: set[str] = field(default_factory=set)
    """Documents that the catalogue calls indexed and the live index does not hold."""

    def counts(self) -> dict[str, int]:
        """The figures of a run as the catalogue keeps them."""
        return {
            "chunks": self.total,
            "copied_chunks": self.copied,
            "embedded_chunks": self.embedded,
            "missing_documents": len(self.missing),
        }


@dataclass(frozen=True, slots=True)
class Copy:
    """From `live` to `new`. Without an embedder vectors are copied: both were built with the same one."""

    catalog: Catalog
    collection: str
    live: ChunkIndex
    new: ChunkIndex
    embedder: Embedder | None

    async def round(
        self, progress: CopyProgress, before_batch: Callable[[int], Awaitable[None]]
    ) -> int:
        """Makes the new index hold what the catalogue says now. Gives how many documents it changed.

        The catalogue is compared with the new index, so a round that was killed is simply done
        again. `before_batch` is told how many chunks the last batch had.
        """
        found = await differences(self.catalog, self.collection, self.new)
        progress.total = sum(document.chunk_count for document in found.wanted.values())
        changed = [
            found.wanted[document_id]
            for document_id in sorted((found.missing | found.outdated) - progress.missing)
        ]
        await self.new.delete(sorted(found.orphaned))
        progress.documents = len(found.wanted) - len(changed)
        size = 0
        for batch in _batches(changed):
            await before_batch(size)
            size = await self._copy(batch, progress)
        return len(found.orphaned) + len(changed)

    async def _copy(self, documents: Sequence[Document], progress: CopyProgress) -> int:
        found = {document.id: await self.live.chunks(document.id) for document in documents}
        progress.missing |= {document_id for document_id, chunks in found.items() if not chunks}
        chunks = [chunk for of_document in found.values() for chunk in of_document]
        vectors = await self._vectors(chunks, progress)
        # One that changed between the two readings is left to the next round, which finds it again.
        whole = [
            document
            for document in documents
            if found[document.id] and all(c.text_hash in vectors for c in found[document.id])
        ]
        await self.new.replace(
            [
                IndexedDocument(
                    document.id,
                    document.uri,
                    document.groups,
                    ids.revision(document),
                    tuple(found[document.id]),
                    np.array([vectors[c.text_hash] for c in found[document.id]], np.float32),
                )
                for document in whole
            ]
        )
        progress.copied += len(chunks)
        progress.documents += len(documents)
        return len(chunks)

    async def _vectors(self, chunks: Sequence[Chunk], progress: CopyProgress) -> dict[str, Vector]:
        passages = {chunk.text_hash: chunk.passage for chunk in chunks}
        if self.embedder is None:
            return dict(await self.live.vectors(list(passages)))
        embedded = await self.embedder.passages(list(passages.values()))
        progress.embedded += len(passages)
        return dict(zip(passages, embedded, strict=True))


def _batches(documents: Sequence[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        if batch and size + document.chunk_count > BATCH_CHUNKS:
            yield batch
            batch, size = [], 0
        batch.append(document)
        size += document.chunk_count
    if batch:
        yield batch
