"""An index in memory: the reference for the others, and the fake for tests."""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import numpy as np

from kb.errors import IndexSchemaMismatch, NotFoundError
from kb.types import (
    Candidate,
    Chunk,
    IndexCount,
    IndexedContent,
    IndexedDocument,
    IndexQuery,
    IndexSchema,
    Vector,
)
from retrieval import mapping
from retrieval.terms import terms

K1: Final = 1.2
B: Final = 0.75


class MemoryIndex:
    """The `ChunkIndex` port over a dictionary: exact cosine, BM25 over all chunks per query."""

    def __init__(self, schema: IndexSchema) -> None:
        self._schema = schema
        self._documents: dict[str, IndexedDocument] = {}
        self._terms: dict[str, list[str]] = {}

    async def replace(
        self, documents: Sequence[IndexedDocument], *, refresh: bool = True
    ) -> Mapping[str, str]:
        mapping.check_documents(documents, self._schema.dimensions)
        await self.delete([document.id for document in documents])
        for document in documents:
            if document.chunks:
                self._documents[document.id] = document
                for chunk in document.chunks:
                    self._terms[chunk.id] = terms(chunk.passage)
        return {}

    async def delete(self, document_ids: Sequence[str], *, refresh: bool = True) -> None:
        for document_id in document_ids:
            removed = self._documents.pop(document_id, None)
            for chunk in removed.chunks if removed else ():
                del self._terms[chunk.id]

    async def refresh(self) -> None:
        """Every write is seen at once."""

    async def search(self, query: IndexQuery) -> list[Candidate]:
        if query.vector is not None:
            mapping.check_query_vector(query.vector, self._schema.dimensions)
        similarities = self._similarities(query.vector)
        scores = self._bm25(query.terms)
        readable = {
            chunk.id: (chunk, document)
            for document in self._readable(query)
            for chunk in document.chunks
        }
        best = _best(similarities, readable, query.limit)
        matching = _best(scores, readable, query.limit)
        return [
            Candidate(
                readable[chunk_id][0],
                readable[chunk_id][1].uri,
                similarities.get(chunk_id),
                scores[chunk_id] if chunk_id in matching else 0.0,
                " ".join(self._terms[chunk_id]),
            )
            for chunk_id in best | matching
        ]

    def _similarities(self, vector: Vector | None) -> dict[str, float]:
        """The cosine of every chunk; nothing without a vector."""
        if vector is None:
            return {}
        return {
            chunk.id: float(np.clip(row @ vector, -1, 1))
            for document in self._documents.values()
            for chunk, row in zip(document.chunks, document.vectors, strict=True)
        }

    def _readable(self, query: IndexQuery) -> list[IndexedDocument]:
        groups = query.access.groups
        return [
            document
            for document in self._documents.values()
            if (groups is None or not document.groups or groups & set(document.groups))
            and (query.document_ids is None or document.id in query.document_ids)
        ]

    def _bm25(self, query_terms: Sequence[str]) -> dict[str, float]:
        """Okapi BM25 with Lucene's idf. Statistics are of the whole index, whoever asks."""
        scores: dict[str, float] = {}
        counts = {chunk_id: Counter(stored) for chunk_id, stored in self._terms.items()}
        total = len(counts)
        mean = sum(map(len, self._terms.values())) / max(total, 1)
        for term in dict.fromkeys(query_terms):
            holders = [chunk_id for chunk_id in counts if term in counts[chunk_id]]
            idf = math.log(1 + (total - len(holders) + 0.5) / (len(holders) + 0.5))
            for chunk_id in holders:
                count = counts[chunk_id][term]
                norm = K1 * (1 - B + B * len(self._terms[chunk_id]) / mean)
                gain = idf * count * (K1 + 1) / (count + norm)
                scores[chunk_id] = scores.get(chunk_id, 0.0) + gain
        return scores

    async def vectors(self, text_hashes: Sequence[str]) -> Mapping[str, Vector]:
        wanted = set(text_hashes)
        return {
            chunk.text_hash: vector
            for document in self._documents.values()
            for chunk, vector in zip(document.chunks, document.vectors, strict=True)
            if chunk.text_hash in wanted
        }

    async def chunks(self, document_id: str) -> list[Chunk]:
        document = self._documents.get(document_id)
        return sorted(document.chunks, key=lambda chunk: chunk.ordinal) if document else []

    async def contents(self) -> Mapping[str, IndexedContent]:
        return {
            document.id: IndexedContent(
                frozenset(chunk.id for chunk in document.chunks), frozenset({document.revision})
            )
            for document in self._documents.values()
        }

    async def count(self) -> IndexCount:
        return IndexCount(len(self._documents), len(self._terms))

    async def optimise(self) -> None:
        """Nothing to fold: every write is in place at once."""

    async def close(self) -> None:
        """Nothing is held open; the store keeps the chunks."""


def _best(scores: Mapping[str, float], allowed: Collection[str], limit: int) -> set[str]:
    """The ids of the `limit` best among those allowed."""
    ranked = sorted(scores.keys() & allowed, key=lambda chunk_id: (-scores[chunk_id], chunk_id))
    return set(ranked[:limit])


class MemoryStore:
    """The `IndexStore` port; its indexes live as long as it does."""

    def __init__(self) -> None:
        self._indexes: dict[str, tuple[IndexSchema, MemoryIndex]] = {}
        self._aliases: dict[str, str] = {}

    async def create(self, name: str, schema: IndexSchema) -> MemoryIndex:
        self._indexes.setdefault(name, (schema, MemoryIndex(schema)))
        return await self.open(name, schema)

    async def open(self, name: str, schema: IndexSchema) -> MemoryIndex:
        if name not in self._indexes:
            raise NotFoundError(f"There is no index {name}. Ingest the documents again.")
        built, index = self._indexes[name]
        if mismatch := mapping.difference(name, built, schema):
            raise IndexSchemaMismatch(mismatch)
        return index

    async def drop(self, name: str) -> None:
        self._indexes.pop(name, None)
        self._aliases = {alias: held for alias, held in self._aliases.items() if held != name}

    async def names(self) -> list[str]:
        return sorted(self._indexes)

    async def alias(self, alias: str, name: str) -> None:
        if name not in self._indexes:
            raise NotFoundError(f"There is no index {name}, so it can't be called {alias}.")
        self._aliases[alias] = name

    async def aliased(self, alias: str) -> str | None:
        name = self._aliases.get(alias)
        return name if name in self._indexes else None

    async def problems(self) -> list[str]:
        return []

    async def close(self) -> None:
        """Nothing is held open."""
