"""Reindexing under readers and writers, and going back, on both real indexes; only the models are fakes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ingestion.chunking import CHUNKER_VERSION
from ingestion.progress import SyncProgress
from kb.errors import NotFoundError
from kb.ports import Embedder
from kb.settings import EmbedderSettings, IndexSettings, Settings
from kb.types import Vectors
from retrieval.embedders.hashing import HashingEmbedder
from retrieval.generations import CopyProgress
from serving import parts
from serving.bootstrap import Services, open_services
from serving.health import Finding, examine
from serving.reindexing import (
    BeingReindexed,
    estimate,
    only_one,
    prune,
    reindex,
    rollback,
)
from serving.searching import bound_search
from serving.sync import ingest_path

pytestmark = pytest.mark.slow

OTHER = EmbedderSettings(kind="sentence-transformers", model="other")
DIMENSIONS = {"": 64, "other": 96}


class SlowEmbedder(HashingEmbedder):
    """Takes a millisecond a passage, so that others get to do something meanwhile."""

    async def passages(self, texts: Sequence[str]) -> Vectors:
        await asyncio.sleep(0.001 * len(texts))
        return await super().passages(texts)


async def fake_model(settings: Settings) -> Embedder:
    return SlowEmbedder(settings.data_dir / "models", DIMENSIONS[settings.embedder.model])


@pytest.fixture(params=["lance", pytest.param("elasticsearch", marks=pytest.mark.elasticsearch)])
async def services(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Services]:
    index = IndexSettings()
    if request.param == "elasticsearch":
        index = request.getfixturevalue("elasticsearch_settings")
    async with open_services(Settings(data_dir=tmp_path / "data", index=index), fake_model) as made:
        yield made


@dataclass
class Folder:
    """Documents on disk, each of which says its name and version."""

    root: Path
    versions: dict[int, int] = field(default_factory=dict)

    def write(self, number: int) -> None:
        self.versions[number] = self.versions.get(number, 0) + 1
        self.path(number).write_text(
            f"# Item{number}\n\nitem{number} is at version{self.versions[number]}."
        )

    def delete(self, number: int) -> None:
        del self.versions[number]
        self.path(number).unlink()

    def path(self, number: int) -> Path:
        return self.root / f"{number}.md"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "docs")
    made.root.mkdir()
    return made


async def ingest(folder: Folder, services: Services) -> SyncProgress:
    progress = SyncProgress()
    await ingest_path(folder.root, "default", services, progress)
    return progress


async def indexed_texts(services: Services) -> set[str]:
    index = await services.index("default")
    return {chunk.text for name in await index.contents() for chunk in await index.chunks(name)}


def expected_texts(folder: Folder) -> set[str]:
    return {f"item{number} is at version{version}." for number, version in folder.versions.items()}


async def problems(services: Services) -> list[str]:
    # A disk nearly full is this machine's, not the product's.
    parts = [f for f in await _findings(services) if f.part != "index store"]
    return [finding.problem for finding in parts if finding.problem]


async def _findings(services: Services) -> list[Finding]:
    return [finding async for finding in examine(services)]


async def test_another_embedder_without_a_failed_search_or_a_lost_write(
    services: Services, folder: Folder
) -> None:
    for number in range(300):
        folder.write(number)
    await ingest(folder, services)
    ended = asyncio.Event()
    searches = 0

    async def read() -> None:
        nonlocal searches
        while not ended.is_set():
            live = await services.live("default")
            hits = await bound_search(live, services)("item7 version1")
            assert hits
            assert hits[0].chunk.text.startswith("item7 ")
            searches += 1
            await asyncio.sleep(0.05)

    async def write() -> None:
        number = 300
        while not ended.is_set():
            folder.write(number)
            folder.write(number - 250)
            folder.delete(number - 200)
            await ingest(folder, services)
            number += 1
        await ingest(folder, services)

    readers = [asyncio.create_task(read()), asyncio.create_task(write())]
    progress = CopyProgress()
    generation = await reindex("default", services, progress, OTHER)
    ended.set()
    await asyncio.gather(*readers)

    assert searches > 5
    live = await services.live("default")
    assert live.generation == generation
    assert live.embedder.dimensions == DIMENSIONS["other"]
    assert progress.embedded >= 300
    assert await indexed_texts(services) == expected_texts(folder)
    assert await problems(services) == []

    back, changed = await rollback("default", services)
    assert back.number == generation.number - 1
    assert (await services.live("default")).embedder.dimensions == DIMENSIONS[""]
    gone = {number for number in range(100, 104) if number not in folder.versions}
    texts = await indexed_texts(services)
    assert not any(text.startswith(f"item{number} ") for number in gone for text in texts)
    again = await ingest(folder, services)
    assert again.indexed == changed
    assert await indexed_texts(services) == expected_texts(folder)
    assert await problems(services) == []


async def test_the_same_embedder_copies_vectors(services: Services, folder: Folder) -> None:
    for number in range(5):
        folder.write(number)
    await ingest(folder, services)
    cost = await estimate("default", services)
    assert (cost.documents, cost.chunks, cost.embedded) == (5, 5, 0)
    other = await estimate("default", services, OTHER)
    assert (other.embedded, other.seconds > 0, other.disk_mb > 0) == (5, True, True)
    progress = CopyProgress()
    await reindex("default", services, progress)
    assert (progress.copied, progress.embedded) == (5, 0)
    assert await indexed_texts(services) == expected_texts(folder)
    assert await problems(services) == []


async def test_what_a_killed_run_has_built_is_kept_and_gone_on_from(
    services: Services, folder: Folder
) -> None:
    for number in range(400):
        folder.write(number)
    await ingest(folder, services)
    before = await services.live("default")
    progress = CopyProgress()
    running = asyncio.create_task(reindex("default", services, progress, OTHER))
    while progress.copied == 0:  # noqa: ASYNC110 - what is counted sets no event
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await services.live("default")).generation == before.generation
    folder.delete(0)
    folder.write(399)
    await ingest(folder, services)
    again = CopyProgress()
    generation = await reindex("default", services, again, OTHER)
    assert generation.number == before.generation.number + 1
    assert again.embedded <= 400 - progress.copied + 128
    assert await indexed_texts(services) == expected_texts(folder)
    assert await problems(services) == []


async def test_only_the_live_generation_and_the_one_before_are_kept(
    services: Services, folder: Folder
) -> None:
    folder.write(1)
    await ingest(folder, services)
    with pytest.raises(NotFoundError, match="no earlier index"):
        await rollback("default", services)
    for _ in range(3):
        live = await reindex("default", services, CopyProgress())
    numbers = [g.number for g in await services.catalog.generations("default")]
    assert numbers == [live.number - 1, live.number]
    assert sorted(await services.store.names()) == [f"kb-default.{number}" for number in numbers]
    assert await services.store.aliased("kb-default") == live.index_name
    assert await prune("default", services) == []


async def test_two_at_a_time_are_refused(services: Services, folder: Folder) -> None:
    folder.write(1)
    await ingest(folder, services)
    await reindex("default", services, CopyProgress())
    async with only_one("default", services):  # As `reindex` does, which drops the earliest last.
        with pytest.raises(BeingReindexed, match="indexed anew"):
            await reindex("default", services, CopyProgress(), OTHER)
        with pytest.raises(BeingReindexed, match="indexed anew"):
            await rollback("default", services)
    live, _ = await rollback("default", services)
    assert live.index_name in await services.store.names()


async def test_documents_the_index_lost_are_read_again(services: Services, folder: Folder) -> None:
    for number in range(3):
        folder.write(number)
    await ingest(folder, services)
    index = await services.index("default")
    lost = next(iter(await index.contents()))
    await index.delete([lost])
    progress = CopyProgress()
    await reindex("default", services, progress)
    assert progress.missing == {lost}
    assert (await ingest(folder, services)).indexed == 1
    assert await indexed_texts(services) == expected_texts(folder)


async def test_an_older_cut_is_searched_and_copied(
    services: Services, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write(1)
    await ingest_path(folder.root, "default", services, SyncProgress())
    before = (await services.live("default")).generation
    monkeypatch.setattr(parts, "CHUNKER_VERSION", CHUNKER_VERSION + 1)
    folder.write(2)
    await ingest_path(folder.root, "default", services, SyncProgress())
    generation = await reindex("default", services, CopyProgress())
    assert generation.number == before.number + 1
    live = await services.live("default")
    assert live.generation.schema == before.schema
    assert len(await live.index.contents()) == 2
