"""Making backups, and deleting old ones."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import structlog
from pydantic import BaseModel, SecretStr

from kb.disk import full_disk_told
from kb.errors import BackendError, ConfigError
from kb.ports import Catalog
from kb.snapshots import Snapshots
from kb.types import DocumentStatus, Generation
from retrieval.generations import CopyProgress
from serving.backup.indexes import Copying, Keeping, Snapping, forget, forget_ahead
from serving.backup.kept import (
    CATALOG,
    INDEX,
    SETTINGS,
    SNAPSHOT,
    UPLOADS,
    Backup,
    backups,
    read,
    seal,
)
from serving.bootstrap import Embedded, Services, open_embedded
from serving.parts import Parts
from serving.reindexing import HOLD_S, held, only_one, read_again

PARTIAL: Final = ".partial-"
NAME: Final = "kb-%Y%m%d-%H%M%S"

log = structlog.get_logger(__name__)


async def create(folder: Path, services: Services, progress: CopyProgress) -> Backup:
    """A backup in a new folder below `folder`, as everything is at one moment.

    Searches and writes go on; at the end writers are held for a second or so. Nothing is left behind
    when it fails. Raises BackendError, ConfigError.
    """
    snapshots = await services.snapshots()
    made_at = datetime.now(UTC)
    name = made_at.strftime(NAME)
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    if (folder / name).exists():
        raise ConfigError(f"There is a backup {name} already. Wait a second and try again.")
    with full_disk_told(folder):
        part = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}{name}-", dir=folder))
        try:
            async with _taken(name, snapshots):
                snapshot = await _fill(part, name, services, snapshots, progress)
                await asyncio.to_thread(_copy_files, services, part)
                documents = await _documents(services.catalog)
                made = Backup(name, made_at, version("kb-server"), documents, 0, snapshot)
                await asyncio.to_thread(seal, part, made)
                return _rename(part, folder / name)
        finally:
            await asyncio.to_thread(shutil.rmtree, part, ignore_errors=True)


async def _fill(
    part: Path,
    name: str,
    services: Services,
    snapshots: Snapshots | None,
    progress: CopyProgress,
) -> str | None:
    """The indexes, then the catalogue of the same moment. Gives the snapshot's name, where there is one."""
    async with AsyncExitStack() as stack:
        kept = await stack.enter_async_context(open_embedded(part / CATALOG, part / INDEX))
        generations = await live_generations(services.catalog)
        for generation in generations:
            await stack.enter_async_context(only_one(generation.collection, services))
        if not generations:
            snapshots = None  # One is of at least one index.
        keeping = _keeping(generations, name, services, snapshots, kept, progress)
        await keeping.most()
        async with _all_held(generations, services):
            lost = await keeping.rest()
            await services.catalog.copy_to(kept.url)
        for collection, document_ids in lost.items():
            await read_again(collection, document_ids, kept.catalog)
    return name if snapshots else None


def _keeping(
    generations: Sequence[Generation],
    name: str,
    services: Services,
    snapshots: Snapshots | None,
    kept: Embedded,
    progress: CopyProgress,
) -> Keeping:
    if snapshots is not None:
        return Snapping(generations, services.catalog, services.store, snapshots, name)
    return Copying(generations, services.catalog, services.store, kept.store, progress)


@asynccontextmanager
async def _taken(name: str, snapshots: Snapshots | None) -> AsyncIterator[None]:
    """What was taken for a backup that failed goes; of one that is whole, what only made it quicker."""
    try:
        yield
    except BaseException:
        if snapshots is not None:
            await _succeeds(forget(name, snapshots), name)
        raise
    if snapshots is not None:
        await _succeeds(forget_ahead(name, snapshots), name)


@asynccontextmanager
async def _all_held(generations: Sequence[Generation], services: Services) -> AsyncIterator[None]:
    """Keeps writers of all collections waiting, however long the block takes.

    Raises GenerationSwitched at its end, should that not have been so throughout.
    """
    async with AsyncExitStack() as holds:
        owners = {
            generation.collection: await holds.enter_async_context(
                held(generation.collection, services)
            )
            for generation in generations
        }

        async def hold_on() -> None:
            while True:
                await asyncio.sleep(HOLD_S / 3)
                for collection, owner in owners.items():
                    await services.catalog.hold(collection, owner, HOLD_S)

        holding = asyncio.create_task(hold_on())
        try:
            yield
            if holding.done():
                await holding
        finally:
            holding.cancel()
            await asyncio.wait([holding])


def _copy_files(services: Services, part: Path) -> None:
    """Uploads are replaced by renaming: each file is copied as it was or as it became, never half."""
    uploads = services.settings.data_dir / UPLOADS
    if uploads.is_dir():
        shutil.copytree(uploads, part / UPLOADS, ignore=shutil.ignore_patterns("*.partial"))
    text = json.dumps(without_secrets(services.settings), indent=2, default=str)
    (part / SETTINGS).write_text(text + "\n", "utf-8")


def _rename(part: Path, place: Path) -> Backup:
    part.chmod(0o700)  # It holds what only some may read.
    part.rename(place)
    return read(place)


async def live_generations(catalog: Catalog) -> list[Generation]:
    found = [await catalog.live_generation(each.name) for each in await catalog.collections()]
    return [generation for generation in found if generation]


async def _documents(catalog: Catalog) -> dict[str, int]:
    return {
        each.name: each.documents.get(DocumentStatus.INDEXED, 0)
        for each in await catalog.collections()
    }


def without_secrets(settings: BaseModel) -> dict[str, Any]:
    """All settings but passwords, keys and addresses that hold them."""
    return {
        name: without_secrets(value) if isinstance(value, BaseModel) else value
        for name in type(settings).model_fields
        if not isinstance(value := getattr(settings, name), SecretStr)
    }


# --- Deleting -----------------------------------------------------------------------------------


async def prune(folder: Path, keep: int, parts: Parts) -> list[str]:
    """Deletes all but the newest, and what killed ones left; gives the names of those deleted.

    Links are left alone, and what they lead to. One whose snapshot can't be deleted stays, for the next time.
    Raises ConfigError.
    """
    snapshots = await parts.snapshots()
    deleted = []
    for old in (await asyncio.to_thread(backups, folder))[keep:]:
        if await _forgotten(old.snapshot, snapshots):
            await asyncio.to_thread(_delete, folder / old.name)
            deleted.append(old.name)
    for part in await asyncio.to_thread(_partial, folder):
        began = SNAPSHOT.match(part.name.removeprefix(PARTIAL))
        if await _forgotten(began[0] if began and snapshots else None, snapshots):
            await asyncio.to_thread(_delete, part)
    return deleted


async def _forgotten(snapshot: str | None, snapshots: Snapshots | None) -> bool:
    if snapshot is None:
        return True
    if snapshots is None:
        log.warning("snapshot_left", snapshot=snapshot, reason="backup.repository is not set")
        return False
    return await _succeeds(forget(snapshot, snapshots), snapshot)


async def _succeeds(forgetting: Awaitable[None], snapshot: str) -> bool:
    """Whether it did. That a snapshot is left is no reason to fail: pruning tries again."""
    try:
        await forgetting
    except (BackendError, ConfigError) as error:
        log.warning("snapshot_left", snapshot=snapshot, reason=error.message)
        return False
    return True


def _partial(folder: Path) -> list[Path]:
    return list(folder.glob(f"{PARTIAL}*"))


def _delete(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
