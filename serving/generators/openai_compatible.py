"""A model behind an OpenAI-compatible server: vLLM, or another."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import aiohttp
import orjson

from kb import tracing
from kb.errors import ConfigError, ModelMisbehaved, ModelUnavailable
from kb.generation import Message, ModelDelta, Sampling
from serving.generators.openai_wire import delta_of, refusal, request_body
from serving.generators.server_sent_events import event_data
from serving.generators.thinking import ThinkingSplitter

_USUAL_CONTEXT: Final = 8192
_MOST_BODY_BYTES: Final = 1 << 20
_REMEMBERED_COUNTS: Final = 4096
_COUNTED_AT_ONCE: Final = 16
_KEEPALIVE_S: Final = 3.0
"""Shorter than the 5 s after which uvicorn, and so vLLM, closes: it must not do so as we ask."""
_LAST_WORD_S: Final = 0.1
"""For the end of a stream whose last event has come: with it the connection can be used again."""
_PASSING: Final = {429, 500, 502, 503, 504}
"""Statuses that say nothing of what a server can do."""
_KNOWS_NONE: Final = {200, 400, 404, 405, 501}
"""Statuses of a server that counts no tokens, or means something else by the address."""
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
        key = _checked_key(api_key)
        self._url = _checked(url, key)
        self._model = model
        self._names_model = not model  # The server does.
        self._context = context_tokens
        self._asks_context = not context_tokens
        self._begins_thinking = begins_thinking
        self._tokenizer = _local_tokenizer(tokenizer) if tokenizer else None
        self._server_counts = True
        self._counting = asyncio.Semaphore(_COUNTED_AT_ONCE)
        self._counts: OrderedDict[str, int] = OrderedDict()
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._connect_s = connect_s
        self._opened: aiohttp.ClientSession | None = None

    @property
    def name(self) -> str:
        return self._model or "unknown"

    async def ready(self) -> None:
        if self._names_model or self._asks_context:
            await self._describe()
            return
        async with self._request("GET", "models") as response:  # Our key may not be let list them.
            if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise refusal(response.status, await _beginning(response), Sampling())

    async def context_tokens(self) -> int:
        if not self._context:
            await self._describe()
        return self._context

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        if self._tokenizer:
            return [len(found.ids) for found in self._tokenizer.encode_batch(list(texts))]
        counting = [asyncio.ensure_future(self._count(text)) for text in texts]
        try:
            return await asyncio.gather(*counting)
        finally:
            for count in counting:  # Where one failed, nobody waits for the others.
                count.cancel()

    async def stream(
        self, messages: Sequence[Message], sampling: Sampling
    ) -> AsyncGenerator[ModelDelta, None]:
        if not self._model:
            await self._describe()
        body = request_body(self._model, messages, sampling)
        async with self._request("POST", "chat/completions", body) as response:
            await self._check(response, sampling)
            async for delta in self._deltas(response, sampling):
                yield delta

    async def close(self) -> None:
        if self._opened:
            await self._opened.close()

    @property
    def _session(self) -> aiohttp.ClientSession:
        """aiohttp's, as it closes a connection in one step: httpx leaves some open where work is cancelled."""
        if self._opened is None:
            self._opened = aiohttp.ClientSession(
                headers=self._headers,
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                # Callers have deadlines of their own for what is said.
                timeout=aiohttp.ClientTimeout(total=None, connect=self._connect_s),
            )
        return self._opened

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, body: Any = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Raises ModelUnavailable where the connection fails, also later, while the answer is read."""
        data = None if body is None else orjson.dumps(body)
        # The server's own spans, if it has any, join the trace of the question.
        headers = tracing.carrier()
        if data is not None:
            headers["Content-Type"] = "application/json"
        url = urljoin(self._url, path)
        with _translated():
            async with self._session.request(
                method, url, data=data, headers=headers, allow_redirects=False
            ) as response:
                yield response

    async def _deltas(
        self, response: aiohttp.ClientResponse, sampling: Sampling
    ) -> AsyncGenerator[ModelDelta, None]:
        splitter = ThinkingSplitter(self._begins_thinking)
        finished = False
        async for data in event_data(response.content.iter_any()):
            if data == _DONE:
                finished = True
                await _read_end(response)
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

    async def _check(self, response: aiohttp.ClientResponse, sampling: Sampling) -> None:
        if response.status == HTTPStatus.NOT_FOUND and self._names_model:
            self._forget()  # It may have another model now.
        if response.status != HTTPStatus.OK:
            raise refusal(response.status, await _beginning(response), sampling)
        if "event-stream" not in response.headers.get("content-type", ""):
            raise ModelMisbehaved("The model's server sent something else than a stream.")

    def _forget(self) -> None:
        """What the server said of its model."""
        self._model = ""
        self._counts.clear()
        self._server_counts = True
        if self._asks_context:
            self._context = 0

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
        """By vLLM's /tokenize, which lies beside /v1; other servers have none, or another."""
        if not self._model:
            await self._describe()
        body = {"model": self._model, "prompt": text, "add_special_tokens": False}
        async with self._counting, self._request("POST", "../tokenize", body) as response:
            said = await _beginning(response)
            if response.status == HTTPStatus.OK:
                with suppress(ValueError, LookupError, TypeError):
                    return int(orjson.loads(said)["count"])
        if response.status in _PASSING:
            raise refusal(response.status, said, Sampling())
        if response.status in _KNOWS_NONE:
            self._server_counts = False
        return estimate(text)

    async def _get(self, path: str) -> Any:
        async with self._request("GET", path) as response:
            said = await _beginning(response)
        if response.status != HTTPStatus.OK:
            raise refusal(response.status, said, Sampling())
        try:
            return orjson.loads(said)
        except ValueError as error:
            raise ModelMisbehaved("The model's server answered what can't be read.") from error


def estimate(text: str) -> int:
    """Tokens of a text, rather too many: three ASCII characters a token, other characters 1.5 tokens."""
    ascii_characters = sum(character.isascii() for character in text)
    return ascii_characters // 3 + (len(text) - ascii_characters) * 3 // 2 + 1


def _split(delta: ModelDelta, splitter: ThinkingSplitter) -> ModelDelta | None:
    """The delta with the thinking in its text told apart."""
    reasoning, text = splitter.feed(delta.text)
    split = ModelDelta(text, delta.reasoning + reasoning, delta.logprobs, delta.finish, delta.usage)
    return None if split == ModelDelta() else split


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """All of what is no stream: an answer, or enough of an error's body to say what it is about."""
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _MOST_BODY_BYTES:
            break
    return body


async def _read_end(response: aiohttp.ClientResponse) -> None:
    """Whatever becomes of the connection now: all has been said."""
    with suppress(TimeoutError, aiohttp.ClientError, ConnectionError):
        async with asyncio.timeout(_LAST_WORD_S):
            async for _ in response.content.iter_any():
                pass


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except aiohttp.ServerTimeoutError as error:
        raise ModelUnavailable("The model's server does not take connections.") from error
    except aiohttp.ClientConnectorError as error:
        raise ModelUnavailable("The model's server can't be reached.") from error
    except (aiohttp.ClientError, ConnectionError) as error:
        raise ModelUnavailable(
            f"The connection to the model's server broke ({type(error).__name__})."
        ) from error


def _checked_key(key: str) -> str:
    """Without white space around it, as files of secrets end in a line's end."""
    if not (key.strip().isascii() and key.strip().isprintable()):
        raise ConfigError("generation.api_key has characters that no key can have.")
    return key.strip()


def _checked(url: str, key: str) -> str:
    wanted = "generation.url is no address, such as http://host:8001/v1."
    try:
        parsed = urlsplit(url)
        host = parsed.hostname or ""
        is_address = parsed.scheme in ("http", "https") and host and parsed.port != 0
        host.encode("ascii" if ":" in host else "idna")
    except ValueError as error:  # Of a port that is no number, of a name that none can have.
        raise ConfigError(wanted) from error
    if not is_address:
        raise ConfigError(wanted)
    if parsed.username and key:
        raise ConfigError("generation.url names a user: leave out either it or generation.api_key.")
    return url.rstrip("/") + "/"


def _local_tokenizer(file: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:
        raise ConfigError(f"generation.tokenizer: {file} can't be read: {error}") from error
