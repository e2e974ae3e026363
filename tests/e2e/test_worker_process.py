"""`kb worker` and `kb sync` as processes: stopped, killed, and taken up again."""

import asyncio
import json
import random
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from kb.db.catalog import SQLCatalog
from tests.e2e.kb_process import KB, START_TIMEOUT_S, RunKB, environment, printed_json
from tests.e2e.states import indexed
from tests.e2e.test_crash import DOCUMENTS, finish, kill_after, write_documents

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

LEASE_S = "2"


StartWorker = Callable[[], subprocess.Popen[str]]


@pytest.fixture
def start_worker(data_dir: Path) -> Iterator[StartWorker]:
    """Workers that synchronise every minute and do nothing else; killed at the end of the test."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        started.append(_start_worker(data_dir))
        return started[-1]

    yield start
    for worker in started:
        if worker.poll() is None:
            worker.kill()
            worker.communicate()


def _start_worker(data_dir: Path) -> subprocess.Popen[str]:
    others = {f"KB_WORKER__{name}": "" for name in ("RETRY", "PRUNE", "HEALTH")}
    return subprocess.Popen(
        [KB, "worker", "--json"],
        env=environment(
            data_dir, KB_WORKER__SYNC="* * * * *", KB_WORKER__LEASE_S=LEASE_S, **others
        ),
        cwd=data_dir.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(worker: subprocess.Popen[str], event: str) -> None:
    assert worker.stdout
    printed = ""
    for line in worker.stdout:
        printed += line
        if re.search(event, line):
            return
    raise AssertionError(f"the worker ended with {worker.wait()} and printed: {printed}")


def stop(worker: subprocess.Popen[str]) -> int:
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=60)
    return worker.returncode


def wait_until_some_are_indexed(data_dir: Path) -> None:
    async def wait() -> None:
        catalog = await SQLCatalog.open(f"sqlite:///{data_dir}/catalog.db")
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while True:
                    runs = await catalog.runs(limit=1)
                    if any(0 < run.counts.get("indexed", 0) < DOCUMENTS for run in runs):
                        return
                    await asyncio.sleep(0.05)
        finally:
            await catalog.close()

    asyncio.run(wait())


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_worker_goes_on_with_what_another_left(
    run_kb: RunKB,
    start_worker: StartWorker,
    data_dir: Path,
    tmp_path: Path,
    how: signal.Signals,
) -> None:
    documents = tmp_path / "documents"
    write_documents(documents)
    printed_json(run_kb("sources", "add", documents, "--json"))
    first = start_worker()
    wait_for(first, '"job_started"')
    wait_until_some_are_indexed(data_dir)
    first.send_signal(how)
    first.communicate(timeout=60)
    assert first.returncode == (0 if how is signal.SIGTERM else -signal.SIGKILL)
    (run,) = printed_json(run_kb("runs", "list", "--json"))
    left = "interrupted" if how is signal.SIGTERM else "running"
    assert (run["status"], run["counts"]["indexed"] < DOCUMENTS) == (left, True)

    second = start_worker()
    wait_for(second, '"job_finished"')
    assert stop(second) == 0
    runs = printed_json(run_kb("runs", "list", "--json"))
    assert {run["status"] for run in runs} <= {"done", "interrupted"}
    assert runs[0]["counts"]["new"] < DOCUMENTS, "it began afresh instead of going on"
    if (
        how is signal.SIGTERM
    ):  # What is killed has not counted what it did since its last heartbeat.
        assert sum(run["counts"]["new"] for run in runs) >= DOCUMENTS
    assert len(indexed(data_dir)) == DOCUMENTS
    assert run_kb("doctor").returncode == 0


def test_killed_syncs_that_delete_and_move_end_like_an_undisturbed_one(
    run_kb: RunKB, data_dir: Path, tmp_path: Path
) -> None:
    documents = tmp_path / "documents"
    write_documents(documents)
    source = printed_json(run_kb("sources", "add", documents, "--json"))["id"]
    assert run_kb("sync").returncode == 0
    (documents / "moved").mkdir()
    for number in range(0, DOCUMENTS, 3):
        path = documents / f"{number:03}.md"
        if number % 2:
            path.unlink()
        else:
            path.rename(documents / "moved" / path.name)
    for number in range(1, DOCUMENTS, 3):
        (documents / f"{number:03}.md").write_text(f"# Other\n\nText number {number}.", "utf-8")

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [KB, "sync", "--source", source, "--confirm-deletes", "--json"],
            env=environment(data_dir),
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    moments = random.Random(20261125)
    for _ in range(4):
        kill_after(start(), moments.uniform(3, 12))
    finish(start())
    disturbed = indexed(data_dir)
    assert len(disturbed) == DOCUMENTS - DOCUMENTS // 6
    (outcome,) = json.loads(run_kb("sync", "--mode", "full", "--json").stdout)
    assert outcome["counts"]["embedded_chunks"] == 0
    assert outcome["counts"]["deleted"] == 0
    assert indexed(data_dir) == disturbed
    assert run_kb("doctor").returncode == 0


def test_exit_statuses_fit_for_cron(run_kb: RunKB, tmp_path: Path) -> None:
    """An unreadable document is no failure; a source that can't be read is, and so is a guard's refusal."""
    documents = tmp_path / "documents"
    documents.mkdir()
    for number in range(10):
        (documents / f"{number}.md").write_text(f"Text number {number}.")
    (documents / "broken.pdf").write_bytes(b"%PDF-1.7 and nothing else")
    source = printed_json(run_kb("sources", "add", documents, "--json"))["id"]
    (outcome,) = printed_json(run_kb("sync", "--json"))
    assert (outcome["counts"]["new"], outcome["counts"]["failed"]) == (10, 1)
    for number in range(8):
        (documents / f"{number}.md").unlink()
    refused = run_kb("sync", "--json")
    assert refused.returncode == 1
    (outcome,) = json.loads(refused.stdout)
    assert outcome["error"]["code"] == "deletion_refused"
    assert f"kb sync --source {source} --confirm-deletes" in outcome["error"]["message"]
    (outcome,) = printed_json(run_kb("sync", "--confirm-deletes", "--json"))
    assert outcome["counts"]["deleted"] == 8
    assert datetime.fromisoformat(
        printed_json(run_kb("sources", "show", source, "--json"))["last_run"]["finished_at"]
    )
    printed_json(run_kb("sources", "pause", source, "--json"))
    assert printed_json(run_kb("sync", "--json")) == []
    assert run_kb("sync", "--source", source).returncode == 2
    removed = printed_json(run_kb("sources", "remove", source, "--yes", "--json"))
    assert removed["deleted_documents"] == 3
