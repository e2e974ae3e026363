"""Backups that somebody else has written into: none makes us read, write or delete elsewhere."""

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from ingestion.progress import SyncProgress
from kb.settings import Settings
from retrieval.embedders.hashing import HashingEmbedder
from retrieval.generations import CopyProgress
from serving.backup.kept import BackupDamaged, hash_of
from serving.backup.making import create, prune
from serving.backup.restoring import check, restore
from serving.bootstrap import open_services
from serving.sync import ingest_path

pytestmark = pytest.mark.slow

SECRET = "Not of this backup."


async def hashing(settings: Settings) -> HashingEmbedder:
    return HashingEmbedder(settings.data_dir / "models")


@pytest.fixture
async def place(tmp_path: Path) -> Path:
    """A backup, beside a folder that is none of its business."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.md").write_text(SECRET)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "one.md").write_text("# One\n\nText.")
    async with open_services(Settings(data_dir=tmp_path / "data"), hashing) as services:
        await ingest_path(tmp_path / "docs", "default", services, SyncProgress())
        uploads = services.upload_folder("default")
        uploads.mkdir(parents=True)
        (uploads / "kept.md").write_text("Uploaded.")
        made = await create(tmp_path / "backups", services, CopyProgress())
    return tmp_path / "backups" / made.name


def written(place: Path, name: str, digest: str) -> None:
    """Adds a file to the manifest."""
    manifest = json.loads((place / "manifest.json").read_text())
    manifest["files"][name] = digest
    (place / "manifest.json").write_text(json.dumps(manifest))


def names_a_file_outside(place: Path, outside: Path) -> None:
    written(place, "../../outside/secret.md", hash_of(outside / "secret.md"))


def names_an_absolute_path(place: Path, outside: Path) -> None:
    secret = outside / "secret.md"
    written(place, str(secret), hash_of(secret))


def links_to_a_file(place: Path, outside: Path) -> None:
    (place / "uploads" / "x.md").symlink_to(outside / "secret.md")
    written(place, "uploads/x.md", hash_of(outside / "secret.md"))


def links_to_a_folder(place: Path, outside: Path) -> None:
    (place / "uploads" / "x").symlink_to(outside, target_is_directory=True)
    written(place, "uploads/x/secret.md", hash_of(outside / "secret.md"))


def is_wholly_links(place: Path, outside: Path) -> None:
    (place / "uploads").rename(outside / "uploads")
    (place / "uploads").symlink_to(outside / "uploads", target_is_directory=True)


def holds_a_file_more(place: Path, _: Path) -> None:
    (place / "uploads" / "planted.md").write_text("Planted.")


def holds_a_pipe(place: Path, _: Path) -> None:
    os.mkfifo(place / "uploads" / "pipe")


def names_others_snapshots(place: Path, _: Path) -> None:
    manifest = json.loads((place / "manifest.json").read_text())
    (place / "manifest.json").write_text(json.dumps(manifest | {"snapshot": "*"}))


def names_no_files(place: Path, _: Path) -> None:
    manifest = json.loads((place / "manifest.json").read_text())
    (place / "manifest.json").write_text(json.dumps(manifest | {"files": ["catalog.db"]}))


def has_a_list_as_manifest(place: Path, _: Path) -> None:
    (place / "manifest.json").write_text("[]")


def has_a_link_as_manifest(place: Path, outside: Path) -> None:
    (place / "manifest.json").rename(outside / "manifest.json")
    (place / "manifest.json").symlink_to(outside / "manifest.json")


def names_an_index_outside(place: Path, _: Path) -> None:
    with sqlite3.connect(place / "catalog.db") as connection:
        connection.execute("UPDATE generations SET index_name = '../../outside/x'")
    connection.close()
    written(place, "catalog.db", hash_of(place / "catalog.db"))


@pytest.mark.parametrize(
    "plant",
    [
        names_a_file_outside,
        names_an_absolute_path,
        links_to_a_file,
        links_to_a_folder,
        is_wholly_links,
        holds_a_file_more,
        holds_a_pipe,
        names_others_snapshots,
        names_no_files,
        has_a_list_as_manifest,
        has_a_link_as_manifest,
        names_an_index_outside,
    ],
)
async def test_it_is_called_damaged_and_not_restored(
    place: Path, tmp_path: Path, plant: Callable[[Path, Path], None]
) -> None:
    async with open_services(Settings(data_dir=tmp_path / "other"), hashing) as target:
        await check(place, target)
        plant(place, tmp_path / "outside")
        with pytest.raises(BackupDamaged):
            await check(place, target)
        with pytest.raises(BackupDamaged):
            await restore(place, target, CopyProgress())
        assert await target.catalog.collections() == []
    assert SECRET not in "".join(
        path.read_text(errors="replace")
        for path in (tmp_path / "other").rglob("*")
        if path.is_file()
    )


async def test_pruning_deletes_nothing_elsewhere(tmp_path: Path) -> None:
    folder, outside = tmp_path / "backups", tmp_path / "outside"
    manifest = {
        "format": 1,
        "created_at": "2026-01-01T00:00:00+00:00",
        "version": "1",
        "collections": {},
        "size": 0,
        "files": {},
    }
    for name, said in (
        ("kb-20260101-000000", "../outside"),
        ("kb-20260102-000000", str(outside)),
        ("kb-20260103-000000", ""),
        ("kb-20260104-000000", "."),
    ):
        (folder / name).mkdir(parents=True)
        (folder / name / "manifest.json").write_text(json.dumps(manifest | {"name": said}))
    outside.mkdir()
    (outside / "manifest.json").write_text(json.dumps(manifest | {"name": "kb-20250101-000000"}))
    (folder / "kb-20250101-000000").symlink_to(outside, target_is_directory=True)
    (folder / ".partial-x").symlink_to(outside, target_is_directory=True)
    (folder / ".partial-y").write_text("a file")
    (folder / "broken").mkdir()
    (folder / "broken" / "manifest.json").write_text('{"format": 1}')

    deleted = ["kb-20260103-000000", "kb-20260102-000000", "kb-20260101-000000"]
    async with open_services(Settings(data_dir=tmp_path / "data"), hashing) as services:
        assert await prune(folder, 1, services) == deleted
    assert (outside / "manifest.json").is_file()
    assert {path.name for path in folder.iterdir()} == {
        "kb-20260104-000000",
        "kb-20250101-000000",
        ".partial-x",
        ".partial-y",
        "broken",
    }
