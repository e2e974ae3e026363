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
from retrieval.embedders.batches import batches, encodable
from retrieval.embedders.e5_model import RECIPE, ModelFiles, ensure_model

DIMENSIONS = 384
MAX_TOKENS = 512
QUERY_PREFIX, PASSAGE_PREFIX = "query: ", "passage: "
_POOLING = "mean+l2"
_PAD = 1
BATCH_SIZE = 2
"""Passages of one call. Of 256 passages sorted by length in lots of 128, calls of 1, 2, 4 and 8 took
20.4, 21.5, 23.2 and 24.0 s of processor time (the difference is padding) and 15.5, 12.4, 12.8 and 21.8 s
of time on two cores that others used too: single passages leave the second core idle more often."""
_PADDED_TOKENS = 2048
"""Most tokens of one model call, padding included: bounds memory and how long a call lasts."""


class E5OnnxEmbedder:
    """Implements the port `Embedder`. Make it with `open`.

    Passages and queries have a thread each, so that a question asked while documents are embedded
    shares the processor with them instead of waiting for them. A vector does not depend on what
    else is embedded at the same time.
    """

    def __init__(self, files: ModelFiles, session: Any, tokenizer: Any, batch_size: int) -> None:
        self._files = files
        self._session = session
        self._tokenizer = tokenizer
        self._batch_size = batch_size or BATCH_SIZE
        self._passage_thread = ThreadPoolExecutor(1, "embed-passages")
        self._query_thread = ThreadPoolExecutor(1, "embed-queries")
        self._fingerprint = _fingerprint(files.weights_hash)

    @classmethod
    async def open(cls, folder: Path, threads: int, batch_size: int) -> Self:
        """Builds the model into `folder` the first time (about 10 s), then loads it.

        `threads` are those of one model call; 0 means one for each core. `batch_size` 0 means
        BATCH_SIZE. Raises ModelUnavailable.
        """
        return await asyncio.to_thread(cls._load, folder, threads, batch_size)

    @classmethod
    def _load(cls, folder: Path, threads: int, batch_size: int) -> Self:
        from tokenizers import Tokenizer

        files = ensure_model(folder)
        tokenizer = Tokenizer.from_file(str(files.tokenizer))
        return cls(files, _session(files.model, threads), tokenizer, batch_size)

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
        return await self._embed([PASSAGE_PREFIX + text for text in texts], self._passage_thread)

    async def queries(self, texts: Sequence[str]) -> Vectors:
        return await self._embed([QUERY_PREFIX + text for text in texts], self._query_thread)

    async def close(self) -> None:
        for thread in (self._passage_thread, self._query_thread):
            await asyncio.to_thread(thread.shutdown, cancel_futures=True)
        self._session = None

    async def _embed(self, texts: list[str], thread: ThreadPoolExecutor) -> Vectors:
        if self._session is None:
            raise ModelUnavailable("The embedder has been closed.")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(thread, self._embed_all, texts)

    def _embed_all(self, texts: list[str]) -> Vectors:
        """All batches in one go: between two of them the model need not wait for the event loop."""
        vectors = np.empty((len(texts), DIMENSIONS), np.float32)
        tokens = self._tokenise(texts)
        for batch in batches([len(ids) for ids in tokens], self._batch_size, _PADDED_TOKENS):
            vectors[batch] = self._run([tokens[i] for i in batch])
        return vectors

    def _tokenise(self, texts: list[str]) -> list[list[int]]:
        encodings = self._tokenizer.encode_batch_fast([encodable(text) for text in texts])
        return [_cut(encoding.ids) for encoding in encodings]

    def _run(self, tokens: list[list[int]]) -> Vectors:
        longest = max(len(ids) for ids in tokens)
        input_ids = np.full((len(tokens), longest), _PAD, np.int64)
        mask = np.zeros_like(input_ids)
        for row, ids in enumerate(tokens):
            input_ids[row, : len(ids)] = ids
            mask[row, : len(ids)] = 1
        vectors: Vectors = self._session.run(
            ["embedding"], {"input_ids": input_ids, "attention_mask": mask}
        )[0]
        return vectors


def _cut(ids: list[int]) -> list[int]:
    """At most MAX_TOKENS, of which the last stays the end of the sentence."""
    return ids if len(ids) <= MAX_TOKENS else [*ids[: MAX_TOKENS - 1], ids[-1]]


def _session(model: Path, threads: int) -> Any:
    """Spinning is off: threads that wait actively would take the cores from everything else."""
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, NotImplemented

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or os.cpu_count() or 1
    options.log_severity_level = 3  # its warnings are about optimisations it made
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except (Fail, InvalidGraph, NotImplemented) as error:
        raise ModelUnavailable(
            f"ONNX Runtime {onnxruntime.__version__} can't load {model}: {error}"
        ) from error


def _fingerprint(weights_hash: str) -> str:
    parts = (weights_hash, str(RECIPE), QUERY_PREFIX, PASSAGE_PREFIX, _POOLING, str(MAX_TOKENS))
    digest = blake2b("\0".join(parts).encode(), digest_size=6).hexdigest()
    return f"multilingual-e5-small-int8/{digest}"
