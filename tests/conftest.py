"""Real servers for the tests that need one: TEST_POSTGRESQL_URL and TEST_ELASTICSEARCH_URL, or throw-away ones."""

import asyncio
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import httpx
import pytest

from kb.settings import IndexSettings

SCRIPTS = Path(__file__).parents[1] / "deploy"


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of a server in which we may create databases. As root it is installed where missing."""
    if given := os.environ.get("TEST_POSTGRESQL_URL"):
        yield given
        return
    # pytest's own temporary folders are closed to the user PostgreSQL runs as.
    folder = Path(tempfile.mkdtemp(prefix="kb-postgresql-"))
    folder.chmod(0o711)
    cluster = folder / "cluster"
    try:
        started = subprocess.run(
            [SCRIPTS / "postgresql" / "start", cluster],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        yield started.stdout.strip()
    finally:
        subprocess.run(
            [SCRIPTS / "postgresql" / "stop", cluster], check=False, stderr=subprocess.DEVNULL
        )
        shutil.rmtree(folder, ignore_errors=True)  # A server may still be tidying up.


@pytest.fixture
def postgresql_url(postgresql_server: str) -> Iterator[str]:
    """The URL of an empty database of the test's own."""
    name = f"kb_test_{uuid.uuid4().hex}"
    server, _, _ = postgresql_server.rpartition("/")
    _execute(postgresql_server, f"CREATE DATABASE {name}")
    yield f"{server}/{name}"
    _execute(postgresql_server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def elasticsearch_server() -> Iterator[str]:
    """The URL of a server in which we may create indexes. It is fetched, as Java and Maven are by root."""
    if given := os.environ.get("TEST_ELASTICSEARCH_URL"):
        yield given
        return
    with throw_away_elasticsearch() as (url, _):
        yield url


@contextmanager
def throw_away_elasticsearch() -> Iterator[tuple[str, Path]]:
    """The URL and the folder of a server of the caller's own."""
    folder = Path(tempfile.mkdtemp(prefix="kb-elasticsearch-"))
    folder.chmod(0o711)
    data = folder / "data"
    try:
        yield start_elasticsearch(data), data
    finally:
        subprocess.run([SCRIPTS / "elasticsearch" / "stop", data], check=False)
        shutil.rmtree(folder, ignore_errors=True)  # A server may still be tidying up.


def start_elasticsearch(folder: Path) -> str:
    command = [SCRIPTS / "elasticsearch" / "start", folder]
    small = {"ELASTICSEARCH_HEAP": "512m"} | os.environ
    started = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=small)
    return started.stdout.strip()


@contextmanager
def throw_away_redis() -> Iterator[tuple[str, Path]]:
    """The URL and the folder of a server of the caller's own."""
    with tempfile.TemporaryDirectory(prefix="kb-redis-") as name:
        folder = Path(name)
        try:
            yield start_redis(folder), folder
        finally:
            subprocess.run([SCRIPTS / "redis" / "stop", folder], check=False)


def start_redis(folder: Path) -> str:
    command = [SCRIPTS / "redis" / "start", folder]
    started = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return started.stdout.strip()


@pytest.fixture
def elasticsearch_settings(elasticsearch_server: str) -> Iterator[IndexSettings]:
    with own_indexes(elasticsearch_server) as settings:
        yield settings


@contextmanager
def own_indexes(server: str) -> Iterator[IndexSettings]:
    """Settings with a prefix of the test's own, whose indexes are dropped afterwards."""
    prefix = f"test-{uuid.uuid4().hex}-"
    yield IndexSettings(url=server, prefix=prefix)
    with httpx.Client(trust_env=False) as client:
        names = client.get(f"{server}/{prefix}*/_alias").json()
        for name in names:
            client.delete(f"{server}/{name}").raise_for_status()


def _execute(url: str, statement: str) -> None:
    async def execute() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    # A loop of its own, which leaves the tests' loop alone.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(execute())


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def catalog_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind; its tables are not made yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/catalog.db"
    url: str = request.getfixturevalue("postgresql_url")
    return url
