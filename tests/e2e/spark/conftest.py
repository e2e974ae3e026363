"""Installations over the same documents, what these come to in process, and a cluster of one machine."""

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kb.settings import IndexSettings, Settings
from tests.conftest import own_indexes
from tests.e2e.kb_process import START_TIMEOUT_S, data_folder
from tests.e2e.spark.installation import DOCUMENTS, Content, Installation

CLUSTER = "local-cluster[2,1,1024]"


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


def installed(data_dir: Path, index: IndexSettings, folder: Path) -> Installation:
    """An installation whose only source is the folder."""
    made = Installation(Settings(data_dir=data_dir, index=index))
    added = made.start("sources", "add", folder, "--json")
    output, errors = added.communicate(timeout=START_TIMEOUT_S)
    assert added.returncode == 0, errors + output
    return made


@pytest.fixture(scope="module")
def install(
    tmp_path_factory: pytest.TempPathFactory, models: Path, elasticsearch_server: str, folder: Path
) -> Iterator[Install]:
    """Makes an installation over the documents, or over those of another folder."""

    def make(folder: Path = folder) -> Installation:
        data_dir = data_folder(tmp_path_factory.mktemp("kb") / "data", models)
        index = cleaned.enter_context(own_indexes(elasticsearch_server))
        return installed(data_dir, index, folder)

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
