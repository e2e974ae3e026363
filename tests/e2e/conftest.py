"""A real server process over the examples, and the `kb` command over a fresh data folder."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import throw_away_elasticsearch
from tests.e2e.grounded import grounded_server, made_up_facts
from tests.e2e.kb_process import (
    KB,
    START_TIMEOUT_S,
    RunKB,
    Server,
    data_folder,
    environment,
    start_server,
    stop_server,
)
from tests.e2e.victims import Elasticsearch, PostgreSQL
from tests.models.sentences import Fact
from tests.relay import Relay
from tests.vllm_process import VLLM, copying_model


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedding model, built once for all tests of a session."""
    from retrieval.embedders.e5_model import ensure_model

    folder = tmp_path_factory.mktemp("models")
    ensure_model(folder / "multilingual-e5-small")
    return folder


@pytest.fixture
def data_dir(tmp_path: Path, models: Path) -> Path:
    return data_folder(tmp_path / "data", models)


@pytest.fixture
def run_kb(data_dir: Path, tmp_path: Path) -> RunKB:
    """Runs `kb ...` over the test's own data folder, in an empty working folder."""
    working_folder = tmp_path / "working"
    working_folder.mkdir()

    def run(*arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [KB, *map(str, arguments)],
            env=environment(data_dir, **settings),
            cwd=working_folder,
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Server]:
    """`kb up` over the shipped examples. Tests must leave its documents as they found them."""
    folder = tmp_path_factory.mktemp("server")
    running = start_server(["up"], data_folder(folder / "data", models), folder)
    yield running
    stop_server(running)


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    """One for a module's tests, which may kill it."""
    folder = Path(tempfile.mkdtemp(prefix="kb-postgresql-"))
    folder.chmod(0o711)
    server = PostgreSQL(folder / "cluster")
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)  # A server may still be tidying up.


@pytest.fixture(scope="module")
def elasticsearch() -> Iterator[Elasticsearch]:
    """One for a module's tests, which may kill it."""
    with throw_away_elasticsearch() as (url, folder):
        yield Elasticsearch(folder, url)


@pytest.fixture(scope="session")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VLLM]:
    """One for all tests, which may kill it: `alive` is it, running.

    TEST_VLLM_FOLDER names the folder of one that runs already, and is left running.
    """
    given = os.environ.get("TEST_VLLM_FOLDER")
    server = VLLM(Path(given or tmp_path_factory.mktemp("vllm")), copying_model())
    try:
        server.start()
        yield server
    finally:
        if not given:
            server.stop()


@pytest.fixture
def alive(vllm: VLLM) -> VLLM:
    """Running, whatever the test before did to it, at the same address."""
    address = vllm.url
    vllm.start()
    assert vllm.url == address
    return vllm


@pytest.fixture(scope="session")
def facts() -> list[Fact]:
    return made_up_facts()


@pytest.fixture(scope="session")
def relay(vllm: VLLM) -> Iterator[Relay]:
    """The wire to vLLM, on which a test can stop an answer."""
    wire = Relay(vllm.url)
    yield wire
    wire.close()


@pytest.fixture(scope="session")
def grounded(
    relay: Relay, facts: list[Fact], models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """`kb up` over the facts, with vLLM as its generator."""
    with grounded_server(relay.url, facts, models, tmp_path_factory.mktemp("grounded")) as running:
        yield running
