"""`kb sync --engine spark` over a real Spark and a real Elasticsearch does what is done in process."""

import shutil
import sys
from pathlib import Path

import pytest

from ingestion.spark import write_code
from serving.bootstrap import DEFAULT_COLLECTION, Services
from serving.health import examine
from serving.spark import PACKAGES
from tests.e2e.kb_process import KB
from tests.e2e.spark.conftest import Install
from tests.e2e.spark.installation import DOCUMENTS, LOCAL, Content, check_same, finished

pytestmark = [
    pytest.mark.slow,
    pytest.mark.spark,
    pytest.mark.elasticsearch,
    pytest.mark.timeout(900),
]

JOB = Path(__file__).parents[3] / "deploy" / "spark" / "sync.py"


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
