"""Any sentence-transformers model, by folder or name, on torch (GPU or CPU). Needs the extra [torch]."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from kb.errors import ModelUnavailable
from kb.types import Vectors
from retrieval.embedders.batches import batches, encodable

_TOKENIZER_FILE = "tokenizer.json"
_DEFAULT_MAX_TOKENS = 512  # where the model names no limit
BATCH_SIZE = 32
"""Passages of one call, the library's own default: a graphics card wants many at a time."""


class SentenceTransformersEmbedder:
    """Implements the port `Embedder`. Make it with `open`.

    Everything runs in one thread (its tokenizer allows no two callers at once), a batch at a time,
    so that callers take turns. Vectors are normalised whatever the model's own last layer does.
    """

    def __init__(
        self, model: Any, name: str, folder: Path, prefixes: tuple[str, str], batch_size: int
    ) -> None:
        self._model = model
        self._query_prefix, self._passage_prefix = prefixes
        self._batch_size = batch_size or BATCH_SIZE
        self._dimensions = int(model.get_embedding_dimension())
        self._max_tokens = int(model.max_seq_length or _DEFAULT_MAX_TOKENS)
        self._fingerprint = f"{name}/{_digest(model, prefixes, self._max_tokens)}"
        self._counter = _tokenizer(model, name)
        self._tokenizer_file = _write_tokenizer(self._counter, name, folder)
        self._thread = ThreadPoolExecutor(1, "embed")

    @classmethod
    async def open(
        cls,
        model: str,
        folder: Path,
        *,
        device: str = "",
        query_prefix: str | None = None,
        passage_prefix: str | None = None,
        batch_size: int = 0,
    ) -> "SentenceTransformersEmbedder":
        """Loads a model by folder or name; its tokenizer is written into `folder`.

        Prefixes that are None are the model's own, from its `prompts`. Raises ModelUnavailable.
        """

        def load() -> SentenceTransformersEmbedder:
            loaded = _load(model, device)
            prefixes = _prefixes(loaded.prompts, query_prefix, passage_prefix)
            return cls(loaded, Path(model).name, folder, prefixes, batch_size)

        return await asyncio.to_thread(load)

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

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
        whole = [encodable(text) for text in texts]
        encodings = self._counter.encode_batch_fast(whole, add_special_tokens=False)
        return [len(encoding.ids) for encoding in encodings]

    async def passages(self, texts: Sequence[str]) -> Vectors:
        return await self._embed([self._passage_prefix + text for text in texts])

    async def queries(self, texts: Sequence[str]) -> Vectors:
        return await self._embed([self._query_prefix + text for text in texts])

    async def close(self) -> None:
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
        self._model = None

    async def _embed(self, texts: list[str]) -> Vectors:
        if self._model is None:
            raise ModelUnavailable("The embedder has been closed.")
        loop = asyncio.get_running_loop()
        vectors = np.empty((len(texts), self._dimensions), np.float32)
        for batch in batches([len(text) for text in texts], self._batch_size):
            vectors[batch] = await loop.run_in_executor(
                self._thread, self._run, [texts[i] for i in batch]
            )
        return vectors

    def _run(self, texts: list[str]) -> Vectors:
        whole = [encodable(text) for text in texts]
        try:
            vectors = self._model.encode(
                whole,
                batch_size=len(whole),
                normalize_embeddings=True,
                show_progress_bar=False,
            )
        except RuntimeError as error:  # torch's one type for all of its troubles, memory included
            raise ModelUnavailable(f"The embedding model failed: {error}") from error
        return np.asarray(vectors, np.float32)


def _load(model: str, device: str) -> Any:
    looks_like_path = model.startswith((".", "~", os.sep)) or Path(model).is_absolute()
    path = Path(model).expanduser()
    if looks_like_path and not path.is_dir():
        raise ModelUnavailable(f"There is no model folder {path} (KB_EMBEDDER__MODEL).")
    try:
        import torch
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ModelUnavailable(
            f"sentence-transformers can't be imported ({error}): pip install 'kb-server[torch]'"
        ) from error
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    # A folder saved in fp16 would stay fp16, which is six times slower on a CPU.
    options = {"dtype": torch.float32} if chosen == "cpu" else {}
    try:
        return SentenceTransformer(
            str(path) if path.is_dir() else model, device=chosen, model_kwargs=options
        )
    except (OSError, ValueError, RuntimeError) as error:  # absent, unreadable, device failure
        raise ModelUnavailable(
            f"The model {model!r} can't be loaded on {chosen}: {error}\n"
            "Name a folder that holds it, or a model of the Hugging Face hub while online."
        ) from error


def _prefixes(
    prompts: Mapping[str, str], query: str | None, passage: str | None
) -> tuple[str, str]:
    if query is None:
        query = prompts.get("query", "")
    if passage is None:
        passage = prompts.get("passage") or prompts.get("document") or ""
    return query, passage


def _digest(model: Any, prefixes: tuple[str, str], max_tokens: int) -> str:
    """Of everything a vector depends on. Weights count as fp32, so a GPU's fp16 makes no difference."""
    import torch

    digest = blake2b(digest_size=6)
    after_the_network = [
        f"{type(module).__name__} {sorted(module.get_config_dict().items())}"
        for module in list(model)[1:]  # pooling, projections, normalisation
    ]
    for part in (*prefixes, str(max_tokens), *after_the_network):
        digest.update(part.encode() + b"\0")
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().data)
    return digest.hexdigest()


def _tokenizer(model: Any, name: str) -> Any:
    """The model's own, without truncation and padding, which would make every count the same."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    if not isinstance(model.tokenizer, PreTrainedTokenizerFast):
        raise ModelUnavailable(
            f"The model {name} has no `tokenizers` tokenizer, which is needed to count tokens."
        )
    tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _write_tokenizer(tokenizer: Any, name: str, folder: Path) -> Path:
    """Replaces the file in one step."""
    target = folder / f"{name}-{_TOKENIZER_FILE}"
    scratch = target.with_suffix(f".{os.getpid()}.tmp")
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(scratch), pretty=False)
    scratch.replace(target)
    return target
