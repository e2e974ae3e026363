"""What servers of OpenAI's API do differently: counting tokens, listing models, changing them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from kb.errors import ConfigError, ModelUnavailable
from kb.generation import Message, Sampling
from serving.generators.openai_compatible import OpenAICompatibleGenerator, estimate

Handler = Callable[[web.Request], Awaitable[web.Response]]
TEXT = "The port of Heron is 5520."


@asynccontextmanager
async def serving(routes: dict[str, Handler]) -> AsyncIterator[str]:
    application = web.Application()
    for path, handler in routes.items():
        application.router.add_route("*", path, handler)
    async with TestServer(application) as server:
        yield str(server.make_url("/v1"))


def saying(status: int, body: Any) -> Handler:
    async def answer(_request: web.Request) -> web.Response:
        return web.json_response(body, status=status)

    return answer


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"tokens": []}),  # llama.cpp, which reads `content`.
        (200, {"error": "Unexpected endpoint or method. (POST /tokenize)"}),  # LM Studio.
        (200, ["?"]),
        (200, {"count": None}),
        (400, {"error": "content is missing"}),
        (401, {}),
        (404, {}),
        (405, {}),
        (501, {}),
    ],
)
async def test_where_no_tokens_are_counted_they_are_estimated(status: int, body: Any) -> None:
    async with serving({"/tokenize": saying(status, body)}) as url:
        generator = OpenAICompatibleGenerator(url, model="m", context_tokens=2000)

        assert await generator.count_tokens([TEXT, "x"]) == [estimate(TEXT), estimate("x")]

        await generator.close()


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_server_that_fails_to_count_is_failing(status: int) -> None:
    async with serving({"/tokenize": saying(status, {})}) as url:
        generator = OpenAICompatibleGenerator(url, model="m", context_tokens=2000)

        with pytest.raises(ModelUnavailable):
            await generator.count_tokens([TEXT])

        await generator.close()


async def test_many_texts_are_counted_a_few_at_a_time() -> None:
    under_way: list[int] = []
    most = 0

    async def count(_request: web.Request) -> web.Response:
        nonlocal most
        under_way.append(1)
        most = max(most, len(under_way))
        await asyncio.sleep(0.001)
        under_way.pop()
        return web.json_response({"count": 3})

    async with serving({"/tokenize": count}) as url:
        generator = OpenAICompatibleGenerator(url, model="m", context_tokens=2000)
        texts = [f"text {number}" for number in range(300)]

        assert await generator.count_tokens(texts) == [3] * 300

        await generator.close()
    assert 1 < most <= 16


async def test_a_key_that_may_not_list_models_does_not_keep_a_model_away() -> None:
    async with serving({"/v1/models": saying(403, {})}) as url:
        told = OpenAICompatibleGenerator(url, model="m", context_tokens=2000)
        asks = OpenAICompatibleGenerator(url)

        await told.ready()
        with pytest.raises(ModelUnavailable):
            await asks.ready()

        await told.close()
        await asks.close()


async def test_another_model_at_the_same_address_has_its_own_context() -> None:
    models = [{"id": "big", "max_model_len": 32768}]  # Changed below.
    routes = {
        "/v1/models": saying(200, {"data": models}),
        "/v1/chat/completions": saying(404, {"error": {"message": "no such model"}}),
    }
    async with serving(routes) as url:
        generator = OpenAICompatibleGenerator(url)
        assert await generator.context_tokens() == 32768

        models[0] = {"id": "small", "max_model_len": 4096}
        with pytest.raises(ModelUnavailable):
            await anext(generator.stream([Message("user", "Hi")], Sampling()))

        assert await generator.context_tokens() == 4096
        assert generator.name == "small"
        await generator.close()


@pytest.mark.parametrize("is_aborted", [False, True])
async def test_an_answer_that_was_said_holds_however_the_connection_ends(is_aborted: bool) -> None:
    events = b'data: {"choices":[{"delta":{"content":"word"}}]}\n\ndata: [DONE]\n\n'

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
        writer.write(b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(events), events))
        await writer.drain()
        if is_aborted:
            writer.transport.abort()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        generator = OpenAICompatibleGenerator(url, model="m", context_tokens=2000)

        said = [d.text async for d in generator.stream([Message("user", "Hi")], Sampling())]

        assert said == ["word"]
        await generator.close()


async def test_a_failed_count_leaves_no_others_waiting() -> None:
    is_well = asyncio.Event()
    asked: list[int] = []

    async def count(_request: web.Request) -> web.Response:
        asked.append(1)
        if is_well.is_set():
            return web.json_response({"count": 3})
        if len(asked) == 1:
            return web.json_response({}, status=503)
        await asyncio.sleep(600)
        raise AssertionError("its client was to leave")

    async with serving({"/tokenize": count}) as url:
        generator = OpenAICompatibleGenerator(url, model="m", context_tokens=2000)
        with pytest.raises(ModelUnavailable):
            await generator.count_tokens([f"text {number}" for number in range(60)])

        is_well.set()
        async with asyncio.timeout(10):
            assert await generator.count_tokens(["fresh"]) == [3]
        await generator.close()


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://user:word@host/v1", "key"),
        ("http://a..b/v1", ""),
        (f"http://{'x' * 64}.example/v1", ""),
        ("http://host:port/v1", ""),
        ("host/v1", ""),
        ("http://host/v1", "ke\ny"),
        ("http://host/v1", "ключ"),
    ],
)
def test_what_can_not_be_asked_is_a_mistake_of_the_settings(url: str, key: str) -> None:
    with pytest.raises(ConfigError, match="generation"):
        OpenAICompatibleGenerator(url, api_key=key)


async def test_a_key_from_a_file_may_end_in_a_line() -> None:
    seen: list[str] = []

    async def models(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        return web.json_response({"data": [{"id": "m"}]})

    async with serving({"/v1/models": models}) as url:
        generator = OpenAICompatibleGenerator(url, api_key="secret\n")
        await generator.ready()
        await generator.close()
    assert seen == ["Bearer secret"]
