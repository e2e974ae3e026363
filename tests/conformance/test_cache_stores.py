"""Stores of kept values: one in this process, one in a real Redis."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from kb.errors import ConfigError
from kb.settings import CacheSettings
from serving.caching.stores import (
    MemoryStore,
    RedisStore,
    Store,
    StoreUnavailable,
    open_store,
)
from serving.redis_pool import redis_pool
from tests.conftest import start_redis, throw_away_redis

LONG_S = 600.0


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with throw_away_redis() as (url, _):
        yield url


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    where = {"redis_url": request.getfixturevalue("redis_url")} if request.param == "redis" else {}
    opened = open_store(CacheSettings(ttl_s=LONG_S, **where))
    assert opened is not None
    yield opened
    await opened.close()


async def test_what_was_put_is_got_and_nothing_else(store: Store) -> None:
    await store.put("one", b"\x00 first")
    await store.put("two", b"second")
    await store.put("one", b"later")
    assert await store.get("one") == b"later"
    assert await store.get("two") == b"second"
    assert await store.get("three") is None


@pytest.mark.redis
async def test_values_in_redis_go_with_their_time(redis_url: str) -> None:
    store = RedisStore(redis_pool(redis_url, "X"), ttl_s=0.001)
    await store.put("short", b"x")
    await asyncio.sleep(0.1)  # Many times as long: slower machines only wait longer.
    assert await store.get("short") is None
    await store.close()


async def test_memory_keeps_what_was_used_last() -> None:
    store = MemoryStore(size=5_000, ttl_s=LONG_S)
    await store.put("used", b"x" * 1_000)
    await store.put("unused", b"x" * 1_000)
    assert await store.get("used")
    await store.put("new", b"x" * 2_500)
    assert await store.get("unused") is None
    assert await store.get("used")
    await store.put("too large", b"x" * 6_000)
    assert await store.get("too large") is None
    assert await store.get("new")


@pytest.mark.parametrize("section", [{"ttl_s": 0}, {"size_mb": 0}])
def test_zero_keeps_nothing(section: dict[str, int]) -> None:
    assert open_store(CacheSettings(**section)) is None


def test_a_wrong_address_is_told_without_its_password() -> None:
    with pytest.raises(ConfigError, match="KB_CACHE__REDIS_URL") as refused:
        open_store(CacheSettings(redis_url="redis://:secret@host:port/x"))
    assert "secret" not in refused.value.message


@pytest.mark.redis
async def test_a_redis_that_is_gone_is_left_alone_and_used_again_when_it_is_back() -> None:
    with throw_away_redis() as (url, folder):
        store = RedisStore(redis_pool(url, "X"), LONG_S, pause_s=0.05)
        patient = RedisStore(redis_pool(url, "X"), LONG_S, pause_s=LONG_S)
        await store.put("one", b"kept")
        assert await patient.get("one") == b"kept"

        _kill(folder)
        for each in (store, patient):
            with pytest.raises(StoreUnavailable):
                await each.get("one")
        with pytest.raises(StoreUnavailable):
            await store.put("two", b"lost")

        await asyncio.to_thread(start_redis, folder)
        async with asyncio.timeout(60):
            while not await _is_back(store):  # noqa: ASYNC110 - Redis tells nobody
                await asyncio.sleep(0.05)
        await store.put("three", b"after")
        assert await store.get("three") == b"after"
        with pytest.raises(StoreUnavailable):  # Its pause is not over: nothing was asked.
            await patient.get("one")
        for each in (store, patient):
            await each.close()


def _kill(folder: Path) -> None:
    os.kill(int((folder / "pid").read_text()), signal.SIGKILL)


async def _is_back(store: Store) -> bool:
    try:
        await store.get("one")
    except StoreUnavailable:
        return False
    return True
