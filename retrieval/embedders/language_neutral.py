"""Vectors without what they say of the language alone, so that languages share one index.

A multilingual model's vectors differ by language more than by subject: in a collection of both
languages any Chinese passage is nearer to a Chinese question than the English passage that answers
it. The difference lies in few directions, the mean vectors of each language's passages and
questions, and is removed by projecting them out (after Libovicky, Rosa and Fraser, Findings of
EMNLP 2020, and Mu and Viswanath, ICLR 2018). The remaining cosines have their zero at unrelated
texts, whatever the model. docs/decisions/0002-fusion.md has the figures.
"""

import asyncio
import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final, Self

import numpy as np

from kb.ports import Embedder
from kb.types import Vectors
from retrieval.embedders.parallel_texts import PASSAGES, QUESTIONS

_METHOD: Final = f"means/{blake2b(repr((PASSAGES, QUESTIONS)).encode(), digest_size=4).hexdigest()}"
_TINY: Final = 1e-3
"""Norm below which a vector lies in the removed directions and is left as it was."""


class LanguageNeutralEmbedder:
    """Implements the port `Embedder` over another one, which it closes. Make it with `over`."""

    def __init__(self, embedder: Embedder, directions: Vectors) -> None:
        """`directions` has shape (few, dimensions), its rows orthonormal."""
        self._embedder = embedder
        self._directions = directions

    @classmethod
    async def over(cls, embedder: Embedder, folder: Path) -> Self:
        """Learns the directions from 96 short texts (a second or two) and keeps them in `folder`."""
        file = folder / f"directions-{_digest(embedder.fingerprint + _METHOD)}.npy"
        directions = await asyncio.to_thread(_read, file)
        if directions is None:
            directions = await language_directions(embedder)
            await asyncio.to_thread(_write, file, directions)
        return cls(embedder, directions)

    @property
    def fingerprint(self) -> str:
        return f"{self._embedder.fingerprint}+neutral-{_digest(_METHOD)}"

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
        return without(await self._embedder.passages(texts), self._directions)

    async def queries(self, texts: Sequence[str]) -> Vectors:
        return without(await self._embedder.queries(texts), self._directions)

    async def close(self) -> None:
        await self._embedder.close()


async def language_directions(embedder: Embedder) -> Vectors:
    """An orthonormal basis, shape (4, dimensions), of the means by language and kind of text."""
    means = []
    for language in range(2):
        means.append((await embedder.passages([pair[language] for pair in PASSAGES])).mean(axis=0))
        means.append((await embedder.queries([pair[language] for pair in QUESTIONS])).mean(axis=0))
    basis, _ = np.linalg.qr(np.stack(means).T.astype(np.float64))
    return np.ascontiguousarray(basis.T, dtype=np.float32)


def without(vectors: Vectors, directions: Vectors) -> Vectors:
    """The vectors with these directions projected out, of norm 1 again."""
    rest = vectors - (vectors @ directions.T) @ directions
    norms = np.linalg.norm(rest, axis=1, keepdims=True)
    neutral: Vectors = np.where(norms > _TINY, rest / np.maximum(norms, _TINY), vectors)
    return neutral.astype(np.float32, copy=False)


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=4).hexdigest()


def _read(file: Path) -> Vectors | None:
    if not file.is_file():
        return None
    try:
        directions: Vectors = np.load(file, allow_pickle=False)
    except (ValueError, EOFError):  # cut short by a power failure: they are learnt again
        return None
    return directions


def _write(file: Path, directions: Vectors) -> None:
    """Complete or not at all: another process may be reading."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as stream:
        np.save(stream, directions)
    part.replace(file)
