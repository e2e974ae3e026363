"""The embedded index shared by processes that read, write, and are killed."""

import asyncio
import multiprocessing
import os
import random
import signal
import time
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

import numpy as np
import pytest

from kb.types import Chunk, IndexCount, IndexedDocument, IndexQuery
from retrieval.lance_store import LanceStore
from tests.conformance.indexed_documents import SCHEMA, document, unit

NAME = "kb-test-1"
PROCESSES = multiprocessing.get_context("spawn")  # Lance's threads do not survive a fork

pytestmark = pytest.mark.slow


def version(name: str, number: int) -> IndexedDocument:
    """The document's text as of this version: one chunk that stays, two that do not."""
    return document(name, ["stays", f"first of {number}", f"second of {number}"])


def is_whole(chunks: list[Chunk]) -> bool:
    """All three chunks of one version."""
    texts = [chunk.text for chunk in chunks]
    return len(texts) == 3 and texts[1].split()[-1] == texts[2].split()[-1]


def write_versions(folder: Path, names: list[str], versions: int, started: Event) -> None:
    async def write() -> None:
        index = await LanceStore(folder).create(NAME, SCHEMA)
        for number in range(versions):
            await index.replace([version(name, number) for name in names])
            started.set()

    asyncio.run(write())


def write_new_documents(folder: Path, rounds: int, together: Barrier) -> None:
    """Each round new ids: only those can be inserted twice, and only by writers in step."""

    async def write() -> None:
        index = await LanceStore(folder).create(NAME, SCHEMA)
        for number in range(rounds):
            together.wait(60)
            await index.replace([version(f"d{number}-{each}", number) for each in range(10)])

    asyncio.run(write())


async def test_two_writers_of_the_same_new_documents_leave_no_duplicates(tmp_path: Path) -> None:
    together = PROCESSES.Barrier(2)
    writers = [
        PROCESSES.Process(target=write_new_documents, args=(tmp_path, 15, together))
        for _ in range(2)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        await asyncio.to_thread(writer.join, 120)
        assert writer.exitcode == 0
    index = await LanceStore(tmp_path).open(NAME, SCHEMA)
    assert await index.count() == IndexCount(150, 450)
    assert all([is_whole(await index.chunks(name)) for name in await index.contents()])


async def test_a_reader_sees_whole_documents_while_another_process_writes(tmp_path: Path) -> None:
    index = await LanceStore(tmp_path).create(NAME, SCHEMA)
    await index.replace([version("d", -1)])
    started = PROCESSES.Event()
    writer = PROCESSES.Process(target=write_versions, args=(tmp_path, ["d"], 40, started))
    writer.start()
    assert await asyncio.to_thread(started.wait, 60)
    seen: set[str] = set()
    while writer.is_alive():
        chunks = await index.chunks("d")
        assert is_whole(chunks)
        assert len(await index.search(IndexQuery(unit(1), ("stays",), 9))) >= 3
        seen.add(chunks[1].text)
    await asyncio.to_thread(writer.join)
    assert writer.exitcode == 0
    assert len(seen) > 1
    assert (await index.chunks("d"))[1].text == "first of 39"


async def test_a_killed_writer_leaves_whole_documents_and_no_lock(tmp_path: Path) -> None:
    rng = random.Random(7)
    names = [f"d{number}" for number in range(20)]
    index = await LanceStore(tmp_path).create(NAME, SCHEMA)
    for _ in range(4):
        started = PROCESSES.Event()
        writer = PROCESSES.Process(target=write_versions, args=(tmp_path, names, 10_000, started))
        writer.start()
        assert await asyncio.to_thread(started.wait, 60)
        await asyncio.sleep(rng.random() / 5)
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        await asyncio.to_thread(writer.join)
        assert await index.count() == IndexCount(20, 60)
        assert all([is_whole(await index.chunks(name)) for name in names])
        begun = time.monotonic()
        await index.replace([version("d0", -5)])
        assert time.monotonic() - begun < 10
        assert (await index.chunks("d0"))[1].text == "first of -5"
    await index.optimise()
    found = await index.search(IndexQuery(None, ("stay",), 100))
    assert len(found) == 20


async def test_writers_in_one_process_take_turns_too(tmp_path: Path) -> None:
    first = await LanceStore(tmp_path).create(NAME, SCHEMA)
    second = await LanceStore(tmp_path).create(NAME, SCHEMA)
    names = [f"d{number}" for number in range(10)]
    writes = [
        index.replace([version(name, number) for name in names])
        for number in range(8)
        for index in (first, second)
    ]
    await asyncio.gather(*writes, first.optimise(), second.optimise())
    assert await first.count() == await second.count() == IndexCount(10, 30)


async def test_a_cancelled_write_is_finished_before_the_next(tmp_path: Path) -> None:
    index = await LanceStore(tmp_path).create(NAME, SCHEMA)
    for delay in np.linspace(0, 0.03, 10):
        task = asyncio.ensure_future(index.replace([version("d", 1)]))
        await asyncio.sleep(delay)
        task.cancel()
        await asyncio.wait([task])
        await index.replace([version("d", 2)])
        assert (await index.chunks("d"))[1].text == "first of 2"
        assert await index.count() == IndexCount(1, 3)
