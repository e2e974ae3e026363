"""The embedded index in memory: finds what the files hold, and never what they no longer hold."""

import asyncio
import itertools
import os
from pathlib import Path

import numpy as np
import pytest

from kb.errors import IndexUnavailable
from kb.types import Access, Candidate, IndexQuery
from retrieval.lance_index import LanceIndex, Shared
from retrieval.lance_residence import IDLE_S, Neighbours, Residence
from retrieval.lance_store import LanceStore
from retrieval.mapping import arrow_rows, arrow_schema
from retrieval.resident_rows import ResidentRows
from tests.conformance.indexed_documents import DIMENSIONS, SCHEMA, document, random_vectors, unit

NAME = "kb-test-1"
WORDS = ("retention", "period", "合同", "notice", "leave")
QUERY = IndexQuery(unit(1), ("x",), 5)
EMPTY = ResidentRows(arrow_schema(SCHEMA).empty_table(), DIMENSIONS)


async def filled(folder: Path, documents: int = 60) -> LanceIndex:
    index = await LanceStore(folder).create(NAME, SCHEMA)
    rng = np.random.default_rng(1)
    groups = ((), ("staff",), ("board",), ("staff", "board"))
    await index.replace(
        [
            document(
                f"d{number}",
                [" ".join(rng.choice(WORDS, 4)) + f" {number} {part}" for part in range(3)],
                random_vectors(3, seed=number),
                groups[number % len(groups)],
            )
            for number in range(documents)
        ]
    )
    await index.optimise()
    return index


def told(candidates: list[Candidate]) -> dict[str, tuple[object, ...]]:
    return {
        each.chunk.id: (
            each.chunk,
            each.uri,
            each.terms,
            pytest.approx(each.bm25),
            None if each.similarity is None else pytest.approx(each.similarity, abs=1e-6),
        )
        for each in candidates
    }


ACCESSES = [None, frozenset(), frozenset({"staff"}), frozenset({"board", "elsewhere"})]
DOCUMENTS = [None, (), ("d1", "d2", "d3", "unknown")]


@pytest.mark.parametrize(("groups", "documents"), list(itertools.product(ACCESSES, DOCUMENTS)))
async def test_it_finds_what_lance_finds(
    tmp_path: Path, groups: frozenset[str] | None, documents: tuple[str, ...] | None
) -> None:
    index = await filled(tmp_path)
    files = LanceIndex(index._table, SCHEMA, tmp_path / ".write.lock", resident_rows=0)
    queries = [
        IndexQuery(vector, terms, limit, Access(groups), documents)
        for vector, terms in ((unit(1, 2), WORDS[:2]), (None, WORDS[2:]), (unit(0, 1), ()))
        for limit in (0, 1, 7, 500)
    ]
    read = [told(await files.search(query)) for query in queries]
    await index.hold()
    assert [told(await index.search(query)) for query in queries] == read


async def test_a_write_of_another_process_is_seen_at_once(tmp_path: Path) -> None:
    index = await filled(tmp_path, documents=1)
    await index.hold()
    other = await LanceStore(tmp_path).open(NAME, SCHEMA)
    await other.replace([document("new", ["x"])])
    assert "new" in {each.chunk.document_id for each in await index.search(QUERY)}
    await index.hold()
    await other.delete(["new"])
    assert "new" not in {each.chunk.document_id for each in await index.search(QUERY)}


async def test_a_chunk_that_only_the_words_know_is_read_from_the_files(tmp_path: Path) -> None:
    """It was written after the look at the table's stamp, before the query."""
    index = await filled(tmp_path, documents=1)
    await index.hold()
    stamped = (tmp_path / f"{NAME}.lance" / "_versions").stat()
    await index.replace([document("new", ["x"])])
    os.utime(
        tmp_path / f"{NAME}.lance" / "_versions", ns=(stamped.st_atime_ns, stamped.st_mtime_ns)
    )
    assert "new" in {each.chunk.document_id for each in await index.search(QUERY)}


async def test_a_table_made_anew_under_its_name_is_another(tmp_path: Path) -> None:
    store = LanceStore(tmp_path)
    await (await store.create(NAME, SCHEMA)).replace([document("old", ["x"])])
    opened = await store.open(NAME, SCHEMA)
    await opened.hold()
    assert await store.open(NAME, SCHEMA) is opened
    elsewhere = LanceStore(tmp_path)
    await elsewhere.drop(NAME)
    await (await elsewhere.create(NAME, SCHEMA)).replace([document("new", ["x"])])
    again = await store.open(NAME, SCHEMA)
    assert {each.chunk.document_id for each in await again.search(QUERY)} == {"new"}
    await store.close()


class Reads:
    """Stands for a table's files: counts how often they were read."""

    def __init__(
        self,
        folder: Path,
        rows: ResidentRows | None = EMPTY,
        neighbours: Neighbours | None = None,
    ) -> None:
        self.versions = folder / "_versions"
        self.versions.mkdir(parents=True)
        self.rows = rows
        self.count = 0
        self.trouble: Exception | None = None
        self.residence = Residence(folder, self.read, neighbours)

    async def read(self) -> ResidentRows | None:
        self.count += 1
        if self.trouble:
            raise self.trouble
        return self.rows

    def written(self, seconds_ago: float) -> None:
        changed = self.versions.stat().st_mtime_ns - int(seconds_ago * 1e9)
        os.utime(self.versions, ns=(changed, changed))


async def _begun() -> None:
    """Whatever was begun in the background has come to its end."""
    ours = asyncio.current_task()
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task is not ours))


async def test_a_table_is_read_once_when_nobody_has_written_for_a_while(tmp_path: Path) -> None:
    table = Reads(tmp_path)
    table.written(seconds_ago=60)
    for _ in range(3):
        assert table.residence.rows() is None
    await _begun()
    assert table.residence.rows() is EMPTY
    assert table.count == 1


async def test_one_search_alone_has_nothing_read(tmp_path: Path) -> None:
    table = Reads(tmp_path)
    for seconds_ago in (60, 30):
        table.written(seconds_ago)
        assert table.residence.rows() is None
        await _begun()
    assert table.count == 0


async def test_a_table_that_is_being_written_to_is_left_alone(tmp_path: Path) -> None:
    table = Reads(tmp_path)
    table.written(seconds_ago=-60)
    for _ in range(2):
        assert table.residence.rows() is None
        await _begun()
    assert table.count == 0


async def test_what_was_written_to_meanwhile_is_not_held(tmp_path: Path) -> None:
    table = Reads(tmp_path)
    table.written(seconds_ago=60)
    for _ in range(2):
        assert table.residence.rows() is None
    table.written(seconds_ago=30)
    for _ in range(2):
        await _begun()
        assert table.residence.rows() is None
    await _begun()
    assert table.residence.rows() is EMPTY
    assert table.count == 2


async def test_a_large_table_is_not_asked_for_again_and_again(tmp_path: Path) -> None:
    table = Reads(tmp_path, rows=None)
    table.written(seconds_ago=60)
    for _ in range(4):
        assert table.residence.rows() is None
        await _begun()
    assert table.count == 1


@pytest.mark.parametrize("trouble", [IndexUnavailable("The disk is gone."), MemoryError()])
async def test_a_table_that_cannot_be_read_is_left_to_the_searches(
    tmp_path: Path, trouble: Exception
) -> None:
    table = Reads(tmp_path)
    table.written(seconds_ago=60)
    table.trouble = trouble
    for _ in range(4):
        assert table.residence.rows() is None
        await _begun()
    assert table.count == 1
    table.trouble = None
    table.written(seconds_ago=30)
    for _ in range(2):
        assert table.residence.rows() is None
    await _begun()
    assert table.residence.rows() is EMPTY


async def test_a_table_that_is_gone_is_not_held(tmp_path: Path) -> None:
    table = Reads(tmp_path)
    await table.residence.load()
    assert table.residence.rows() is EMPTY
    table.versions.rmdir()
    assert table.residence.rows() is None


async def test_a_table_that_nobody_searches_makes_room(tmp_path: Path) -> None:
    rows = ResidentRows(arrow_rows([document("d", ["x"])], SCHEMA), DIMENSIONS)
    now = 1000.0
    neighbours = Neighbours(2 * rows.nbytes, clock=lambda: now)
    tables = [Reads(tmp_path / name, rows, neighbours) for name in "abc"]
    first, second, third = (table.residence for table in tables)

    def held() -> list[bool]:
        return [each._rows is rows for each in (first, second, third)]

    for residence in (first, second, third):
        await residence.load()
    assert held() == [True, True, False]
    now += IDLE_S - 1
    assert second.rows() is rows
    now += 2
    await third.load()
    assert held() == [False, True, True]
    third.forget()
    await first.load()
    assert held() == [True, True, False]


async def test_a_write_while_a_search_waits_for_its_turn_is_seen(tmp_path: Path) -> None:
    shared = Shared()
    created = await filled(tmp_path, documents=1)
    index = LanceIndex(created._table, SCHEMA, tmp_path / ".write.lock", shared=shared)
    await index.hold()
    taken = [await shared.turn.acquire() for _ in range(shared.turn._value)]
    searching = asyncio.create_task(index.search(IndexQuery(unit(1), ("nothing",), 500)))
    await asyncio.sleep(0)
    await created.delete(["d0"])
    for _ in taken:
        shared.turn.release()
    assert await searching == []


async def test_tables_with_more_rows_than_wanted_are_not_held(tmp_path: Path) -> None:
    index = await filled(tmp_path, documents=3)
    small = LanceIndex(index._table, SCHEMA, tmp_path / ".write.lock", resident_rows=8)
    await small.hold()
    before = told(await small.search(QUERY))
    assert before == told(await index.search(QUERY))
