"""`kb sync --engine spark` over a real Spark and a real Elasticsearch, as processes that may be killed."""

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from ingestion.spark import write_code
from kb.settings import Settings
from kb.types import Chunk, Document, DocumentStatus, RunStatus, Vector
from serving.bootstrap import DEFAULT_COLLECTION, Services, open_services
from serving.health import examine
from serving.spark import PACKAGES
from tests.conftest import own_indexes
from tests.e2e.kb_process import KB, START_TIMEOUT_S, data_folder, environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.spark,
    pytest.mark.elasticsearch,
    pytest.mark.timeout(900),
]

DOCUMENTS = 200
JOB = Path(__file__).parents[2] / "deploy" / "spark" / "sync.py"
LOCAL = "local[2,3]"
CLUSTER = "local-cluster[2,1,1024]"
EXECUTOR, WORKER = "CoarseGrainedExecutorBackend", "pyspark.daemon"
ORPHAN_GRACE_S = 30

Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Content:
    """All that catalogue and index hold, but for the time at which it came there."""

    documents: Mapping[str, Document]
    chunks: Mapping[str, list[Chunk]]
    vectors: Mapping[str, Vector]


@dataclass(frozen=True)
class Installation:
    """A data folder, and indexes with a prefix of their own."""

    settings: Settings

    def start(self, *arguments: object, **settings: str) -> subprocess.Popen[str]:
        return self.launch(KB, *arguments, **settings)

    def launch(self, *command: object, **settings: str) -> subprocess.Popen[str]:
        index = self.settings.index
        own = {
            "KB_INDEX__URL": index.url.get_secret_value(),
            "KB_INDEX__PREFIX": index.prefix,
        }
        return subprocess.Popen(
            [*map(str, command)],
            env=environment(self.settings.data_dir, **own | settings),
            cwd=self.settings.data_dir,  # Not the checkout: no code may be found by accident.
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def sync(self, **settings: str) -> dict[str, Any]:
        """In process, unless the settings name a master of Spark; gives the counts."""
        engine = "spark" if "KB_SPARK__MASTER" in settings else "in-process"
        return finished(self.start("sync", "--json", "--engine", engine, **settings))

    def content(self) -> Content:
        return self.look(content_of)

    def look(self, action: Callable[[Services], Awaitable[Seen]]) -> Seen:
        async def opened() -> Seen:
            async with open_services(self.settings) as services:
                return await action(services)

        return asyncio.run(opened())


def finished(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The counts of a sync of one source."""
    output, errors = process.communicate(timeout=START_TIMEOUT_S)
    assert process.returncode == 0, errors + output
    (result,) = json.loads(output)
    counts: dict[str, Any] = result["counts"]
    return counts


async def content_of(services: Services) -> Content:
    index = await services.index(DEFAULT_COLLECTION)
    documents = {
        document.id: replace(document, indexed_at=None)
        for document in await services.catalog.documents()
    }
    contents = await index.contents()
    assert all(len(content.revisions) == 1 for content in contents.values())
    chunks = {name: await index.chunks(name) for name in contents}
    hashes = [chunk.text_hash for found in chunks.values() for chunk in found]
    vectors = await index.vectors(hashes)
    assert {name: d.chunk_count for name, d in documents.items() if d.chunk_count} == {
        name: len(found) for name, found in chunks.items()
    }
    return Content(documents, chunks, vectors)


def check_same(found: Content, expected: Content) -> None:
    """All but the vectors to the last letter; those of one text differ by what was embedded with it."""
    assert found.documents == expected.documents
    assert found.chunks == expected.chunks
    assert found.vectors.keys() == expected.vectors.keys()
    cosines = [vector @ expected.vectors[name] for name, vector in found.vectors.items()]
    assert min(cosines) > 0.9999


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents of two languages, and three that can't be read."""
    folder = tmp_path_factory.mktemp("documents")
    for number in range(DOCUMENTS):
        sentences = " ".join(
            f"Item {number} of batch {number % 7} weighs {number * part} grams."
            for part in range(12)
        )
        text = f"# 报告 {number}\n\n{sentences}\n\n第{number}项的说明。\n"
        (folder / f"{number:03}.md").write_text(text, "utf-8")
    (folder / "031-broken.pdf").write_bytes(b"%PDF-1.7\nnothing of a PDF follows")
    (folder / "032-empty.md").write_text(" \n")
    (folder / "033-image.bin").write_bytes(bytes(range(256)) * 10)
    return folder


Install = Callable[..., Installation]


@pytest.fixture(scope="module")
def install(
    tmp_path_factory: pytest.TempPathFactory, models: Path, elasticsearch_server: str, folder: Path
) -> Iterator[Install]:
    """Makes an installation whose only source is the folder, or another one."""

    def make(folder: Path = folder) -> Installation:
        data_dir = data_folder(tmp_path_factory.mktemp("kb") / "data", models)
        index = cleaned.enter_context(own_indexes(elasticsearch_server))
        made = Installation(Settings(data_dir=data_dir, index=index))
        added = made.start("sources", "add", folder, "--json")
        output, errors = added.communicate(timeout=START_TIMEOUT_S)
        assert added.returncode == 0, errors + output
        return made

    with contextlib.ExitStack() as cleaned:
        yield make


@pytest.fixture(scope="module")
def expected(install: Install) -> Content:
    """What the same files are in process."""
    installation = install()
    counts = installation.sync()
    assert (counts["indexed"], counts["failed"]) == (DOCUMENTS, 3)
    return installation.content()


@pytest.fixture(scope="module")
def spark_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """pyspark's own folder under another name: a local cluster leaves copies of all jars in it."""
    import pyspark

    home = tmp_path_factory.mktemp("spark")
    for part in Path(pyspark.__file__).parent.iterdir():
        (home / part.name).symlink_to(part)
    yield home
    shutil.rmtree(home / "work", ignore_errors=True)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with all packages that ours needs, but without ours."""
    environment_folder = tmp_path_factory.mktemp("python")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment_folder], check=True)
    (site_packages,) = environment_folder.glob("lib/python*/site-packages")
    # Folders named by a .pth file are searched, but their own .pth files (our checkout's) are not read.
    (site_packages / "dependencies.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
    python = environment_folder / "bin" / "python"
    for package, known in (("pyspark", True), ("kb.errors", False), ("serving.spark", False)):
        command: list[str | Path] = [python, "-c", f"import {package}"]
        done = subprocess.run(command, cwd=environment_folder, capture_output=True, check=False)
        assert (done.returncode == 0) is known, done.stderr
    return python


@pytest.fixture(scope="module")
def cluster(spark_home: Path, stranger: Path) -> dict[str, str]:
    """Settings for executors in processes of their own, whose Python does not know our code."""
    return {
        "KB_SPARK__MASTER": CLUSTER,
        "SPARK_HOME": str(spark_home),
        "PYSPARK_PYTHON": str(stranger),
        "KB_SPARK__DOCUMENTS_PER_TASK": "10",
    }


async def wait_until_some_are_indexed(services: Services, process: subprocess.Popen[str]) -> None:
    while not await services.catalog.documents(status=DocumentStatus.INDEXED, limit=1):
        assert process.poll() is None, "it ended before it could be disturbed"
        await asyncio.sleep(0.05)


def kill_one(process: subprocess.Popen[str], victim: str) -> None:
    """SIGKILL to one executor, or to one Python worker: a fork of the daemon, not the daemon itself."""
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = child.parent()
            forked = parent is not None and WORKER in " ".join(parent.cmdline())
            if victim in " ".join(child.cmdline()) and (forked or victim != WORKER):
                child.kill()
                return
    raise AssertionError(f"no {victim} runs")


def test_spark_does_what_the_process_does(install: Install, expected: Content) -> None:
    spark = install()
    counts = spark.sync(KB_SPARK__MASTER=LOCAL, KB_SPARK__DOCUMENTS_PER_TASK="40")
    assert (counts["indexed"], counts["failed"]) == (DOCUMENTS, 3)
    assert counts["embedded_chunks"] > 0
    check_same(spark.content(), expected)

    # Spark would not start with such a master: nothing changed, so it is not asked to.
    again = spark.sync(KB_SPARK__MASTER="no such master")
    assert (again["unchanged"], again["embedded_chunks"]) == (DOCUMENTS + 3, 0)
    check_same(spark.content(), expected)


def test_a_cluster_runs_code_that_is_shipped_to_it(
    install: Install, expected: Content, cluster: dict[str, str]
) -> None:
    spark = install()
    counts = spark.sync(**cluster)
    assert (counts["indexed"], counts["failed"]) == (DOCUMENTS, 3)
    check_same(spark.content(), expected)


def test_spark_submit_runs_the_same_job(
    install: Install, expected: Content, stranger: Path, tmp_path: Path
) -> None:
    code = tmp_path / "code.zip"
    write_code(PACKAGES, code)
    submit = [KB.with_name("spark-submit"), "--master", LOCAL, "--py-files", code]
    spark = install()
    pythons = {"PYSPARK_DRIVER_PYTHON": sys.executable, "PYSPARK_PYTHON": str(stranger)}
    counts = finished(spark.launch(*submit, JOB, "--json", **pythons))
    assert (counts["indexed"], counts["failed"]) == (DOCUMENTS, 3)
    check_same(spark.content(), expected)


@pytest.mark.parametrize("victim", [EXECUTOR, WORKER], ids=["executor", "Python worker"])
def test_a_killed_executor_changes_nothing(
    install: Install, expected: Content, cluster: dict[str, str], victim: str
) -> None:
    spark = install()
    process = spark.start("sync", "--json", "--engine", "spark", **cluster)
    spark.look(lambda services: wait_until_some_are_indexed(services, process))
    kill_one(process, victim)
    counts = finished(process)
    assert (counts["indexed"], counts["failed"]) == (DOCUMENTS, 3)
    check_same(spark.content(), expected)


def test_a_killed_driver_is_gone_on_from(
    install: Install, expected: Content, cluster: dict[str, str]
) -> None:
    spark = install()
    process = spark.start("sync", "--json", "--engine", "spark", **cluster)
    spark.look(lambda services: wait_until_some_are_indexed(services, process))
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(children, ORPHAN_GRACE_S)
    assert not alive, f"still running after the driver was killed: {alive}"

    known = len(spark.look(lambda services: services.catalog.documents()))
    counts = spark.sync(KB_SPARK__MASTER=LOCAL)
    assert 0 < counts["unchanged"] == known
    assert counts["unchanged"] + counts["indexed"] + counts["failed"] == DOCUMENTS + 3
    check_same(spark.content(), expected)


def test_a_cancelled_run_ends_and_the_next_goes_on(
    install: Install, expected: Content, cluster: dict[str, str]
) -> None:
    spark = install()
    process = spark.start("sync", "--json", "--engine", "spark", **cluster)

    async def cancelled(services: Services) -> RunStatus:
        await wait_until_some_are_indexed(services, process)
        (run,) = await services.catalog.runs()
        await services.catalog.cancel_run(run.id)
        await asyncio.to_thread(process.communicate, timeout=START_TIMEOUT_S)
        return (await services.catalog.run(run.id)).status

    assert spark.look(cancelled) is RunStatus.CANCELLED
    known = len(spark.look(lambda services: services.catalog.documents()))
    assert 0 < known < DOCUMENTS + 3
    assert spark.sync()["unchanged"] == known, "in process, where Spark ended"
    check_same(spark.content(), expected)


def test_what_changed_is_brought_up_to_date_alike(
    install: Install, folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "documents"
    shutil.copytree(folder, copy)
    alone, spark = install(copy), install(copy)
    for installation in (alone, spark):
        installation.sync()
    (copy / "001.md").write_text("# Changed\n\nThis is new.\n", "utf-8")
    (copy / "002.md").rename(copy / "moved.md")
    (copy / "003.md").unlink()
    (copy / "032-empty.md").write_text("# No longer empty\n\nText.\n", "utf-8")
    names = ("new", "changed", "moved", "deleted", "failed", "embedded_chunks")
    counts = alone.sync()
    assert [counts[name] for name in names] == [0, 2, 1, 1, 0, 2]
    counts = spark.sync(KB_SPARK__MASTER=LOCAL)
    assert [counts[name] for name in names] == [0, 2, 1, 1, 0, 2]
    check_same(spark.content(), alone.content())


def test_of_equal_documents_one_is_indexed(install: Install, tmp_path: Path) -> None:
    """Executors embed all of them, in whatever order; the driver keeps one."""
    texts, copies = 10, 3
    folder = tmp_path / "documents"
    folder.mkdir()
    for number in range(texts * copies):
        text = f"Rule {number % texts} is what everybody keeps.\n"
        (folder / f"{number:02}.md").write_text(text, "utf-8")
    spark = install(folder)

    async def state(services: Services) -> tuple[list[str], int, set[str]]:
        found = [finding.problem async for finding in examine(services) if finding.problem]
        index = await services.index(DEFAULT_COLLECTION)
        contents = await index.contents()
        held = {chunk.text for name in contents for chunk in await index.chunks(name)}
        return found, len(contents), held

    settings = {"KB_SPARK__MASTER": LOCAL, "KB_SPARK__DOCUMENTS_PER_TASK": "4"}
    counts = spark.sync(**settings)
    assert (counts["indexed"], counts["duplicates"]) == (texts * copies, texts * (copies - 1))
    found, documents, held = spark.look(state)
    assert (found, documents, len(held)) == ([], texts, texts)
    assert spark.sync(**settings)["unchanged"] == texts * copies

    async def originals(services: Services) -> list[str]:
        return [d.uri for d in await services.catalog.documents() if d.duplicate_of is None]

    for uri in spark.look(originals):
        Path(uri.removeprefix("file://")).unlink()
    assert spark.sync(KB_INGEST__MAX_DELETE_SHARE="1", **settings)["deleted"] == texts
    assert spark.look(state) == ([], texts, held)
