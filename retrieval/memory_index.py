"""An index in memory: exact cosine and textbook BM25. The fake that tests use."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kb.errors import IndexSchemaMismatch, NotFoundError
from kb.types import (
    Access,
    Candidate,
    Chunk,
    IndexCount,
    IndexedDocument,
    IndexQuery,
    IndexSchema,
    Vector,
)
from retrieval.mapping import check_documents, mismatch
from retrieval.terms import terms

K1 = 1.2
B = 0.75
"""BM25's usual constants, and Lucene's and Lance's own."""


@dataclass(frozen=True, slots=True)
class _Row:
    chunk: Chunk
    uri: str
    groups: tuple[str, ...]
    vector: Vector
    terms: Counter[str]


class MemoryIndex:
    """Implements the port `ChunkIndex` in a dictionary."""

    def __init__(self, schema: IndexSchema) -> None:
        self._schema = schema
        self._documents: dict[str, list[_Row]] = {}

    async def replace(self, documents: Sequence[IndexedDocument]) -> None:
        check_documents(documents, self._schema.dimensions)
        for document in documents:
            self._documents.pop(document.id, None)
            if document.chunks:
                self._documents[document.id] = [
                    _Row(
                        chunk, document.uri, document.groups, vector, Counter(terms(chunk.passage))
                    )
                    for chunk, vector in zip(document.chunks, document.vectors, strict=True)
                ]

    async def delete(self, document_ids: Sequence[str]) -> None:
        for document_id in document_ids:
            self._documents.pop(document_id, None)

    async def search(self, query: IndexQuery) -> list[Candidate]:
        rows = [row for row in self._rows() if _allowed(row, query)]
        similarities: dict[str, float] = {}
        if query.vector is not None:
            similarities = {row.chunk.id: float(row.vector @ query.vector) for row in rows}
        scores = self._bm25(rows, set(query.terms))
        matching = _best(scores, query.limit)
        found = _best(similarities, query.limit) | matching
        return [
            Candidate(
                row.chunk,
                row.uri,
                similarities.get(row.chunk.id),
                scores.get(row.chunk.id, 0.0)
                if row.chunk.id in _best(scores, query.limit)
                else 0.0,
            )
            for row in rows
            if row.chunk.id in found
        ]

    async def vectors(self, text_hashes: Sequence[str]) -> Mapping[str, Vector]:
        wanted = set(text_hashes)
        return {r.chunk.text_hash: r.vector for r in self._rows() if r.chunk.text_hash in wanted}

    async def chunks(self, document_id: str) -> list[Chunk]:
        rows = self._documents.get(document_id, [])
        return sorted((row.chunk for row in rows), key=lambda chunk: chunk.ordinal)

    async def chunk_ids(self) -> Mapping[str, frozenset[str]]:
        return {
            document_id: frozenset(row.chunk.id for row in rows)
            for document_id, rows in self._documents.items()
        }

    async def count(self) -> IndexCount:
        return IndexCount(len(self._documents), sum(map(len, self._documents.values())))

    async def optimise(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def _rows(self) -> list[_Row]:
        return [row for rows in self._documents.values() for row in rows]

    def _bm25(self, rows: list[_Row], query_terms: set[str]) -> dict[str, float]:
        """Robertson and Zaragoza, 2009, with Lucene's idf. Statistics are the whole index's."""
        everything = self._rows()
        if not everything:
            return {}
        average = sum(row.terms.total() for row in everything) / len(everything)
        scores: dict[str, float] = {}
        for term in query_terms:
            frequency = sum(term in row.terms for row in everything)
            idf = math.log(1 + (len(everything) - frequency + 0.5) / (frequency + 0.5))
            for row in rows:
                if times := row.terms[term]:
                    length = 1 - B + B * row.terms.total() / average
                    gain = idf * times * (K1 + 1) / (times + K1 * length)
                    scores[row.chunk.id] = scores.get(row.chunk.id, 0.0) + gain
        return scores


def _best(scores: Mapping[str, float], limit: int) -> set[str]:
    return set(sorted(scores, key=lambda chunk_id: (-scores[chunk_id], chunk_id))[:limit])


def _allowed(row: _Row, query: IndexQuery) -> bool:
    named = query.document_ids is None or row.chunk.document_id in query.document_ids
    return named and may_read(row.groups, query.access)


def may_read(groups: Iterable[str], access: Access) -> bool:
    groups = set(groups)
    return access.groups is None or not groups or bool(groups & access.groups)


class MemoryStore:
    """Implements the port `IndexStore` in a dictionary."""

    def __init__(self) -> None:
        self._indexes: dict[str, tuple[IndexSchema, MemoryIndex]] = {}

    async def create(self, name: str, schema: IndexSchema) -> MemoryIndex:
        self._indexes.setdefault(name, (schema, MemoryIndex(schema)))
        return await self.open(name, schema)

    async def open(self, name: str, schema: IndexSchema) -> MemoryIndex:
        if name not in self._indexes:
            raise NotFoundError(f"There is no index {name}.")
        there, index = self._indexes[name]
        if there != schema:
            raise IndexSchemaMismatch(mismatch(name, there, schema))
        return index

    async def drop(self, name: str) -> None:
        self._indexes.pop(name, None)

    async def names(self) -> list[str]:
        return sorted(self._indexes)

    async def close(self) -> None:
        pass
