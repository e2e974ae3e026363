"""Backups of real knowledge bases, made while they are written to, and restored into any other kind."""

import asyncio
import json
import sqlite3
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from ingestion.progress import SyncProgress
from kb.errors import ConfigError
from kb.settings import BackupSettings, CatalogSettings, IndexSettings, Settings
from kb.types import Access, DocumentStatus
from retrieval.embedders.hashing import HashingEmbedder
from retrieval.generations import CopyProgress
from serving import jobs
from serving.backup.kept import BackupDamaged, backups, hash_of
from serving.backup.making import create, prune
from serving.backup.restoring import check, restore
from serving.bootstrap import Services, open_services
from serving.health import examine
from serving.keys import authenticate, create_key
from serving.searching import bound_search
from serving.sync import ingest_path

pytestmark = pytest.mark.slow

BACKUPS_MEANWHILE = 3
ASKED = ["item 1", "item 7", "item 11", "text"]


@asynccontextmanager
async def opened(folder: Path, **sections: Any) -> AsyncIterator[Services]:
    async def hashing(settings: Settings) -> HashingEmbedder:
        return HashingEmbedder(settings.data_dir / "models")

    async with open_services(Settings(data_dir=folder, **sections), hashing) as services:
        yield services


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async with opened(tmp_path / "data") as services:
        write(tmp_path / "docs", range(12))
        await ingest_path(tmp_path / "docs", "default", services, SyncProgress())
        yield services


def write(folder: Path, numbers: range) -> None:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        (folder / f"{number}.md").write_text(f"# Item {number}\n\nText of item {number}.")


async def make(services: Services, folder: Path) -> Path:
    return folder / (await create(folder, services, CopyProgress())).name


async def answers(services: Services) -> list[list[tuple[str, float]]]:
    search = bound_search(await services.live("default"), services, Access())
    return [[(hit.chunk.id, round(hit.score, 5)) for hit in await search(each)] for each in ASKED]


async def problems(services: Services) -> list[str]:
    return [found.problem async for found in examine(services) if found.problem]


async def restored(place: Path, target: Services) -> None:
    await restore(place, target, CopyProgress())
    assert await problems(target) == []


async def test_an_empty_machine_gives_the_same_answers(services: Services, tmp_path: Path) -> None:
    _, key = await create_key(services.catalog.keys, "someone")
    uploads = services.upload_folder("default")
    uploads.mkdir(parents=True)
    (uploads / "kept.md").write_text("Uploaded.")
    place = await make(services, tmp_path / "backups")

    async with opened(tmp_path / "other") as target:
        await restored(place, target)
        assert await answers(target) == await answers(services)
        assert (target.upload_folder("default") / "kept.md").read_text() == "Uploaded."
        assert (await authenticate(target.catalog.keys, key)).name == "someone"
        progress = SyncProgress()
        await ingest_path(tmp_path / "docs", "default", target, progress)
        assert (progress.unchanged, progress.embedded) == (12, 0)


@pytest.mark.elasticsearch
@pytest.mark.postgresql
async def test_it_moves_between_kinds_of_index_and_database(
    services: Services,
    tmp_path: Path,
    elasticsearch_settings: IndexSettings,
    postgresql_url: str,
) -> None:
    expected = await answers(services)
    place = await make(services, tmp_path / "backups")
    large: dict[str, Any] = {
        "index": elasticsearch_settings,
        "catalog": CatalogSettings(url=postgresql_url),
    }
    async with opened(tmp_path / "large", **large) as target:
        await restored(place, target)
        assert await answers(target) == expected
        back = await make(target, tmp_path / "backups of the other")
    async with opened(tmp_path / "small") as target:
        await restored(back, target)
        assert await answers(target) == expected


async def test_it_is_one_moment_though_documents_change_meanwhile(
    services: Services, tmp_path: Path
) -> None:
    """Whatever the writer was at, index and catalogue of the backup agree."""

    places: list[Path] = []

    async def writing() -> None:
        for turn in count(1):
            if len(places) == BACKUPS_MEANWHILE:
                return
            for number in range(12):
                text = f"# Item {number}\n\nText of item {number}, turn {turn}."
                (tmp_path / "docs" / f"{number}.md").write_text(text)
            (tmp_path / "docs" / f"{20 + turn}.md").write_text(f"# New {turn}")
            await ingest_path(tmp_path / "docs", "default", services, SyncProgress())

    writer = asyncio.create_task(writing())
    while len(places) < BACKUPS_MEANWHILE:
        places.append(await make(services, tmp_path / f"backups {len(places)}"))
        await asyncio.sleep(0.05)
    await writer
    for number, place in enumerate(places):
        await check(place, services)
        async with opened(tmp_path / f"other {number}") as target:
            await restored(place, target)
    assert await problems(services) == []


@pytest.fixture
async def repository(elasticsearch_server: str) -> AsyncIterator[str]:
    """The name of a snapshot repository of the server's, for which deploy/elasticsearch/start has a folder."""
    name = f"kb-test-{uuid.uuid4().hex}"
    async with httpx.AsyncClient(base_url=elasticsearch_server, timeout=60) as client:
        body = {"type": "fs", "settings": {"location": name}}
        (await client.put(f"/_snapshot/{name}", json=body)).raise_for_status()
        yield name
        (await client.delete(f"/_snapshot/{name}/*")).raise_for_status()
        (await client.delete(f"/_snapshot/{name}")).raise_for_status()


@pytest.fixture
async def large(
    tmp_path: Path, elasticsearch_settings: IndexSettings, repository: str
) -> AsyncIterator[Services]:
    """On Elasticsearch, whose repository keeps the index of backups."""
    kept = BackupSettings(folder=tmp_path / "backups", repository=repository, keep=1)
    async with opened(tmp_path / "large", index=elasticsearch_settings, backup=kept) as large:
        write(tmp_path / "docs", range(12))
        await ingest_path(tmp_path / "docs", "default", large, SyncProgress())
        yield large


async def snapshots_in(repository: str, server: str) -> list[str]:
    async with httpx.AsyncClient(base_url=server, timeout=60) as client:
        found = (await client.get(f"/_snapshot/{repository}/*")).json()
    return [each["snapshot"] for each in found["snapshots"]]


@pytest.mark.elasticsearch
async def test_a_snapshot_is_restored_into_an_emptied_cluster(
    large: Services, tmp_path: Path, repository: str, elasticsearch_server: str
) -> None:
    expected = await answers(large)
    place = await make(large, tmp_path / "backups")
    assert await snapshots_in(repository, elasticsearch_server) == [place.name]
    assert not any((place / "index").glob("*.lance"))
    await check(place, large)
    assert await large.store.names() == ["kb-default.1"]

    await large.store.drop("kb-default.1")
    sections: dict[str, Any] = {"index": large.settings.index, "backup": large.settings.backup}
    async with opened(tmp_path / "other", **sections) as target:
        await restored(place, target)
        assert await answers(target) == expected
        assert await target.store.aliased("kb-default") == "kb-default.1"
        progress = SyncProgress()
        await ingest_path(tmp_path / "docs", "default", target, progress)
        assert (progress.unchanged, progress.embedded) == (12, 0)


@pytest.mark.elasticsearch
async def test_a_snapshot_is_of_the_catalogues_moment(large: Services, tmp_path: Path) -> None:
    """Documents are written while it is taken; what the index lost or has too much is known."""
    documents = await large.catalog.documents(collection="default")
    index = await large.index("default")
    await index.delete([documents[0].id])
    await large.catalog.delete_documents([documents[1].id])

    async def writing() -> None:
        for number in range(12, 40):
            write(tmp_path / "docs", range(number, number + 1))
            await ingest_path(tmp_path / "docs", "default", large, SyncProgress())

    writer = asyncio.create_task(writing())
    place = await make(large, tmp_path / "backups")
    writer.cancel()
    await asyncio.wait([writer])
    await check(place, large)
    await large.store.drop("kb-default.1")
    sections: dict[str, Any] = {"index": large.settings.index, "backup": large.settings.backup}
    async with opened(tmp_path / "other", **sections) as target:
        await restored(place, target)


@pytest.mark.elasticsearch
async def test_snapshots_go_with_their_backups(
    large: Services, tmp_path: Path, repository: str, elasticsearch_server: str
) -> None:
    """Of an old backup, of one that failed, and of one that was killed."""
    folder = tmp_path / "backups"
    old = await make(large, folder)
    (folder / ".partial-kb-20200101-000000-killed").mkdir()
    snapshots = await large.snapshots()
    assert snapshots is not None
    for left in ("kb-20200101-000000", "kb-20200101-000000-ahead", "of-another"):
        await snapshots.take(left, ["kb-default.1"])
    uploads = large.settings.data_dir / "uploads"
    uploads.mkdir()
    uploads.joinpath("link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match="uploads/link"):
        await make(large, folder)
    uploads.joinpath("link").unlink()
    await asyncio.sleep(1)  # Names are by the second.
    await jobs.back_up(large)
    (new,) = backups(folder)
    assert new.name != old.name
    assert sorted(await snapshots_in(repository, elasticsearch_server)) == [new.name, "of-another"]
    assert [path.name for path in folder.iterdir()] == [new.name]


@pytest.mark.elasticsearch
async def test_a_backup_stays_while_its_snapshot_can_not_be_deleted(
    large: Services, tmp_path: Path
) -> None:
    folder = tmp_path / "backups"
    place = await make(large, folder)
    large.settings = large.settings.model_copy(
        update={"backup": BackupSettings(folder=folder, repository="of-nobody")}
    )
    assert await prune(folder, 0, large) == []
    assert [each.name for each in backups(folder)] == [place.name]


@pytest.mark.elasticsearch
async def test_a_backup_whose_snapshot_is_gone_is_damaged(large: Services, tmp_path: Path) -> None:
    place = await make(large, tmp_path / "backups")
    snapshots = await large.snapshots()
    assert snapshots is not None
    await snapshots.delete(place.name)
    with pytest.raises(BackupDamaged, match=f"no such snapshot: .*{place.name}"):
        await check(place, large)


@pytest.mark.elasticsearch
async def test_a_repository_that_is_not_there_is_said(large: Services, tmp_path: Path) -> None:
    place = await make(large, tmp_path / "backups")
    for repository, told in (
        ("of-nobody", "no such snapshot repository: .of-nobody."),
        ("", "Set KB_B"),
    ):
        kept = BackupSettings(repository=repository)
        async with opened(tmp_path / "other", index=large.settings.index, backup=kept) as target:
            with pytest.raises(ConfigError, match=told):
                await check(place, target)
            with pytest.raises(ConfigError, match=told):
                await restore(place, target, CopyProgress())
    large.settings = large.settings.model_copy(
        update={"backup": BackupSettings(repository="of-nobody")}
    )
    with pytest.raises(ConfigError, match="no such snapshot repository"):
        await make(large, tmp_path / "others")
    assert list((tmp_path / "others").iterdir()) == []


async def test_the_embedded_index_has_no_repository(services: Services, tmp_path: Path) -> None:
    services.settings = services.settings.model_copy(
        update={"backup": BackupSettings(repository="kept")}
    )
    with pytest.raises(ConfigError, match="Take KB_BACKUP__REPOSITORY away"):
        await make(services, tmp_path / "backups")


async def test_what_the_index_had_lost_is_read_again_after_restoring(
    services: Services, tmp_path: Path
) -> None:
    documents = await services.catalog.documents(collection="default")
    await (await services.index("default")).delete([documents[0].id])
    place = await make(services, tmp_path / "backups")
    async with opened(tmp_path / "other") as target:
        await restored(place, target)
        pending = await target.catalog.documents(status=DocumentStatus.PENDING)
        assert [document.id for document in pending] == [documents[0].id]
        await ingest_path(tmp_path / "docs", "default", target, SyncProgress())
        assert (await (await target.index("default")).count()).documents == 12


async def test_only_an_empty_place_is_restored_into(services: Services, tmp_path: Path) -> None:
    place = await make(services, tmp_path / "backups")
    before = await answers(services)
    with pytest.raises(ConfigError, match="only be restored into an empty"):
        await restore(place, services, CopyProgress())
    assert await answers(services) == before


async def test_a_restore_that_was_stopped_is_begun_anew(services: Services, tmp_path: Path) -> None:
    place = await make(services, tmp_path / "backups")
    async with opened(tmp_path / "other") as target:
        stopped = asyncio.create_task(restore(place, target, CopyProgress()))
        while not await target.store.names():  # noqa: ASYNC110 - a new index sets no event
            await asyncio.sleep(0.001)
        stopped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopped
        assert await target.catalog.collections() == []
        await restored(place, target)
        assert await answers(target) == await answers(services)


@pytest.mark.parametrize("damage", ["changed", "missing"])
async def test_a_damaged_backup_is_found(services: Services, tmp_path: Path, damage: str) -> None:
    place = await make(services, tmp_path / "backups")
    file = next(path for path in (place / "index").rglob("*.lance") if path.is_file())
    if damage == "changed":
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    else:
        file.unlink()
    with pytest.raises(BackupDamaged, match="not as it was written"):
        await check(place, services)
    async with opened(tmp_path / "other") as target:
        with pytest.raises(BackupDamaged):
            await restore(place, target, CopyProgress())
        assert await target.catalog.collections() == []


async def test_an_index_that_differs_from_its_catalogue_is_found(
    services: Services, tmp_path: Path
) -> None:
    """Files that are whole may still not fit together."""
    place = await make(services, tmp_path / "backups")
    with sqlite3.connect(place / "catalog.db") as connection:
        connection.execute("UPDATE documents SET content_hash = 'x' WHERE uri LIKE '%/3.md'")
    connection.close()
    manifest = json.loads((place / "manifest.json").read_text())
    manifest["files"]["catalog.db"] = hash_of(place / "catalog.db")
    (place / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BackupDamaged, match="differs from its catalogue in 1 document"):
        await check(place, services)


async def test_what_its_catalogue_does_not_know_is_found(
    services: Services, tmp_path: Path
) -> None:
    """Content that was put into the index of a backup later."""
    place = await make(services, tmp_path / "backups")
    with sqlite3.connect(place / "catalog.db") as connection:
        connection.execute("DELETE FROM documents WHERE uri LIKE '%/3.md'")
    connection.close()
    manifest = json.loads((place / "manifest.json").read_text())
    manifest["files"]["catalog.db"] = hash_of(place / "catalog.db")
    (place / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BackupDamaged, match="differs from its catalogue in 1 document"):
        await check(place, services)


async def test_no_secret_is_in_it(tmp_path: Path) -> None:
    secret = "correct-horse"
    sections: dict[str, Any] = {
        "limits": {"redis_url": f"redis://:{secret}@h:1/0"},
        "generation": {"api_key": secret, "fallback": {"api_key": secret}},
    }
    async with opened(tmp_path / "data", **sections) as services:
        await services.ensure_collection("default")
        place = await make(services, tmp_path / "backups")
    settings = json.loads((place / "settings.json").read_text())
    assert settings["search"]["candidates"] == services.settings.search.candidates
    for path in place.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path


async def test_the_worker_keeps_the_newest(services: Services, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    settings = services.settings.model_copy(
        update={"backup": BackupSettings(folder=folder, keep=2)}
    )
    services.settings = settings
    for age in range(1, 4):
        made = await make(services, folder)
        old = f"kb-2020010{age}-000000"
        manifest = json.loads((made / "manifest.json").read_text()) | {"name": old}
        (made / "manifest.json").write_text(json.dumps(manifest))
        made.rename(folder / old)
    (folder / ".partial-killed").mkdir()
    await jobs.back_up(services)
    names = [each.name for each in backups(folder)]
    assert len(names) == 2
    assert names[1] == "kb-20200103-000000"
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
