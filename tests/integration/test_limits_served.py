"""Limits over the API and over a real Redis, which is killed and comes back."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from kb.errors import TooManyRequests
from kb.settings import LimitsSettings, Settings
from retrieval.embedders.hashing import HashingEmbedder
from serving.app.application import create_app
from serving.bootstrap import open_services
from serving.keys import create_key
from serving.limits import Limits
from tests.conftest import start_redis, throw_away_redis


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async def hashing(settings: Settings) -> HashingEmbedder:
        return HashingEmbedder(settings.data_dir / "models")

    limits = LimitsSettings(requests_per_minute=2)
    settings = Settings(data_dir=tmp_path / "data", limits=limits)
    async with open_services(settings, hashing) as services:
        _, text = await create_key(services.catalog.keys, "test")
        transport = httpx.ASGITransport(create_app(services))
        async with httpx.AsyncClient(
            transport=transport,
            base_url="http://127.0.0.1",
            headers={"Authorization": f"Bearer {text}"},
        ) as client:
            yield client


async def test_answers_say_what_a_key_may_still_ask(http: httpx.AsyncClient) -> None:
    answers = [await http.get("/v1/models") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["RateLimit-Remaining"] for answer in answers[:2]] == ["1", "0"]
    assert {answer.headers["RateLimit-Limit"] for answer in answers[:2]} == {"2"}
    assert 1 <= int(answers[2].headers["Retry-After"]) <= 60
    assert answers[2].json()["error"]["code"] == "rate_limited"
    health = await http.get("/healthz")
    assert health.status_code == 200
    assert "RateLimit-Limit" not in health.headers


async def test_who_has_no_key_takes_nothing_from_those_who_have(http: httpx.AsyncClient) -> None:
    for _ in range(5):
        refused = await http.get("/v1/models", headers={"Authorization": "Bearer kb-x-y"})
        assert refused.status_code == 401
    assert (await http.get("/v1/models")).headers["RateLimit-Remaining"] == "1"


@pytest.fixture
def redis() -> Iterator[tuple[str, Path]]:
    with throw_away_redis() as server:
        yield server


@pytest.mark.redis
async def test_servers_share_rates_and_count_for_themselves_without_redis(
    redis: tuple[str, Path],
) -> None:
    url, folder = redis
    settings = LimitsSettings(requests_per_minute=3, redis_url=url)
    one, other = Limits(settings), Limits(settings)
    await one.count("a")
    await other.count("a")
    last = await one.count("a")
    assert last is not None
    assert last.remaining == 0
    with pytest.raises(TooManyRequests):
        await other.count("a")

    os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
    for _ in range(3):
        await other.count("a")
    with pytest.raises(TooManyRequests):
        await other.count("a")
    await one.count("a")

    assert await asyncio.to_thread(start_redis, folder) == url
    await one.count("b")
    shared = await other.count("b")
    assert shared is not None
    assert shared.remaining == 1
    for each in (one, other):
        await each.close()
