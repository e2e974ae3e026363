"""A model behind an OpenAI-compatible server: vLLM, or another."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import httpx
import orjson

from kb import tracing
from kb.errors import ConfigError, ModelMisbehaved, ModelUnavailable
from kb.generation import Message, ModelDelta, Sampling
from serving.generators.openai_wire import delta_of, refusal, request_body
from serving.generators.server_sent_events import event_data
from serving.generators.thinking import ThinkingSplitter

_USUAL_CONTEXT: Final = 8192
_MOST_ERROR_BYTES: Final = 1 << 16
_REMEMBERED_COUNTS: Final = 4096
_DONE: Final = b"[DONE]"


class OpenAICompatibleGenerator:
    """One server. Connections are kept and used again; nothing is connected to before the first call."""

    def __init__(
        self,
        url: str,
        *,
        model: str = "",
        api_key: str = "",
        context_tokens: int = 0,
        tokenizer: Path | None = None,
        connect_s: float = 2.0,
        begins_thinking: bool = False,
    ) -> None:
        """Empty `model` and 0 `context_tokens` are asked of the server. Raises ConfigError."""
        self._url = _checked(url)
        self._model = model
        self._names_model = not model  # The server does.
        self._context = context_tokens
        self._begins_thinking = begins_thinking
        self._tokenizer = _local_tokenizer(tokenizer) if tokenizer else None
        self._server_counts = True
        self._counts: OrderedDict[str, int] = OrderedDict()
        self._client = httpx.AsyncClient(
            base_url=self._url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else None,
            # Callers have deadlines of their own for what is said.
            timeout=httpx.Timeout(None, connect=connect_s, pool=connect_s),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            trust_env=False,
            event_hooks={"request": [_continue_trace]},
        )

    @property
    def name(self) -> str:
        return self._model or "unknown"

    async def ready(self) -> None:
        await self._describe()

    async def context_tokens(self) -> int:
        if not self._context:
            await self._describe()
        return self._context

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        if self._tokenizer:
            return [len(found.ids) for found in self._tokenizer.encode_batch(list(texts))]
        return await asyncio.gather(*map(self._count, texts))

    async def stream(
        self, messages: Sequence[Message], sampling: Sampling
    ) -> AsyncGenerator[ModelDelta, None]:
        if not self._model:
            await self._describe()
        body = request_body(self._model, messages, sampling)
        with _translated():
            async with self._client.stream(
                "POST", "chat/completions", content=orjson.dumps(body), headers=_JSON
            ) as response:
                await self._check(response, sampling)
                async for delta in self._deltas(response, sampling):
                    yield delta

    async def close(self) -> None:
        await self._client.aclose()

    async def _deltas(
        self, response: httpx.Response, sampling: Sampling
    ) -> AsyncGenerator[ModelDelta, None]:
        splitter = ThinkingSplitter(self._begins_thinking)
        finished = False
        async for data in event_data(response.aiter_bytes()):
            if data == _DONE:
                finished = True
                break
            delta = delta_of(data, sampling)
            if delta is None:
                continue
            finished |= delta.finish is not None
            if delta := _split(delta, splitter):
                yield delta
        if not finished:
            raise ModelUnavailable("The model's server broke the answer off.")
        reasoning, text = splitter.finish()
        if reasoning or text:
            yield ModelDelta(text, reasoning)

    async def _check(self, response: httpx.Response, sampling: Sampling) -> None:
        if response.status_code == HTTPStatus.NOT_FOUND and self._names_model:
            self._model = ""  # It may have another model now.
        if response.status_code != HTTPStatus.OK:
            raise refusal(response.status_code, await _beginning(response), sampling)
        if "event-stream" not in response.headers.get("content-type", ""):
            raise ModelMisbehaved("The model's server sent something else than a stream.")

    async def _describe(self) -> None:
        """Asks for the model's name and context, where the settings do not say them."""
        listed = await self._get("models")
        try:
            models = {entry["id"]: entry for entry in listed["data"]}
            name = self._model or next(iter(models))
            told = int(models.get(name, {}).get("max_model_len") or 0)
        except (LookupError, TypeError, ValueError, AttributeError, StopIteration) as error:
            raise ModelMisbehaved("The model's server lists no model.") from error
        self._model = name
        self._context = self._context or told or _USUAL_CONTEXT

    async def _count(self, text: str) -> int:
        if text in self._counts:
            self._counts.move_to_end(text)
            return self._counts[text]
        counted = await self._counted_by_server(text) if self._server_counts else estimate(text)
        self._counts[text] = counted
        if len(self._counts) > _REMEMBERED_COUNTS:
            self._counts.popitem(last=False)
        return counted

    async def _counted_by_server(self, text: str) -> int:
        """By vLLM's /tokenize, which lies beside /v1; other servers have none."""
        if not self._model:
            await self._describe()
        body = {"model": self._model, "prompt": text, "add_special_tokens": False}
        with _translated():
            response = await self._client.post(
                str(self._client.base_url.join("../tokenize")), json=body
            )
        if response.status_code in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
            self._server_counts = False
            return estimate(text)
        if response.status_code != HTTPStatus.OK:
            raise refusal(response.status_code, response.content, Sampling())
        with _readable():
            return int(response.json()["count"])

    async def _get(self, path: str) -> Any:
        with _translated():
            response = await self._client.get(path)
        if response.status_code != HTTPStatus.OK:
            raise refusal(response.status_code, response.content, Sampling())
        with _readable():
            return response.json()


_JSON: Final = {"Content-Type": "application/json"}


async def _continue_trace(request: httpx.Request) -> None:
    """The server's own spans, if it has any, join the trace of the question."""
    request.headers.update(tracing.carrier())


def estimate(text: str) -> int:
    """Tokens of a text, rather too many: three ASCII characters a token, other characters 1.5 tokens."""
    ascii_characters = sum(character.isascii() for character in text)
    return ascii_characters // 3 + (len(text) - ascii_characters) * 3 // 2 + 1


def _split(delta: ModelDelta, splitter: ThinkingSplitter) -> ModelDelta | None:
    """The delta with the thinking in its text told apart."""
    reasoning, text = splitter.feed(delta.text)
    split = ModelDelta(text, delta.reasoning + reasoning, delta.logprobs, delta.finish, delta.usage)
    return None if split == ModelDelta() else split


async def _beginning(response: httpx.Response) -> bytes:
    """Enough of an error's body to say what it is about."""
    body = b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > _MOST_ERROR_BYTES:
            break
    return body


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except httpx.ConnectError as error:
        raise ModelUnavailable("The model's server can't be reached.") from error
    except httpx.TimeoutException as error:
        raise ModelUnavailable("The model's server does not take connections.") from error
    except httpx.HTTPError as error:
        raise ModelUnavailable(
            f"The connection to the model's server broke ({type(error).__name__})."
        ) from error


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (ValueError, LookupError, TypeError) as error:
        raise ModelMisbehaved("The model's server answered what can't be read.") from error


def _checked(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigError("generation.url is no address, such as http://host:8001/v1.") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError("generation.url is no address, such as http://host:8001/v1.")
    return url.rstrip("/") + "/"


def _local_tokenizer(file: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:
        raise ConfigError(f"generation.tokenizer: {file} can't be read: {error}") from error
