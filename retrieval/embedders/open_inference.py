"""Any embedding model behind a server of the Open Inference Protocol v2: Triton, MLServer, OpenVINO's, ...

Texts become tokens here and vectors there. `kb model export` writes our own model as such servers want
it, with what must be known of it beside its tokenizer; docs/deployment.md tells how it is served.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Self

import httpx
import numpy as np
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from kb.errors import ModelMisbehaved, ModelOverloaded, ModelTimeout, ModelUnavailable
from kb.types import Vectors
from retrieval.embedders.batches import encodable, unpadded_batches

DESCRIPTION_FILE: Final = "embedder.json"
BATCH_SIZE: Final = 16
"""Most texts of one request; they have the same length, so nothing is padded, and a server may join
several requests of that length."""
_CALL_TOKENS: Final = 8192
_REQUESTS: Final = 8
"""Requests under way at a time: enough for a server to join some, few enough to let others in."""
_CONNECT_S: Final = 2.0
_ATTEMPTS: Final = 2
_INPUTS: Final = {"input_ids": None, "attention_mask": 1, "token_type_ids": 0}
"""What a model may ask for: the tokens, and values that are the same for all of them."""


@dataclass(frozen=True, slots=True)
class Description:
    """What the server does not tell of its model. `fingerprint` empty: it is made of what is known here."""

    max_tokens: int = 512
    query_prefix: str = ""
    passage_prefix: str = ""
    fingerprint: str = ""


class OpenInferenceEmbedder:
    """Implements the port `Embedder`. Make it with `open`. Vectors are normalised here once more."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        model: str,
        metadata: Mapping[str, Any],
        tokenizer_file: Path,
        description: Description,
        batch_size: int,
    ) -> None:
        from tokenizers import Tokenizer

        self._client: httpx.AsyncClient | None = client
        self._model = model
        self._inputs = _input_names(model, metadata)
        self._output, self._dimensions = _output(model, metadata)
        self._tokenizer_file = tokenizer_file
        self._tokenizer = Tokenizer.from_file(str(tokenizer_file))
        self._description = description
        self._batch_size = batch_size or BATCH_SIZE
        self._fingerprint = description.fingerprint or _fingerprint(
            model, metadata, tokenizer_file, description
        )
        self._turns = asyncio.Semaphore(_REQUESTS)

    @classmethod
    async def open(
        cls,
        url: str,
        model: str,
        tokenizer: Path,
        *,
        query_prefix: str | None = None,
        passage_prefix: str | None = None,
        batch_size: int = 0,
        timeout_s: float = 30.0,
    ) -> Self:
        """Asks the server at `url` (such as http://host:8000) for the model and reads the tokenizer.

        Prefixes that are None are those of the file embedder.json beside `tokenizer`, else empty.
        `timeout_s` is for each request. Raises ModelUnavailable.
        """
        description = await asyncio.to_thread(_describe, tokenizer, query_prefix, passage_prefix)
        try:
            client = httpx.AsyncClient(
                base_url=url.rstrip("/"),
                timeout=httpx.Timeout(timeout_s, connect=_CONNECT_S),
                trust_env=False,
            )
            metadata = await _asked(client, "GET", f"/v2/models/{model}")
        except httpx.InvalidURL as error:
            raise ModelUnavailable(f"embedder.url {url!r} is no address: {error}") from error
        except BaseException:
            await client.aclose()
            raise
        try:
            return cls(client, model, metadata, tokenizer, description, batch_size)
        except BaseException:
            await client.aclose()
            raise

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    def dimensions(self) -> int:
        return self._dimensions

    @property
    def max_tokens(self) -> int:
        return self._description.max_tokens

    @property
    def tokenizer_file(self) -> Path:
        return self._tokenizer_file

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        whole = [encodable(text) for text in texts]
        encodings = self._tokenizer.encode_batch_fast(whole, add_special_tokens=False)
        return [len(encoding.ids) for encoding in encodings]

    async def passages(self, texts: Sequence[str]) -> Vectors:
        return await self._embed([self._description.passage_prefix + text for text in texts])

    async def queries(self, texts: Sequence[str]) -> Vectors:
        return await self._embed([self._description.query_prefix + text for text in texts])

    async def close(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    async def _embed(self, texts: list[str]) -> Vectors:
        if self._client is None:
            raise ModelUnavailable("The embedder has been closed.")
        tokens = await asyncio.to_thread(self._tokenise, texts)
        vectors = np.empty((len(texts), self._dimensions), np.float32)

        async def embed(client: httpx.AsyncClient, batch: list[int]) -> None:
            async with self._turns:
                vectors[batch] = await self._infer(client, [tokens[i] for i in batch])

        batches = unpadded_batches([len(ids) for ids in tokens], self._batch_size, _CALL_TOKENS)
        try:
            async with asyncio.TaskGroup() as group:
                for batch in batches:
                    group.create_task(embed(self._client, batch))
        except ExceptionGroup as failed:  # one says enough; the others have been cancelled
            first = failed.exceptions[0]
            raise first from first.__cause__
        return vectors

    def _tokenise(self, texts: list[str]) -> list[list[int]]:
        encodings = self._tokenizer.encode_batch_fast([encodable(text) for text in texts])
        return [self._cut(encoding.ids) for encoding in encodings]

    def _cut(self, ids: list[int]) -> list[int]:
        """At most `max_tokens`, of which the last stays the end of the sentence."""
        most = self.max_tokens
        return ids if len(ids) <= most else [*ids[: most - 1], ids[-1]]

    async def _infer(self, client: httpx.AsyncClient, tokens: list[list[int]]) -> Vectors:
        """The vectors of texts with the same number of tokens."""
        shape = [len(tokens), len(tokens[0])]
        flat = [token for ids in tokens for token in ids]
        inputs = []
        for name in self._inputs:
            value = _INPUTS[name]
            data = flat if value is None else [value] * len(flat)
            inputs.append({"name": name, "shape": shape, "datatype": "INT64", "data": data})
        request = {"inputs": inputs, "outputs": [{"name": self._output}]}
        answer = await _asked(client, "POST", f"/v2/models/{self._model}/infer", request)
        return self._vectors(answer, len(tokens))

    def _vectors(self, answer: Mapping[str, Any], count: int) -> Vectors:
        try:
            (data,) = [each["data"] for each in answer["outputs"] if each["name"] == self._output]
            vectors = np.asarray(data, np.float32).reshape(count, self._dimensions)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelMisbehaved(
                f"The embedder's server did not answer with {count} vectors of {self._dimensions}: {error}"
            ) from error
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(norms).all() or not norms.all():
            raise ModelMisbehaved(
                "The embedder's server answered with vectors that have no direction."
            )
        normalised: Vectors = vectors / norms
        return normalised


# --- The server ---------------------------------------------------------------------------------


async def _asked(
    client: httpx.AsyncClient, method: str, path: str, body: object = None
) -> dict[str, Any]:
    """The server's JSON; asked once more where the reason may have passed. Raises ModelUnavailable."""
    attempts = AsyncRetrying(
        retry=retry_if_exception(_may_pass),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_random_exponential(0.1, 1.0),
        reraise=True,
    )
    return await attempts(_ask, client, method, path, body)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, ModelUnavailable) and not isinstance(error, ModelMisbehaved)


async def _ask(client: httpx.AsyncClient, method: str, path: str, body: object) -> dict[str, Any]:
    try:
        response = await client.request(method, path, json=body)
    except httpx.TimeoutException as error:
        raise ModelTimeout(f"The embedder's server at {client.base_url} is too slow.") from error
    except httpx.HTTPError as error:
        raise ModelUnavailable(
            f"The embedder's server at {client.base_url} can't be asked: {error or type(error).__name__}"
        ) from error
    if response.status_code in (429, 503):
        raise ModelOverloaded(f"The embedder's server is not ready: {_said(response)}")
    if response.is_server_error:
        raise ModelUnavailable(f"The embedder's server fails at {path}: {_said(response)}")
    if not response.is_success:
        raise ModelMisbehaved(f"The embedder's server refuses {path}: {_said(response)}")
    try:
        answer = response.json()
    except ValueError as error:
        raise ModelMisbehaved(f"The embedder's server answers {path} without JSON.") from error
    if not isinstance(answer, dict):
        raise ModelMisbehaved(f"The embedder's server answers {path} with something else.")
    return answer


def _said(response: httpx.Response) -> str:
    """Status and what the server says of it: the protocol has it in `error`."""
    try:
        said = str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        said = response.text
    return f"{response.status_code} {said[:300]}"


def _input_names(model: str, metadata: Mapping[str, Any]) -> list[str]:
    names = [str(each.get("name")) for each in metadata.get("inputs", [])]
    if "input_ids" not in names or not set(names) <= set(_INPUTS):
        raise ModelUnavailable(
            f"The model {model} takes {', '.join(names) or 'nothing'}; an embedder takes input_ids, and "
            "perhaps attention_mask and token_type_ids."
        )
    return names


def _output(model: str, metadata: Mapping[str, Any]) -> tuple[str, int]:
    """Name and dimensions of the one output: a vector for each text."""
    outputs = metadata.get("outputs", [])
    shape = [int(size) for size in outputs[0].get("shape", [])] if len(outputs) == 1 else []
    if len(shape) != 2 or shape[1] < 1:
        found = ", ".join(f"{each.get('name')} {each.get('shape')}" for each in outputs)
        raise ModelUnavailable(
            f"The model {model} gives {found or 'nothing'}; an embedder gives one vector for each text, of a "
            "known length. Export it with its pooling."
        )
    return str(outputs[0]["name"]), shape[1]


# --- What lies beside the tokenizer -------------------------------------------------------------


def _describe(tokenizer: Path, query_prefix: str | None, passage_prefix: str | None) -> Description:
    """Prefixes that are given replace the described ones, and with them the fingerprint."""
    if not tokenizer.is_file():
        raise ModelUnavailable(f"embedder.tokenizer names {tokenizer}, which is not a file.")
    file = tokenizer.with_name(DESCRIPTION_FILE)
    try:
        described = Description(**json.loads(file.read_text("utf-8"))) if file.is_file() else None
    except (ValueError, TypeError) as error:
        raise ModelUnavailable(f"{file} is damaged: {error}. Export the model again.") from error
    own = described or Description()
    query = own.query_prefix if query_prefix is None else query_prefix
    passage = own.passage_prefix if passage_prefix is None else passage_prefix
    same = (query, passage) == (own.query_prefix, own.passage_prefix)
    return Description(own.max_tokens, query, passage, own.fingerprint if same else "")


def _fingerprint(
    model: str, metadata: Mapping[str, Any], tokenizer: Path, description: Description
) -> str:
    """The server does not tell its weights: another model must have another name or version there."""
    parts = (
        str(metadata.get("versions")),
        tokenizer.read_text("utf-8"),
        description.query_prefix,
        description.passage_prefix,
        str(description.max_tokens),
    )
    digest = blake2b("\0".join(parts).encode(), digest_size=6).hexdigest()
    return f"{model[-40:]}/{digest}"
