"""An embedder without a model: feature hashing of words. The fake that tests use, fast and deterministic.

Texts that share words are near each other, which is all a test needs. It knows no synonyms.
"""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from kb.errors import ModelUnavailable
from kb.types import Vector, Vectors
from retrieval.embedders.batches import encodable

_CJK_CHARACTER = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]"
_TOKENIZER_FILE = "hashing-tokenizer.json"


class HashingEmbedder:
    """Each word adds one to one of `dimensions` places; the norm is 1. CJK characters are words.

    Implements the port `Embedder`. Writes its small tokenizer file into `folder`.
    """

    def __init__(self, folder: Path, dimensions: int = 64, max_tokens: int = 512) -> None:
        self._dimensions = dimensions
        self._max_tokens = max_tokens
        self._closed = False
        self._tokenizer = _word_tokenizer()
        self._tokenizer_file = folder / _TOKENIZER_FILE
        folder.mkdir(parents=True, exist_ok=True)
        self._tokenizer.save(str(self._tokenizer_file))

    @property
    def fingerprint(self) -> str:
        return f"hashing/{self._dimensions}"

    @property
    def dimensions(self) -> int:
        return self._dimensions

    @property
    def max_tokens(self) -> int:
        return self._max_tokens

    @property
    def tokenizer_file(self) -> Path:
        return self._tokenizer_file

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(self._tokenizer.encode(encodable(text)).ids) for text in texts]

    async def passages(self, texts: Sequence[str]) -> Vectors:
        return self._embed(texts)

    async def queries(self, texts: Sequence[str]) -> Vectors:
        return self._embed(texts)

    async def close(self) -> None:
        self._closed = True

    def _embed(self, texts: Sequence[str]) -> Vectors:
        if self._closed:
            raise ModelUnavailable("The embedder has been closed.")
        vectors = np.zeros((len(texts), self._dimensions), np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            self._add_words(vector, text)
        norms: Vectors = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / norms

    def _add_words(self, vector: Vector, text: str) -> None:
        text = encodable(text)
        words = self._tokenizer.encode(text).offsets[: self._max_tokens]
        for start, end in words:
            vector[_place(text[start:end].lower(), self._dimensions)] += 1
        if not words:  # a text without words has a direction too, not a norm of 0
            vector[_place("", self._dimensions)] = 1


@lru_cache(maxsize=65536)
def _place(word: str, dimensions: int) -> int:
    digest = blake2b(word.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % dimensions


def _word_tokenizer() -> Tokenizer:
    """Counts words, punctuation marks and CJK characters; every one of them is the unknown token."""
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Whitespace(),
            pre_tokenizers.Split(Regex(_CJK_CHARACTER), behavior="isolated"),
        ]
    )
    return tokenizer
