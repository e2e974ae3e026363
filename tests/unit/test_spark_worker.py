"""What a task of Spark answers, over an index in memory and without Spark."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from ingestion.chunking import Chunker, token_counter
from ingestion.indexing import InProcessEngine, Outcome
from ingestion.parsing import InlineParser
from ingestion.planning import Plan, SyncRequest, Task, walk
from ingestion.progress import SyncProgress
from ingestion.sources import FolderSource, folder_record
from ingestion.spark_worker import ANSWER, TASK, Place, Recipe, Tally, this_worker, work
from kb.errors import IndexUnavailable
from kb.settings import IngestSettings, Settings
from kb.types import DocumentStatus, FailureCategory, Generation, IndexSchema
from retrieval.embedders.hashing import HashingEmbedder
from retrieval.memory_index import MemoryStore

NOT_TRIED_BEFORE = Place(cpus=1, attempt=0)


class MemoryParts:
    """Counts how often it is opened."""

    opened = 0

    def __init__(self, settings: Settings, cpus: int) -> None:
        self.embedder = HashingEmbedder(settings.data_dir)
        self.store = MemoryStore()
        chunker = Chunker(token_counter(self.embedder.tokenizer_file), max_tokens=128)
        self.parser = InlineParser(settings.ingest, chunker)
        MemoryParts.opened += 1

    async def engine_for(self, generation: Generation) -> InProcessEngine:
        index = await self.store.create(generation.index_name, generation.schema)
        return InProcessEngine(index, self.embedder, self.parser, parsers=2, refresh=False)


class GoneParts:
    def __init__(self, settings: Settings, cpus: int) -> None:
        pass

    async def engine_for(self, generation: Generation) -> InProcessEngine:
        raise IndexUnavailable("the index is gone")


@pytest.fixture(autouse=True)
def own_worker() -> Iterator[None]:
    """As a Python worker begins, and ends."""
    this_worker.cache_clear()
    MemoryParts.opened = 0
    yield
    this_worker().runner.close()
    this_worker.cache_clear()


@pytest.fixture
async def tasks(tmp_path: Path) -> list[Task]:
    for number in range(3):
        (tmp_path / f"{number}.md").write_text(f"# Title {number}\n\nText number {number}.")
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7\nnothing")
    plan = Plan(FolderSource(folder_record("default", tmp_path)), SyncRequest(), {})
    return [task async for found, _ in walk(plan, SyncProgress()) for task in found]


def recipe(parts: str, folder: Path) -> Recipe:
    settings = Settings(data_dir=folder / "data", ingest=IngestSettings())
    schema = IndexSchema("hashing/64", 64, 1, 1)
    return Recipe(f"{__name__}:{parts}", settings, Generation("default", 1, "kb.1", schema, True))


def answers(recipe: Recipe, tasks: list[Task]) -> tuple[list[Outcome], Tally]:
    rows = pa.record_batch([[pickle.dumps(task) for task in tasks]], schema=TASK)
    given = list(work(recipe, NOT_TRIED_BEFORE, iter([rows])))
    assert all(batch.schema == ANSWER for batch in given)
    *outcomes, tally = [pickle.loads(row.as_py()) for batch in given for row in batch.column(0)]
    return outcomes, tally


def test_one_small_row_a_document(tmp_path: Path, tasks: list[Task]) -> None:
    outcomes, tally = answers(recipe("MemoryParts", tmp_path), tasks)
    assert {outcome.document.id for outcome in outcomes} == {task.document.id for task in tasks}
    assert all(outcome.chunks == () for outcome in outcomes)
    indexed = [o for o in outcomes if o.document.status is DocumentStatus.INDEXED]
    assert [outcome.document.chunk_count for outcome in indexed] == [1, 1, 1]
    assert (tally.embedded, tally.reused, tally.error) == (3, 0, None)


def test_a_bad_document_is_an_outcome(tmp_path: Path, tasks: list[Task]) -> None:
    outcomes, tally = answers(recipe("MemoryParts", tmp_path), tasks)
    (bad,) = [o.document for o in outcomes if o.document.status is not DocumentStatus.INDEXED]
    assert (bad.status, bad.error_category) == (DocumentStatus.FAILED, FailureCategory.BROKEN)
    assert tally.error is None


def test_parts_are_opened_once_for_all_tasks(tmp_path: Path, tasks: list[Task]) -> None:
    for task in tasks:
        answers(recipe("MemoryParts", tmp_path), [task])
    assert MemoryParts.opened == 1


def test_a_backend_that_is_gone_is_an_answer(tmp_path: Path, tasks: list[Task]) -> None:
    outcomes, tally = answers(recipe("GoneParts", tmp_path), tasks)
    assert outcomes == []
    assert isinstance(tally.error, IndexUnavailable)
    assert tally.error.message == "the index is gone"
