"""kill -9 of what a server leans on, and its return, while clients ask and upload.

While it is away errors are such as clients understand; afterwards all goes on by itself, and nothing
that was taken is lost. Prints what clients saw and after how long all was well again (-s shows it).
"""

import asyncio
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import throw_away_redis
from tests.e2e.kb_process import (
    KB,
    START_TIMEOUT_S,
    Server,
    data_folder,
    environment,
    printed_json,
    start_server,
    stop_server,
)
from tests.e2e.steady_load import Load, improper
from tests.e2e.victims import Elasticsearch, PostgreSQL, Redis, Victim

pytestmark = [
    pytest.mark.slow,
    pytest.mark.postgresql,
    pytest.mark.elasticsearch,
    pytest.mark.redis,
    pytest.mark.timeout(1200),
]


@dataclass(frozen=True)
class Large:
    """A server on three others, each of which a test may kill."""

    server: Server
    key: str
    victims: dict[str, Victim]
    run: Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    with throw_away_redis() as (url, folder):
        yield Redis(folder, url)


@pytest.fixture(scope="module")
def large(
    postgresql: PostgreSQL,
    elasticsearch: Elasticsearch,
    redis: Redis,
    models: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Large]:
    folder = tmp_path_factory.mktemp("large")
    data = data_folder(folder / "data", models)
    settings = {
        "KB_CATALOG__URL": postgresql.url,
        "KB_INDEX__URL": elasticsearch.url,
        "KB_INDEX__SEARCH_TIMEOUT_S": "40",  # Only what was killed may fail, however slow the machine.
        "KB_LIMITS__REDIS_URL": redis.url,
        "KB_LIMITS__REQUESTS_PER_MINUTE": "1000000",
        "KB_LIMITS__CONCURRENT_REQUESTS": "100",
    }

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [KB, *map(str, arguments)],
            env=environment(data, **settings),
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
            check=False,
        )

    made = run("keys", "create", "test", "--scope", "admin", "--json")
    server = start_server(["serve"], data, folder, **settings)
    victims: dict[str, Victim] = {
        "postgresql": postgresql,
        "elasticsearch": elasticsearch,
        "redis": redis,
    }
    yield Large(server, printed_json(made)["key"], victims, run)
    stop_server(server)


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("redis", set()),
        ("postgresql", {"catalog_unavailable"}),
        ("elasticsearch", {"index_unavailable"}),
    ],
)
async def test_killed_and_returned_under_load(large: Large, name: str, codes: set[str]) -> None:
    victim = large.victims[name]
    async with Load(large.server.url, large.key) as load:
        await load.well()
        killed_at = time.monotonic()
        await asyncio.to_thread(victim.kill)
        await load.more(20)
        away = load.since(killed_at)
        await asyncio.to_thread(victim.start)
        returned_at = time.monotonic()
        answered_s = await load.well()
        await load.all_indexed()
        indexed_s = time.monotonic() - returned_at
        well_at = time.monotonic()
        await load.more(10)
    assert improper(load.answers, codes) == []
    assert [a for a in load.since(well_at) if not a.good] == [], "once well, it stays well"
    bad = [a for a in away if not a.good]
    assert {a.code for a in bad} == codes
    assert large.run("doctor").returncode == 0
    seen = Counter(f"{a.kind} {a.status}" for a in away)
    slowest = max(a.ended - a.begun for a in load.answers)
    print(  # noqa: T201
        f"{name} away: {dict(sorted(seen.items()))}; slowest answer {slowest:.1f} s; back: all answered"
        f" after {answered_s:.1f} s, all {len(load.uploaded)} uploads indexed after {indexed_s:.1f} s"
    )
