"""Checking backups, and bringing them back."""

import asyncio
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kb.errors import ConfigError
from kb.ports import Catalog
from kb.types import Generation
from retrieval.generations import CopyProgress
from serving.backup.indexes import InFolder, InSnapshot, Kept
from serving.backup.kept import CATALOG, INDEX, UPLOADS, Backup, BackupDamaged, check_files, read
from serving.backup.making import live_generations
from serving.bootstrap import Services, alias_of, catalog_url, open_embedded
from serving.parts import Parts

_INDEX_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Opened:
    """A backup's catalogue, its live generations and where their indexes are."""

    catalog: Catalog
    generations: list[Generation]
    indexes: Kept


async def check(place: Path, parts: Parts) -> Backup:
    """Reads all of it: every file is as it was written, and index and catalogue agree.

    A snapshot is restored for that, as indexes that are dropped in the end. Raises BackupDamaged, ConfigError.
    """
    await asyncio.to_thread(check_files, place)
    async with _opened(place, parts, CopyProgress()) as opened:
        for generation in opened.generations:
            await opened.indexes.check(generation)
    return read(place)


async def restore(place: Path, services: Services, progress: CopyProgress) -> Backup:
    """Brings a checked backup into an empty knowledge base.

    The catalogue comes last, in one transaction: stopped before, nothing is there yet, and the same
    call goes on. Raises ConfigError where something is there, BackupDamaged.
    """
    backup = await check(place, services)
    if await services.catalog.collections():
        raise ConfigError(
            "There are collections already. A backup can only be restored into an empty data folder"
            " and database: set KB_DATA_DIR (and KB_CATALOG__URL) to such."
        )
    async with _opened(place, services, progress) as opened:
        for generation in opened.generations:
            await opened.indexes.bring(generation, services.store)
            await services.store.alias(alias_of(generation.collection), generation.index_name)
        uploads = place / UPLOADS
        if uploads.is_dir():
            target = services.settings.data_dir / UPLOADS
            await asyncio.to_thread(shutil.copytree, uploads, target, dirs_exist_ok=True)
        await opened.catalog.copy_to(catalog_url(services.settings))
    return backup


@asynccontextmanager
async def _opened(place: Path, parts: Parts, progress: CopyProgress) -> AsyncIterator[Opened]:
    """Its catalogue as a copy, which may be migrated: the backup itself stays as it is."""
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder) / CATALOG
        await asyncio.to_thread(shutil.copy, place / CATALOG, copied)
        async with open_embedded(copied, place / INDEX) as kept:
            generations = await _named_rightly(kept.catalog)
            indexes: Kept = InFolder(kept.catalog, kept.store, progress)
            if name := read(place).snapshot:
                indexes = await _in_snapshot(name, kept.catalog, parts)
            yield Opened(kept.catalog, generations, indexes)


async def _in_snapshot(name: str, catalog: Catalog, parts: Parts) -> InSnapshot:
    snapshots = await parts.snapshots()
    if snapshots is None:
        raise ConfigError(
            f"The index of this backup is Elasticsearch's snapshot {name}. Set KB_BACKUP__REPOSITORY to"
            " the repository that has it, and KB_INDEX__URL to a cluster with that repository."
        )
    return InSnapshot(catalog, snapshots, name, parts.store)


async def _named_rightly(catalog: Catalog) -> list[Generation]:
    """The live ones of a backup, whose catalogue may name anything. Raises BackupDamaged."""
    generations = await live_generations(catalog)
    for generation in generations:
        if not _INDEX_NAME.fullmatch(generation.index_name):
            raise BackupDamaged(f"{generation.index_name!r} can't be the name of an index.")
    return generations
