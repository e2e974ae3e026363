"""What lies in a folder of backups, and what each says of itself."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog
from pydantic import BaseModel, Field, ValidationError

from kb.errors import BackendError, ConfigError, NoBackupFolder, NotFoundError
from kb.settings import Settings

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
CATALOG: Final = "catalog.db"
INDEX: Final = "index"
UPLOADS: Final = "uploads"
SETTINGS: Final = "settings.json"
SNAPSHOT: Final = re.compile(r"kb-\d{8}-\d{6}")
"""What ours are called: no manifest can name one that we did not take, nor several with a `*`."""

log = structlog.get_logger(__name__)


class BackupDamaged(BackendError):
    code = "backup_damaged"
    retryable = False


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup says of itself. `collections` are documents by collection, `size` is in bytes.

    `snapshot` is the one of Elasticsearch that holds its indexes, whose size is not counted.
    """

    name: str
    created_at: datetime
    version: str
    collections: Mapping[str, int]
    size: int
    snapshot: str | None = None


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
        manifest.snapshot,
    )


def seal(place: Path, backup: Backup) -> None:
    """Writes the manifest, without which it is no backup. The size is that of the files there are."""
    files = {path.relative_to(place).as_posix(): hash_of(path) for path in _files(place)}
    size = sum((place / name).stat().st_size for name in files)
    manifest = {"format": FORMAT} | asdict(backup) | {"size": size, "files": files}
    (place / MANIFEST).write_text(json.dumps(manifest, default=str) + "\n", "utf-8")


def check_files(place: Path) -> None:
    """What is there must be what the manifest names: nothing else is read, so no name leads outside.

    Raises BackupDamaged, ConfigError.
    """
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


def hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    snapshot: str | None = Field(None, pattern=f"^{SNAPSHOT.pattern}$")


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


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
