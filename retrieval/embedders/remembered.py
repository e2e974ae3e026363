"""Vectors of the last questions and compared sentences, kept: a question is searched and then compared."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from cachetools import LRUCache

from kb.ports import Embedder
from kb.types import Vector, Vectors

MOST_REMEMBERED: Final = 4096
"""Vectors: 6 MB at 384 dimensions, and their texts."""


class RememberingEmbedder:
    """Implements the port `Embedder` over another one, which it closes; of passages nothing is kept.

    Vectors are the same as without: they depend on the text alone.
    """

    def __init__(self, embedder: Embedder, most: int = MOST_REMEMBERED) -> None:
        self._embedder = embedder
        self._known: LRUCache[str, Vector] = LRUCache(most)

    @property
    def fingerprint(self) -> str:
        return self._embedder.fingerprint

    @property
    def dimensions(self) -> int:
        return self._embedder.dimensions

    @property
    def max_tokens(self) -> int:
        return self._embedder.max_tokens

    @property
    def tokenizer_file(self) -> Path:
        return self._embedder.tokenizer_file

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self._embedder.count_tokens(texts)

    async def passages(self, texts: Sequence[str]) -> Vectors:
        return await self._embedder.passages(texts)

    async def queries(self, texts: Sequence[str]) -> Vectors:
        """A large request goes by: it would push everything else out."""
        if len(texts) > self._known.maxsize // 8:
            return await self._embedder.queries(texts)
        found = {text: vector for text in texts if (vector := self._known.get(text)) is not None}
        new = [text for text in dict.fromkeys(texts) if text not in found]
        if new:
            made = await self._embedder.queries(new)
            for text, vector in zip(new, made, strict=True):
                # A copy: a row would keep its whole batch in memory.
                found[text] = self._known[text] = vector.copy()
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            row[:] = found[text]
        return vectors

    async def close(self) -> None:
        self._known.clear()
        await self._embedder.close()
