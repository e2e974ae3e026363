"""A PostgreSQL server for the tests that need one: TEST_POSTGRESQL_URL, or a throw-away cluster."""

import asyncio
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

SCRIPTS = Path(__file__).parents[1] / "deploy" / "postgresql"


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
            [SCRIPTS / "start", cluster], stdout=subprocess.PIPE, text=True, check=True
        )
        yield started.stdout.strip()
    finally:
        subprocess.run([SCRIPTS / "stop", cluster], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(folder)


@pytest.fixture
def postgresql_url(postgresql_server: str) -> Iterator[str]:
    """The URL of an empty database of the test's own."""
    name = f"kb_test_{uuid.uuid4().hex}"
    server, _, _ = postgresql_server.rpartition("/")
    _execute(postgresql_server, f"CREATE DATABASE {name}")
    yield f"{server}/{name}"
    _execute(postgresql_server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


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
