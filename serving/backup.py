"""Backups: each is a small knowledge base of the embedded kind, whatever kind it was taken from.

A backup's folder holds `catalog.db`, `index/` (live generations with their vectors), `uploads/`,
`settings.json` without secrets, and `manifest.json` with the hash of every file. Restoring embeds
nothing, and may go to another kind of index or database than the backup came from.
"""

import asyncio
import hashlib
import json
import re
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
from pydantic import BaseModel, SecretStr, ValidationError

from kb.disk import full_disk_told
from kb.errors import BackendError, ConfigError, NoBackupFolder, NotFoundError
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
_INDEX_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]*")

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
    places = (path.parent for path in folder.glob(f"*/{MANIFEST}"))
    found = (_read(place) for place in places if place.name[0] != "." and not place.is_symlink())
    return sorted(filter(None, found), key=lambda backup: backup.name, reverse=True)


def _read(place: Path) -> Backup | None:
    """None for a damaged one: it must not keep the others from being listed and pruned."""
    try:
        return read(place)
    except (BackupDamaged, ConfigError) as error:
        log.warning("backup_left_out", reason=error.message)
        return None


def read(place: Path) -> Backup:
    """What a backup says of itself, unchecked. Its name is its folder's, whatever is written in it.

    Raises ConfigError where there is none, BackupDamaged.
    """
    manifest = _manifest(place)
    return Backup(
        place.resolve().name,
        manifest.created_at,
        manifest.version,
        manifest.collections,
        manifest.size,
    )


async def check(place: Path) -> Backup:
    """Reads all of it: every file is as it was written, and index and catalogue agree.

    Raises BackupDamaged, ConfigError.
    """
    await asyncio.to_thread(_check_files, place)
    async with _opened(place) as opened:
        for generation in await _kept(opened.catalog):
            index = await opened.store.open(generation.index_name, generation.schema)
            found = await differences(opened.catalog, generation.collection, index)
            if found.documents:
                raise BackupDamaged(
                    f"The backup's index of {generation.collection} differs from its catalogue in"
                    f" {len(found.documents)} documents."
                )
    return read(place)


def _check_files(place: Path) -> None:
    """What is there must be what the manifest names: nothing else is read, so no name leads outside."""
    written = _manifest(place).files
    there = _contents(place) - {MANIFEST}
    if planted := sorted(there - written.keys()):
        raise BackupDamaged(
            f"The backup {place} holds {planted[0]}, which was not written into it."
        )
    for name, digest in written.items():
        if name not in there or hash_of(place / name) != digest:
            raise BackupDamaged(
                f"The backup's file {place / name} is missing or not as it was written."
            )


def _contents(place: Path) -> set[str]:
    """Its files, relative. Raises BackupDamaged for links and devices: a backup has none."""
    names = set()
    for path in place.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise BackupDamaged(f"The backup holds {path}, which is neither a file nor a folder.")
        if path.is_file():
            names.add(path.relative_to(place).as_posix())
    return names


class _Manifest(BaseModel):
    created_at: datetime
    version: str
    collections: dict[str, int]
    size: int
    files: dict[str, str]


def _manifest(place: Path) -> _Manifest:
    file = place / MANIFEST
    if file.is_symlink():
        raise BackupDamaged(f"The backup's {file} is a link.")
    try:
        written = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{place} is no backup: its {MANIFEST} can't be read.") from error
    if isinstance(written, dict) and written.get("format") != FORMAT:
        raise ConfigError(f"{place} was made by a newer version of this program. Upgrade first.")
    try:
        return _Manifest.model_validate(written)
    except ValidationError as error:
        raise BackupDamaged(f"The backup's {file} is not as it was written.") from error


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
        for generation in await _kept(opened.catalog):
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
    """Deletes all but the newest, and what killed ones left; gives the names of those deleted.

    Links are left alone, and what they lead to.
    """
    old = [backup.name for backup in backups(folder)[keep:]]
    for place in (*(folder / name for name in old), *folder.glob(f"{PARTIAL}*")):
        if place.is_dir() and not place.is_symlink():
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


async def _kept(catalog: Catalog) -> list[Generation]:
    """The live ones of a backup, whose catalogue may name anything. Raises BackupDamaged."""
    generations = await _live(catalog)
    for generation in generations:
        if not _INDEX_NAME.fullmatch(generation.index_name):
            raise BackupDamaged(f"{generation.index_name!r} can't be the name of an index.")
    return generations


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
