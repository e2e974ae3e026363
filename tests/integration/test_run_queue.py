"""The queue over real parts: order, lanes, cancelling, stopping, and what a killed server left."""

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ingestion.sources import folder_record
from kb.settings import BackupSettings, Settings
from kb.types import DocumentStatus, Run, RunStatus
from retrieval.embedders.hashing import HashingEmbedder
from serving.backup.kept import backups, folder_of
from serving.bootstrap import Services, open_services
from serving.queued_work import BACKUP, REINDEX, UPLOAD
from serving.run_queue import CUT_OFF, MOST_ATTEMPTS, RunQueue, queued_run
from serving.runs import cancel
from serving.sources import add_source, only_one, pause_source
from serving.uploads import add_upload

PATIENCE_S = 120


async def hashing(settings: Settings) -> HashingEmbedder:
    return HashingEmbedder(settings.data_dir / "models")


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    backups = BackupSettings(folder=tmp_path / "backups")
    settings = Settings(data_dir=tmp_path / "data", backup=backups)
    async with open_services(settings, hashing) as opened:
        yield opened


@pytest.fixture
async def queue(services: Services) -> AsyncIterator[RunQueue]:
    """Not started yet."""
    queue = RunQueue(services)
    yield queue
    await queue.stop()


async def uploaded(
    services: Services, queue: RunQueue, name: str = "tea.md", content: bytes = b"# Tea\n\nOolong."
) -> Run:
    _, run = await add_upload(name, io.BytesIO(content), "default", services, queue)
    return run


async def until(services: Services, run: Run, *statuses: RunStatus) -> Run:
    """The run once it has one of these, or has ended."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            now = await services.catalog.run(run.id)
            if now.status in statuses or now.finished_at:
                return now
            await asyncio.sleep(0.02)


async def test_an_upload_waits_then_is_indexed(services: Services, queue: RunQueue) -> None:
    run = await uploaded(services, queue)
    waiting = await services.catalog.run(run.id)
    assert (waiting.status, waiting.kind, waiting.attempts) == (RunStatus.QUEUED, UPLOAD, 0)
    await queue.start()
    ended = await until(services, run)
    assert (ended.status, ended.error, ended.attempts) == (RunStatus.DONE, None, 1)
    assert ended.counts["indexed"] == 1
    document = await services.catalog.document(ended.request["document_id"])
    assert document.status is DocumentStatus.INDEXED


@pytest.mark.slow
async def test_what_ends_while_the_queue_looks_was_not_cut_off(
    services: Services, queue: RunQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docs").mkdir()
    record = await add_source(folder_record("default", tmp_path / "docs"), services)
    look = services.catalog.claimed_runs
    looks_again = asyncio.Event()
    over = asyncio.Event()

    async def look_slowly() -> list[Run]:
        """As a slow catalogue: it tells of a run that ends before it is heard."""
        found = await look()
        if found:
            looks_again.set()
            await over.wait()
        return found

    monkeypatch.setattr(services.catalog, "claimed_runs", look_slowly)
    with capture_logs() as logs:
        async with only_one(record, services):
            sync = await queue.add(queued_run("incremental", "default", source_id=record.id))
            await queue.start()
            await looks_again.wait()
        assert (await until(services, sync)).status is RunStatus.DONE
        while queue._lanes:  # noqa: ASYNC110 - nothing tells when a lane is free.
            await asyncio.sleep(0.01)
        over.set()
        assert (await until(services, await uploaded(services, queue))).status is RunStatus.DONE
    assert "run_was_cut_off" not in [entry["event"] for entry in logs]


async def test_a_broken_upload_fails_its_run_and_its_document_with_the_same_reason(
    services: Services, queue: RunQueue
) -> None:
    broken = await uploaded(services, queue, "report.pdf", b"%PDF-1.7 and then nothing")
    next_one = await uploaded(services, queue)
    await queue.start()
    ended = await until(services, broken)
    document = await services.catalog.document(broken.request["document_id"])
    assert (ended.status, document.status) == (RunStatus.FAILED, DocumentStatus.FAILED)
    assert ended.error
    assert ended.error == document.error_message
    assert (await until(services, next_one)).status is RunStatus.DONE


async def test_an_upload_deleted_while_it_waited_is_no_failure(
    services: Services, queue: RunQueue
) -> None:
    run = await uploaded(services, queue)
    (services.upload_folder("default") / "tea.md").unlink()
    await services.catalog.delete_documents([run.request["document_id"]])
    await queue.start()
    assert (await until(services, run)).status is RunStatus.DONE


async def test_who_waits_can_be_cancelled_and_is_not_begun(
    services: Services, queue: RunQueue
) -> None:
    first, second = await uploaded(services, queue, "1.md"), await uploaded(services, queue, "2.md")
    cancelled = await cancel(first.id, services.catalog)
    assert (cancelled.status, cancelled.finished_at is None) == (RunStatus.CANCELLED, False)
    await queue.start()
    assert (await until(services, second)).status is RunStatus.DONE
    assert await services.catalog.run(first.id) == cancelled


async def test_lanes_do_not_wait_for_each_other_and_a_running_one_is_cancelled(
    services: Services, queue: RunQueue, tmp_path: Path
) -> None:
    (tmp_path / "docs").mkdir()
    record = await add_source(folder_record("default", tmp_path / "docs"), services)
    async with only_one(record, services):  # As another process that synchronises it.
        sync = await queue.add(queued_run("incremental", "default", source_id=record.id))
        again = await queue.add(queued_run("full", "default", source_id=record.id))
        await queue.start()
        assert (await until(services, sync, RunStatus.RUNNING)).finished_at is None
        assert (await until(services, await uploaded(services, queue))).status is RunStatus.DONE
        assert (await services.catalog.run(again.id)).status is RunStatus.QUEUED
        await cancel(sync.id, services.catalog)
        assert (await until(services, sync)).status is RunStatus.CANCELLED
    assert (await until(services, again)).status is RunStatus.DONE


async def test_what_goes_on_at_a_stop_waits_in_its_place(
    services: Services, queue: RunQueue, tmp_path: Path
) -> None:
    (tmp_path / "docs").mkdir()
    record = await add_source(folder_record("default", tmp_path / "docs"), services)
    async with only_one(record, services):
        run = await queue.add(queued_run("incremental", "default", source_id=record.id))
        await queue.start()
        await until(services, run, RunStatus.RUNNING)
        await queue.stop()
    stopped = await services.catalog.run(run.id)
    assert (stopped.status, stopped.attempts) == (RunStatus.QUEUED, 0)
    assert stopped.queued_at == run.queued_at
    await queue.start()
    assert (await until(services, run)).status is RunStatus.DONE


async def test_what_a_killed_server_left_is_begun_again_but_not_for_ever(
    services: Services, queue: RunQueue
) -> None:
    left = await uploaded(services, queue, "left.md")
    await services.catalog.claim_run([UPLOAD])
    cancelled = await uploaded(services, queue, "cancelled.md")
    await services.catalog.claim_run([UPLOAD])
    await services.catalog.cancel_run(cancelled.id)
    deadly = await uploaded(services, queue, "deadly.md")
    for _ in range(MOST_ATTEMPTS):
        (claimed,) = [await services.catalog.claim_run([UPLOAD])]
        assert claimed
        if claimed.attempts < MOST_ATTEMPTS:
            await services.catalog.requeue_run(replace(claimed, error=CUT_OFF))
    await queue.start()
    again = await until(services, left)
    assert (again.status, again.attempts) == (RunStatus.DONE, 2)
    assert (await until(services, cancelled)).status is RunStatus.CANCELLED
    ended = await until(services, deadly)
    assert ended.status is RunStatus.INTERRUPTED
    assert "killed 3 times" in (ended.error or "")


@pytest.mark.slow
async def test_one_process_of_a_data_folder_works_on_it_until_it_stops(
    services: Services, queue: RunQueue
) -> None:
    other = RunQueue(services)
    await queue.start()
    first = await uploaded(services, queue, "1.md")
    assert (await until(services, first)).status is RunStatus.DONE
    await other.start()  # It waits for the lock that the first one holds.
    try:
        second = await uploaded(services, other, "2.md")
        assert (await until(services, second)).status is RunStatus.DONE
        assert not other.is_working
        await queue.stop()
        third = await uploaded(services, queue, "3.md")
        assert (await until(services, third)).status is RunStatus.DONE
        assert other.is_working
    finally:
        await other.stop()


async def test_indexes_and_backups_are_made_by_the_queue(
    services: Services, queue: RunQueue
) -> None:
    await queue.start()
    await until(services, await uploaded(services, queue))
    built = await until(services, await queue.add(queued_run(REINDEX, "default")))
    assert (built.status, built.counts["copied_chunks"]) == (RunStatus.DONE, 1)
    live = await services.catalog.live_generation("default")
    assert live
    assert live.number == 2
    made = await until(services, await queue.add(queued_run(BACKUP, None)))
    assert (made.status, made.collection) == (RunStatus.DONE, None)
    (kept,) = backups(folder_of(services.settings))
    assert kept.collections == {"default": 1}


async def test_a_run_whose_source_is_paused_says_so(services: Services, queue: RunQueue) -> None:
    run = await uploaded(services, queue)
    assert run.source_id
    await pause_source(run.source_id, True, services)
    await queue.start()
    ended = await until(services, run)
    assert ended.status is RunStatus.FAILED
    assert "paused" in (ended.error or "")


async def test_a_stop_at_the_moment_of_news_is_not_missed(
    services: Services, queue: RunQueue
) -> None:
    """As `asyncio.wait_for` of Python 3.11 misses it, for ever."""
    for turns in range(6):
        await queue.start()
        while not queue.is_working:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # Most likely it waits for news by now.
        await services.ensure_collection("default")
        await queue.add(queued_run("of no lane", "default"))
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE_S / 4):
            await queue.stop()


async def test_what_is_claimed_at_the_moment_of_a_stop_waits_in_its_place(
    services: Services, queue: RunQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, claimed = services.catalog.claim_run, asyncio.Event()

    async def claiming(kinds: Sequence[str]) -> Run | None:
        if run := await claim(kinds):
            claimed.set()
            await asyncio.Event().wait()
        return run

    monkeypatch.setattr(services.catalog, "claim_run", claiming)
    run = await uploaded(services, queue)
    await queue.start()
    await claimed.wait()
    await queue.stop()
    stopped = await services.catalog.run(run.id)
    assert (stopped.status, stopped.attempts) == (RunStatus.QUEUED, 0)
