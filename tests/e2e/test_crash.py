"""kill -9 of `kb ingest` at random moments: the next run ends where an undisturbed one would."""

import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.e2e.kb_process import KB, START_TIMEOUT_S, data_folder, environment
from tests.e2e.states import indexed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

KILLS = int(os.environ.get("TEST_KILLS", "5"))
"""20 for a release; fewer where time is short."""
DOCUMENTS = 300
ORPHAN_GRACE_S = 15


def write_documents(folder: Path) -> None:
    """Every tenth document is the same as the one before it, so that texts are shared."""
    folder.mkdir()
    for number in range(DOCUMENTS):
        topic = number - (number % 10 == 9)
        sentences = " ".join(
            f"Item {topic} of batch {topic % 7} weighs {topic * part} grams." for part in range(12)
        )
        (folder / f"{number:03}.md").write_text(
            f"# 报告 {topic}\n\n{sentences}\n\n第{topic}项的说明。\n", "utf-8"
        )


def start_ingest(documents: Path, data_dir: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [KB, "ingest", documents, "--json"],
        env=environment(data_dir),
        cwd=documents.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    _, error = process.communicate(timeout=START_TIMEOUT_S)
    assert process.returncode == 0, error.decode()


def kill_after(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether the process was still running and was killed; its children must end by themselves."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.communicate()
        _, alive = psutil.wait_procs(children, ORPHAN_GRACE_S)
        assert not alive, f"still running after their parent was killed: {alive}"
        return True
    finish(process)
    return False


def test_killed_runs_end_like_an_undisturbed_one(tmp_path: Path, models: Path) -> None:
    documents = tmp_path / "documents"
    write_documents(documents)
    undisturbed = data_folder(tmp_path / "undisturbed", models)
    started = time.monotonic()
    finish(start_ingest(documents, undisturbed))
    duration = time.monotonic() - started
    expected = indexed(undisturbed)
    assert len(expected) == DOCUMENTS

    moments = random.Random(20261123)
    disturbed = data_folder(tmp_path / "disturbed-0", models)
    killed = attempts = 0
    while killed < KILLS:
        attempts += 1
        assert attempts <= 4 * KILLS, "the runs end before they can be killed"
        if kill_after(start_ingest(documents, disturbed), moments.uniform(0, duration)):
            killed += 1
        else:
            assert indexed(disturbed) == expected
            shutil.rmtree(disturbed)
            disturbed = data_folder(tmp_path / f"disturbed-{attempts}", models)
    finish(start_ingest(documents, disturbed))
    assert indexed(disturbed) == expected


def test_a_killed_reindex_changes_nothing_and_goes_on(tmp_path: Path, models: Path) -> None:
    documents = tmp_path / "documents"
    write_documents(documents)
    data_dir = data_folder(tmp_path / "data", models)
    finish(start_ingest(documents, data_dir))
    expected = indexed(data_dir)

    def start_reindex() -> subprocess.Popen[bytes]:
        # At 100 chunks a second it takes three seconds, besides those for starting.
        return subprocess.Popen(
            [KB, "reindex", "--throttle", "100", "--json"],
            env=environment(data_dir),
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    started = time.monotonic()
    finish(start_reindex())
    duration = time.monotonic() - started
    moments = random.Random(20261124)
    for _ in range(KILLS):
        kill_after(start_reindex(), moments.uniform(0.3 * duration, duration))
        assert indexed(data_dir) == expected
    finish(start_reindex())
    assert indexed(data_dir) == expected
    doctor = subprocess.run([KB, "doctor"], env=environment(data_dir), cwd=tmp_path, check=False)
    assert doctor.returncode == 0
