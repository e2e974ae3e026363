"""What one key may ask, and what the server takes at a time."""

import asyncio
from typing import Any

import httpx
import pytest
import time_machine
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from kb.errors import ConfigError, TooManyRequests
from kb.settings import LimitsSettings
from serving.app.limited import Door
from serving.limits import Allowance, Limits


def limits(**settings: Any) -> Limits:
    return Limits(LimitsSettings(**settings))


async def test_a_key_may_ask_so_often_a_minute_and_then_again() -> None:
    with time_machine.travel("2026-01-01 12:00:00", tick=False) as clock:
        some = limits(requests_per_minute=2)
        assert [(await some.count("a")), (await some.count("a"))] == [
            Allowance(2, 1, 60),
            Allowance(2, 0, 60),
        ]
        with pytest.raises(TooManyRequests, match="2 times a minute") as refused:
            await some.count("a")
        assert refused.value.retry_after_s == 60
        assert await some.count("b"), "another key has its own"
        clock.shift(121)
        assert await some.count("a")


async def test_a_key_may_have_so_many_at_a_time() -> None:
    some = limits(concurrent_requests=1)
    with some.place("a"):
        with pytest.raises(TooManyRequests, match="go on already"), some.place("a"):
            pass
        with some.place("b"):
            pass
    with some.place("a"):
        pass


async def test_a_place_is_free_again_after_a_failure() -> None:
    some = limits(concurrent_requests=1)
    for _ in range(2):
        with pytest.raises(ValueError, match="x"), some.place("a"):
            raise ValueError("x")


async def test_zero_counts_nothing() -> None:
    some = limits(requests_per_minute=0, concurrent_requests=0)
    assert await some.count("a") is None
    with some.place("a"), some.place("a"):
        pass


@pytest.mark.parametrize("url", ["http://host", "redis://:secret@host:port/x"])
def test_an_address_that_cannot_be_one_is_told_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="KB_LIMITS__REDIS_URL") as refused:
        limits(redis_url=url)
    assert "secret" not in refused.value.message


async def test_a_full_server_refuses_at_once_and_others_go_on() -> None:
    ends = asyncio.Event()
    entered = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        entered.set()
        await ends.wait()
        await PlainTextResponse("done")(scope, receive, send)

    transport = httpx.ASGITransport(Door(slow, most=1))
    async with httpx.AsyncClient(transport=transport, base_url="http://kb") as http:
        first = asyncio.create_task(http.get("/v1/search"))
        await entered.wait()
        refused = await http.get("/v1/search")
        assert refused.status_code == 503
        assert refused.headers["Retry-After"]
        assert refused.json()["error"]["code"] == "server_overloaded"
        health = asyncio.create_task(http.get("/healthz"))
        ends.set()
        assert (await first).text == "done"
        assert (await health).status_code == 200, "whether it lives can always be asked"
        assert (await http.get("/v1/search")).status_code == 200
