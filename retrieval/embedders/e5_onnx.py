"""multilingual-e5-small in int8 on ONNX Runtime: the embedder that works offline out of the box."""

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

import numpy as np

from kb.errors import ModelUnavailable
from kb.types import Vectors
from retrieval.embedders.batches import encodable, unpadded_batches
from retrieval.embedders.e5_model import RECIPE, ModelFiles, ensure_model

DIMENSIONS = 384
MAX_TOKENS = 512
QUERY_PREFIX, PASSAGE_PREFIX = "query: ", "passage: "
_POOLING = "mean+l2"
BATCH_SIZE = 8
"""Most passages of one call; they have the same length, so that nothing is padded or masked."""
_CALL_TOKENS = 512
"""Most tokens of one call: more are no faster, take memory, and leave the last thread alone for longer."""
_SLOW_FUSIONS = ["SkipLayerNormFusion", "BiasGeluFusion"]
"""What ONNX Runtime makes of the graph unasked, and is several times slower than the parts (decision 1)."""


class E5OnnxEmbedder:
    """Implements the port `Embedder`. Make it with `open`.

    Each model call runs in one thread, and passages have several such threads: two cores working on
    one call wait for each other at every step, and more so when either has something else to do. A
    question has a thread of its own and shares the processor with passages instead of waiting for
    them. A vector does not depend on what else is embedded at the same time.
    """

    def __init__(
        self, files: ModelFiles, session: Any, tokenizer: Any, threads: int, batch_size: int
    ) -> None:
        self._files = files
        self._session = session
        self._tokenizer = tokenizer
        self._batch_size = batch_size or BATCH_SIZE
        self._passage_threads = ThreadPoolExecutor(threads, "embed-passages")
        self._query_thread = ThreadPoolExecutor(1, "embed-queries")
        self._fingerprint = fingerprint_of(files.weights_hash)

    @classmethod
    async def open(cls, folder: Path, threads: int, batch_size: int) -> Self:
        """Builds the model into `folder` the first time (about 10 s), then loads it.

        `threads` are those that embed passages; 0 means one for each core. `batch_size` 0 means
        BATCH_SIZE. Raises ModelUnavailable.
        """
        return await asyncio.to_thread(cls._load, folder, threads, batch_size)

    @classmethod
    def _load(cls, folder: Path, threads: int, batch_size: int) -> Self:
        from tokenizers import Tokenizer

        files = ensure_model(folder)
        tokenizer = Tokenizer.from_file(str(files.tokenizer))
        threads = threads or os.cpu_count() or 1
        return cls(files, _session(files.model), tokenizer, threads, batch_size)

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    def dimensions(self) -> int:
        return DIMENSIONS

    @property
    def max_tokens(self) -> int:
        return MAX_TOKENS

    @property
    def tokenizer_file(self) -> Path:
        return self._files.tokenizer

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        whole = [encodable(text) for text in texts]
        encodings = self._tokenizer.encode_batch_fast(whole, add_special_tokens=False)
        return [len(encoding.ids) for encoding in encodings]

    async def passages(self, texts: Sequence[str]) -> Vectors:
        return await self._embed([PASSAGE_PREFIX + text for text in texts], self._passage_threads)

    async def queries(self, texts: Sequence[str]) -> Vectors:
        return await self._embed([QUERY_PREFIX + text for text in texts], self._query_thread)

    async def close(self) -> None:
        for thread in (self._passage_threads, self._query_thread):
            await asyncio.to_thread(thread.shutdown, cancel_futures=True)
        self._session = None

    async def _embed(self, texts: list[str], threads: ThreadPoolExecutor) -> Vectors:
        if self._session is None:
            raise ModelUnavailable("The embedder has been closed.")
        loop = asyncio.get_running_loop()
        tokens = await loop.run_in_executor(threads, self._tokenise, texts)
        vectors = np.empty((len(texts), DIMENSIONS), np.float32)

        def embed(batch: list[int]) -> None:
            vectors[batch] = self._run([tokens[i] for i in batch])

        lengths = [len(ids) for ids in tokens]
        calls = [
            loop.run_in_executor(threads, embed, batch)
            for batch in unpadded_batches(lengths, self._batch_size, _CALL_TOKENS)
        ]
        await asyncio.gather(*calls)
        return vectors

    def _tokenise(self, texts: list[str]) -> list[list[int]]:
        encodings = self._tokenizer.encode_batch_fast([encodable(text) for text in texts])
        return [_cut(encoding.ids) for encoding in encodings]

    def _run(self, tokens: list[list[int]]) -> Vectors:
        """The vectors of texts with the same number of tokens."""
        ids = np.array(tokens, np.int64)
        vectors: Vectors = self._session.run(["embedding"], {"input_ids": ids})[0]
        return vectors


def _cut(ids: list[int]) -> list[int]:
    """At most MAX_TOKENS, of which the last stays the end of the sentence."""
    return ids if len(ids) <= MAX_TOKENS else [*ids[: MAX_TOKENS - 1], ids[-1]]


def _session(model: Path) -> Any:
    """A session that runs each call in the thread that makes it."""
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, NotImplemented

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # its warnings are about optimisations it made
    try:
        return onnxruntime.InferenceSession(
            str(model),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=_SLOW_FUSIONS,
        )
    except (Fail, InvalidGraph, NotImplemented) as error:
        raise ModelUnavailable(
            f"ONNX Runtime {onnxruntime.__version__} can't load {model}: {error}"
        ) from error


def fingerprint_of(weights_hash: str) -> str:
    parts = (weights_hash, str(RECIPE), QUERY_PREFIX, PASSAGE_PREFIX, _POOLING, str(MAX_TOKENS))
    digest = blake2b("\0".join(parts).encode(), digest_size=6).hexdigest()
    return f"multilingual-e5-small-int8/{digest}"
