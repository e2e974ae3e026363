"""Backups: each is a small knowledge base of the embedded kind, whatever kind it was taken from.

A backup's folder holds `catalog.db`, `index/` (live generations with their vectors), `uploads/`,
`settings.json` without secrets, and `manifest.json` with the hash of every file. Restoring embeds
nothing, and may go to another kind of index or database than the backup came from.
"""

import asyncio
import hashlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import structlog
from pydantic import BaseModel, SecretStr

from kb.disk import full_disk_told
from kb.errors import BackendError, ConfigError, KBError, NoBackupFolder, NotFoundError
from kb.ports import Catalog, ChunkIndex, IndexStore
from kb.settings import Settings
from kb.types import DocumentStatus, Generation
from retrieval.differences import differences
from retrieval.generations import Copy, CopyProgress
from serving.bootstrap import Embedded, Services, alias_of, catalog_url, open_embedded
from serving.reindexing import (
    FEW_DOCUMENTS,
    HOLD_S,
    MOST_ROUNDS,
    held,
    only_one,
    read_again,
    verify,
)

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
CATALOG: Final = "catalog.db"
INDEX: Final = "index"
UPLOADS: Final = "uploads"
SETTINGS: Final = "settings.json"
PARTIAL: Final = ".partial-"
NAME: Final = "kb-%Y%m%d-%H%M%S"

log = structlog.get_logger(__name__)


class BackupDamaged(BackendError):
    code = "backup_damaged"
    retryable = False


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup says of itself. `collections` are documents by collection, `size` is in bytes."""

    name: str
    created_at: datetime
    version: str
    collections: Mapping[str, int]
    size: int


class Manifest(BaseModel):
    """`manifest.json`: what a backup says of itself, and the SHA-256 of every other file."""

    created_at: datetime
    version: str
    collections: dict[str, int]
    size: int
    files: dict[str, str]


def folder_of(settings: Settings) -> Path:
    """Where backups are kept. Raises NoBackupFolder."""
    folder = settings.backup.folder
    if folder is None:
        raise NoBackupFolder(
            "No folder for backups is set: KB_BACKUP__FOLDER, or for a command --folder."
        )
    return folder


def named(folder: Path, name: str) -> Path:
    """The place of a finished backup. Raises NotFoundError, for whatever is no name of one."""
    if name not in {backup.name for backup in backups(folder)}:
        raise NotFoundError(f"There is no backup {name!r}. `kb backup list` shows those there are.")
    return folder / name


# --- Making -------------------------------------------------------------------------------------


async def create(folder: Path, services: Services, progress: CopyProgress) -> Backup:
    """A backup in a new folder below `folder`, as everything is at one moment.

    Searches and writes go on; at the end writers are held for a second or so. Nothing is left behind
    when it fails. Raises BackendError, ConfigError.
    """
    made_at = datetime.now(UTC)
    name = made_at.strftime(NAME)
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    if (folder / name).exists():
        raise ConfigError(f"There is a backup {name} already. Wait a second and try again.")
    with full_disk_told(folder):
        part = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder))
        try:
            await _fill(part, services, progress)
            await asyncio.to_thread(_copy_files, services, part)
            await asyncio.to_thread(_seal, part, name, made_at, await _documents(services.catalog))
            return _rename(part, folder / name)
        finally:
            await asyncio.to_thread(shutil.rmtree, part, ignore_errors=True)


async def _fill(part: Path, services: Services, progress: CopyProgress) -> None:
    """Index first, round by round; then, with writers held, the rest of it and the catalogue."""
    async with AsyncExitStack() as stack:
        kept = await stack.enter_async_context(open_embedded(part / CATALOG, part / INDEX))
        copies = []
        for generation in await _live(services.catalog):
            await stack.enter_async_context(only_one(generation.collection, services))
            source = await services.store.open(generation.index_name, generation.schema)
            copy = await _copy(services.catalog, source, generation, kept.store)
            for _ in range(MOST_ROUNDS):
                if await copy.round(progress, _at_once) <= FEW_DOCUMENTS:
                    break
            copies.append(copy)
        async with AsyncExitStack() as holds:
            for copy in copies:
                owner = await holds.enter_async_context(held(copy.collection, services))
                hold_on = partial(_hold_on, services, copy.collection, owner)
                while await copy.round(progress, hold_on):
                    await hold_on(0)
                await verify(copy, progress)
            await services.catalog.copy_to(kept.url)
        # What the catalogue calls indexed and the index did not hold is to be read again.
        for copy in copies:
            await read_again(copy.collection, progress.missing, kept.catalog)


async def _hold_on(services: Services, collection: str, owner: str, _: int) -> None:
    await services.catalog.hold(collection, owner, HOLD_S)


def _copy_files(services: Services, part: Path) -> None:
    """Uploads are replaced by renaming: each file is copied as it was or as it became, never half."""
    uploads = services.settings.data_dir / UPLOADS
    if uploads.is_dir():
        shutil.copytree(uploads, part / UPLOADS, ignore=shutil.ignore_patterns("*.partial"))
    text = json.dumps(without_secrets(services.settings), indent=2, default=str)
    (part / SETTINGS).write_text(text + "\n", "utf-8")


def _seal(part: Path, name: str, made_at: datetime, documents: Mapping[str, int]) -> None:
    files = {path.relative_to(part).as_posix(): hash_of(path) for path in _files(part)}
    size = sum((part / name).stat().st_size for name in files)
    backup = Backup(name, made_at, version("kb-server"), documents, size)
    manifest = {"format": FORMAT} | asdict(backup) | {"files": files}
    (part / MANIFEST).write_text(json.dumps(manifest, default=str) + "\n", "utf-8")


def _rename(part: Path, place: Path) -> Backup:
    part.chmod(0o700)  # It holds what only some may read.
    part.rename(place)
    return read(place)


# --- Reading ------------------------------------------------------------------------------------


def backups(folder: Path) -> list[Backup]:
    """All finished ones below `folder`, newest first."""
    return sorted(_finished(folder), key=lambda backup: backup.name, reverse=True)


def _finished(folder: Path) -> Iterator[Backup]:
    """One that can't be read is passed over: the others are wanted all the more."""
    for place in (path.parent for path in folder.glob(f"*/{MANIFEST}")):
        if place.name[0] == "." or place.is_symlink():
            continue
        try:
            yield read(place)
        except KBError as error:
            log.warning("backup_not_listed", backup=str(place), reason=error.message)


def read(place: Path) -> Backup:
    """What a backup says of itself, unchecked. Raises ConfigError where there is none.

    Its name is its folder's, whatever it says: by names backups are deleted.
    """
    said = _manifest(place)
    return Backup(place.name, said.created_at, said.version, said.collections, said.size)


async def check(place: Path) -> Backup:
    """Reads all of it: every file is as it was written, and index and catalogue agree.

    Raises BackupDamaged, ConfigError.
    """
    await asyncio.to_thread(_check_files, place)
    async with _opened(place) as opened:
        for generation in await _live(opened.catalog):
            index = await opened.store.open(generation.index_name, generation.schema)
            found = await differences(opened.catalog, generation.collection, index)
            if found.documents:
                raise BackupDamaged(
                    f"The backup's index of {generation.collection} differs from its catalogue in"
                    f" {len(found.documents)} documents."
                )
    return read(place)


def _check_files(place: Path) -> None:
    """All its files and no others, each as it was written. What lies outside is not even looked at."""
    written = _manifest(place).files
    there = {path.relative_to(place).as_posix(): path for path in place.rglob("*")}
    if links := [path for path in there.values() if path.is_symlink()]:
        raise BackupDamaged(f"The backup holds a link, which none of ours does: {links[0]}.")
    files = {name: path for name, path in there.items() if path.is_file()}
    del files[MANIFEST]
    for name in sorted(written.keys() ^ files.keys()):
        what = "is missing" if name in written else "was put there later"
        raise BackupDamaged(f"The backup's file {place / name} {what}.")
    for name, path in files.items():
        if hash_of(path) != written[name]:
            raise BackupDamaged(f"The backup's file {path} is not as it was written.")


def _manifest(place: Path) -> Manifest:
    try:
        said = json.loads((place / MANIFEST).read_text("utf-8"))
        if said["format"] != FORMAT:
            raise ConfigError(
                f"{place} was made by another version of this program. Upgrade first."
            )
        return Manifest.model_validate(said)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{place} is no backup: its {MANIFEST} can't be read.") from error


# --- Restoring ----------------------------------------------------------------------------------


async def restore(place: Path, services: Services, progress: CopyProgress) -> Backup:
    """Brings a checked backup into an empty knowledge base.

    The catalogue comes last, in one transaction: stopped before, nothing is there yet, and the same
    call goes on. Raises ConfigError where something is there, BackupDamaged.
    """
    backup = await check(place)
    if await services.catalog.collections():
        raise ConfigError(
            "There are collections already. A backup can only be restored into an empty data folder"
            " and database: set KB_DATA_DIR (and KB_CATALOG__URL) to such."
        )
    async with _opened(place) as opened:
        for generation in await _live(opened.catalog):
            source = await opened.store.open(generation.index_name, generation.schema)
            copy = await _copy(opened.catalog, source, generation, services.store)
            await copy.round(progress, _at_once)
            await verify(copy, progress)
            await copy.new.optimise()
            await services.store.alias(alias_of(generation.collection), generation.index_name)
        uploads = place / UPLOADS
        if uploads.is_dir():
            target = services.settings.data_dir / UPLOADS
            await asyncio.to_thread(shutil.copytree, uploads, target, dirs_exist_ok=True)
        await opened.catalog.copy_to(catalog_url(services.settings))
    return backup


@asynccontextmanager
async def _opened(place: Path) -> AsyncIterator[Embedded]:
    """Its catalogue as a copy, which may be migrated: the backup itself stays as it is."""
    with tempfile.TemporaryDirectory() as folder:
        catalog = Path(folder) / CATALOG
        await asyncio.to_thread(shutil.copy, place / CATALOG, catalog)
        async with open_embedded(catalog, place / INDEX) as opened:
            yield opened


# --- Parts --------------------------------------------------------------------------------------


def prune(folder: Path, keep: int) -> list[str]:
    """Deletes all but the newest, and what killed ones left; gives the names of those deleted."""
    old = [backup.name for backup in backups(folder)[keep:]]
    left = (place for place in folder.glob(f"{PARTIAL}*") if not place.is_symlink())
    for place in (*(folder / name for name in old), *left):
        shutil.rmtree(place)
    return old


def without_secrets(settings: BaseModel) -> dict[str, Any]:
    """All settings but passwords, keys and addresses that hold them."""
    return {
        name: without_secrets(value) if isinstance(value, BaseModel) else value
        for name in type(settings).model_fields
        if not isinstance(value := getattr(settings, name), SecretStr)
    }


async def _live(catalog: Catalog) -> list[Generation]:
    found = [await catalog.live_generation(each.name) for each in await catalog.collections()]
    return [generation for generation in found if generation]


async def _documents(catalog: Catalog) -> dict[str, int]:
    return {
        each.name: each.documents.get(DocumentStatus.INDEXED, 0)
        for each in await catalog.collections()
    }


async def _copy(
    catalog: Catalog, source: ChunkIndex, generation: Generation, store: IndexStore
) -> Copy:
    new = await store.create(generation.index_name, generation.schema)
    return Copy(catalog, generation.collection, source, new, None)


async def _at_once(_: int) -> None:
    """Without a pause between batches."""


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
