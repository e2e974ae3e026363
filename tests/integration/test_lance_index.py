"""What only the embedded index can show: its files, its vector index, its errors."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kb.errors import IndexUnavailable
from kb.types import Access, IndexQuery
from retrieval import lance_index
from retrieval.lance_index import LanceIndex
from retrieval.lance_store import LanceStore
from tests.conformance.indexed_documents import SCHEMA, document, random_vectors, unit

NAME = "kb-test-1"


def _break_manifests(folder: Path) -> None:
    for manifest in (folder / f"{NAME}.lance" / "_versions").iterdir():
        manifest.write_bytes(b"broken")


def _remove(folder: Path) -> None:
    shutil.rmtree(folder / f"{NAME}.lance")


CALLS: list[Callable[[LanceIndex], Awaitable[object]]] = [
    lambda index: index.replace([document("e", ["y"])]),
    lambda index: index.delete(["d"]),
    lambda index: index.search(IndexQuery(unit(1), ("x",), 5)),
    lambda index: index.vectors(["h"]),
    lambda index: index.chunks("d"),
    lambda index: index.contents(),
    lambda index: index.count(),
    lambda index: index.optimise(),
]


@pytest.mark.parametrize("damage", [_break_manifests, _remove])
async def test_damaged_files_are_one_error_of_ours(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    index = await LanceStore(tmp_path).create(NAME, SCHEMA)
    await index.replace([document("d", ["x"])])
    damage(tmp_path)
    for call in CALLS:
        with pytest.raises(IndexUnavailable, match=NAME) as raised:
            await call(index)
        assert raised.value.__cause__ is not None


async def test_a_creation_that_was_cut_off_is_begun_anew(tmp_path: Path) -> None:
    """It leaves a table without a version: killed between two of its writes."""
    begun = tmp_path / f"{NAME}.lance" / "_transactions"
    begun.mkdir(parents=True)
    (begun / "0-6f0b.txn").write_bytes(b"x")
    index = await LanceStore(tmp_path).create(NAME, SCHEMA)
    assert await index.chunks("none") == []


async def test_damaged_files_cannot_be_opened(tmp_path: Path) -> None:
    await LanceStore(tmp_path).create(NAME, SCHEMA)
    _break_manifests(tmp_path)
    with pytest.raises(IndexUnavailable, match=NAME):
        await LanceStore(tmp_path).open(NAME, SCHEMA)


async def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(IndexUnavailable):
        await LanceStore(tmp_path / "file" / "index").create(NAME, SCHEMA)


@pytest.mark.slow
async def test_the_vector_index_finds_what_the_exact_search_finds(tmp_path: Path) -> None:
    exact = await LanceStore(tmp_path).create(NAME, SCHEMA)
    vectors = random_vectors(3000, seed=3)
    for number in range(30):
        part = slice(number * 100, number * 100 + 100)
        texts = [f"text {row}" for row in range(3000)][part]
        groups = ("few",) if number == 0 else ()
        await exact.replace([document(f"d{number}", texts, vectors[part], groups)])
    questions = random_vectors(30, seed=4)
    few = tuple(f"d{number}" for number in range(2))
    queries = [IndexQuery(question, (), 10) for question in questions]
    queries += [IndexQuery(question, (), 10, Access(), few) for question in questions]
    expected = [{each.chunk.id for each in await exact.search(query)} for query in queries]

    index = await LanceStore(tmp_path, exact_rows=1000).open(NAME, SCHEMA)
    assert not await index._has_vector_index()
    await index.optimise()
    assert await index._has_vector_index()
    recall = []
    for query, wanted in zip(queries, expected, strict=True):
        found = await index.search(query)
        recall.append(len({each.chunk.id for each in found} & wanted) / 10)
        for each in found:  # the refined distance is exact
            row = int(each.chunk.text.split()[1])
            assert each.similarity == pytest.approx(vectors[row] @ query.vector, abs=1e-5)
    assert np.mean(recall) >= 0.98
    assert min(np.mean(recall[:30]), np.mean(recall[30:])) >= 0.97

    await index.replace([document("new", ["fresh"], np.stack([questions[0]]))])
    found = await index.search(IndexQuery(questions[0], (), 1))
    assert [each.chunk.text for each in found] == ["fresh"]


@pytest.mark.parametrize("limit", [50, 1000])
async def test_the_vector_index_brings_as_many_as_a_search_asks_for(
    tmp_path: Path, limit: int
) -> None:
    """50 is the default of candidates a side, 1,000 the most that the settings allow."""
    index = await LanceStore(tmp_path, exact_rows=1500).create(NAME, SCHEMA)
    texts = [f"text {number}" for number in range(1500)]
    await index.replace([document("d", texts, random_vectors(1500))])
    await index.optimise()
    assert len(await index.search(IndexQuery(unit(1), (), limit))) == limit


async def test_many_small_writes_do_not_fill_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lance_index, "KEEP_VERSIONS", timedelta(milliseconds=1))
    index = await LanceStore(tmp_path).create(NAME, SCHEMA)

    def used() -> int:
        return sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())

    written = document("d", ["one", "two"])
    await index.replace([written])
    await index.optimise()
    once = used()
    for _ in range(40):
        await index.replace([written])
    assert used() > 3 * once
    await index.optimise()
    assert used() < 2 * once


def test_importing_the_adapter_loads_no_database() -> None:
    heavy = "sorted({'lancedb', 'pyarrow'} & set(sys.modules))"
    script = f"import sys, retrieval.lance_index, retrieval.lance_store; print({heavy})"
    printed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "[]"
    assert printed.stderr == ""


async def test_searches_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First come, first served: with all of them at once Lance left some for more than a minute."""
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    index = await LanceStore(tmp_path).create(NAME, SCHEMA)
    await index.replace([document("d", ["x"])])
    reads, most = 0, 0
    read = lance_index._rows

    async def counted(*arguments: Any) -> list[dict[str, Any]]:
        nonlocal reads, most
        reads += 1
        most = max(most, reads)
        try:
            return await read(*arguments)
        finally:
            reads -= 1

    monkeypatch.setattr(lance_index, "_rows", counted)
    query = IndexQuery(unit(1), ("x",), 5)
    found = await asyncio.gather(*(index.search(query) for _ in range(100)))
    assert all(len(candidates) == 1 for candidates in found)
    assert most == 2 * 3 * lance_index.SEARCHES_PER_CORE, "both sides of each"
