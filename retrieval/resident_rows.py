"""All rows of one version of an embedded index, in memory: a search looks up what it would have to read.

Lance plans a query and reads columns for each search; of a small table that is most of the work
(docs/decisions/0024). Which chunks match the words is still Lance's to say.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from kb.types import Candidate, Chunk, IndexQuery, Vector, Vectors
from retrieval import mapping

MOST_MADE: Final = 3_000
"""Rows kept as objects: making those of one search takes a millisecond."""
_MADE_BYTES: Final = 10_000

_Made = tuple[Chunk, str, str]
"""A row as objects: the chunk, its document's URI, its terms."""
_Value = TypeVar("_Value")

COLUMNS: Final = (*mapping.HIT_COLUMNS, "groups", "vector")


class ResidentRows:
    """What a search needs of each row, as Arrow has it: objects would take three times the memory."""

    def __init__(self, table: Any, dimensions: int) -> None:
        """A `pyarrow.Table` with `COLUMNS`; the vectors are float32 of unit length."""
        vectors = table["vector"].combine_chunks().flatten().to_numpy()
        self._vectors: Vectors = vectors.reshape(-1, dimensions)
        self._rows = table.select(list(mapping.HIT_COLUMNS)).combine_chunks()
        self._documents = _Coded(table["document_id"].to_pylist())
        self._groups = _Coded([frozenset(groups) for groups in table["groups"].to_pylist()])
        self._made: dict[int, _Made] = {}
        self._number = {chunk_id: n for n, chunk_id in enumerate(table["id"].to_pylist())}

    @property
    def nbytes(self) -> int:
        """Bytes of memory, about, with as many objects as there may be."""
        arrays = self._vectors.nbytes + self._rows.nbytes
        return int(arrays + min(len(self._vectors), MOST_MADE) * _MADE_BYTES)

    def candidates(self, query: IndexQuery, bm25: Mapping[str, float]) -> list[Candidate] | None:
        """The `limit` nearest that may be read and those of `bm25` (by chunk id), each chunk once.

        None where `bm25` names a chunk that is not here: the table has moved on.
        """
        if not bm25.keys() <= self._number.keys():
            return None
        scores = {self._number[chunk_id]: score for chunk_id, score in bm25.items()}
        if query.vector is None:
            return [
                Candidate(chunk, uri, None, scores[number], terms)
                for number, (chunk, uri, terms) in self._read(list(scores))
            ]
        # Not `@`: the threads of BLAS go on spinning after it, and take both cores from others.
        dots = np.vecdot(self._vectors, query.vector)
        wanted = list(dict.fromkeys([*self._nearest(dots, query), *scores]))
        return [
            Candidate(
                chunk, uri, mapping.cosine(float(dots[number])), scores.get(number, 0.0), terms
            )
            for number, (chunk, uri, terms) in self._read(wanted)
        ]

    def _read(self, numbers: list[int]) -> Iterable[tuple[int, _Made]]:
        if len(self._made) > MOST_MADE:
            self._made.clear()
        missing = [number for number in numbers if number not in self._made]
        indices = np.array(missing, dtype=np.int64)  # Arrow knows no type of an empty list.
        for number, row in zip(missing, self._rows.take(indices).to_pylist(), strict=True):
            self._made[number] = mapping.chunk_of(row), row["uri"], row["terms"]
        return [(number, self._made[number]) for number in numbers]

    def _nearest(self, dots: Vector, query: IndexQuery) -> list[int]:
        allowed = self._allowed(query)
        numbers = np.arange(len(dots)) if allowed is None else np.flatnonzero(allowed)
        limit = max(query.limit, 0)
        if len(numbers) > limit:
            best = np.argpartition(-dots[numbers], limit)[:limit]
            numbers = numbers[best]
        return [int(number) for number in numbers[np.argsort(-dots[numbers])]]

    def _allowed(self, query: IndexQuery) -> NDArray[np.bool_] | None:
        """Of each row whether this query may find it, as `queries.restriction` says; None: all."""
        allowed: NDArray[np.bool_] | None = None
        wanted = query.access.groups
        if wanted is not None:
            allowed = self._groups.rows(
                group for group in self._groups if not group or group & wanted
            )
        if query.document_ids is not None:
            of_these = self._documents.rows(query.document_ids)
            allowed = of_these if allowed is None else allowed & of_these
        return allowed


class _Coded(Generic[_Value]):
    """A column as numbers of its different values: chosen by value, without looking at each row."""

    def __init__(self, column: Sequence[_Value]) -> None:
        self._code = {value: code for code, value in enumerate(dict.fromkeys(column))}
        self._codes = np.fromiter((self._code[value] for value in column), np.int32, len(column))

    def __iter__(self) -> Iterator[_Value]:
        return iter(self._code)

    def rows(self, values: Iterable[_Value]) -> NDArray[np.bool_]:
        """Of each row whether it has one of these values."""
        chosen = np.zeros(len(self._code), dtype=np.bool_)
        chosen[[self._code[value] for value in values if value in self._code]] = True
        return chosen[self._codes]
