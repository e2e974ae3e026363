"""As many chunks as wanted, grown from real passages and their real vectors."""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.embedded_sets import EmbeddedSet
from kb import ids
from kb.types import Access, Chunk, IndexedDocument, Vector, Vectors, passage_text

CHUNKS_PER_DOCUMENT = 10
STAFF = Access(frozenset({"staff"}))
"""May read about half of the documents; the others are the board's."""

_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s*")


class GrownCorpus:
    """The passages as they are, then again and again with changes, in documents of ten chunks.

    A repeat has a share of its sentences (20 to 60%) from another passage, drawn at random, and a vector
    mixed of the two passages' in the same share and made unit length again. So no two are alike, and
    neighbours are close but no ties, as with drafts and translations of the same thing in real folders.

    `vectors` has a row a chunk; `readable` says which of them `STAFF` may read.
    """

    def __init__(self, sets: Sequence[EmbeddedSet], chunks: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self._passages = [passage for made in sets for passage in made.passages]
        pool = np.concatenate([made.vectors for made in sets])
        rounds = -(-chunks // len(pool))
        order = np.concatenate([rng.permutation(len(pool)) for _ in range(rounds)])
        self._first = order[:chunks]
        self._second = rng.integers(len(pool), size=chunks)
        self._share = rng.uniform(0.2, 0.6, chunks).astype(np.float32)
        self._share[: len(pool)] = 0
        self.vectors = mixed(pool[self._first], pool[self._second], self._share)
        staff = rng.random(-(-chunks // CHUNKS_PER_DOCUMENT)) < 0.5
        self.readable = np.repeat(staff, CHUNKS_PER_DOCUMENT)[:chunks]

    def documents(self, start: int, stop: int) -> Iterator[IndexedDocument]:
        """The documents of the chunks from `start` to `stop`, both multiples of ten."""
        for first in range(start, stop, CHUNKS_PER_DOCUMENT):
            numbers = range(first, first + CHUNKS_PER_DOCUMENT)
            name = f"d{first // CHUNKS_PER_DOCUMENT}"
            chunks = tuple(self._chunk(name, number) for number in numbers)
            groups = ("staff",) if self.readable[first] else ("board",)
            vectors = self.vectors[first : first + CHUNKS_PER_DOCUMENT]
            yield IndexedDocument(name, f"file:///srv/{name}.md", groups, "1", chunks, vectors)

    def _chunk(self, document: str, number: int) -> Chunk:
        title = self._passages[self._first[number]].title
        text = self._text(number)
        digest = ids.text_hash(passage_text(title, (), text))
        ordinal = number % CHUNKS_PER_DOCUMENT
        # The number tells two equal passages apart, and leads from a hit back to its vector.
        identifier = f"{ids.chunk_id(document, digest, ordinal)}-{number}"
        length = len(text)
        return Chunk(
            identifier, document, ordinal, title, (), None, 0, length, text, digest, length // 4
        )

    def _text(self, number: int) -> str:
        text = self._passages[self._first[number]].text
        other = self._passages[self._second[number]].text
        share = self._share[number]
        if not share:
            return text
        rng = np.random.default_rng(number)
        sentences: list[str] = _SENTENCE_END.split(text)
        others: list[str] = _SENTENCE_END.split(other)
        return " ".join(
            others[rng.integers(len(others))] if rng.random() < share else sentence
            for sentence in sentences
        )


def mixed(first: Vectors, second: Vectors, share: Vector) -> Vectors:
    vectors: Vectors = first + share[:, None] * (second - first)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def number_of(chunk: Chunk) -> int:
    return int(chunk.id.rpartition("-")[2])
