"""Where documents come from: folders on disk, watched or uploaded to."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import unquote_to_bytes, urlsplit

from kb.errors import ConfigError
from kb.ids import source_id
from kb.types import SourceFile, SourceRecord

FOLDER: Literal["folder"] = "folder"
UPLOAD: Literal["upload"] = "upload"

SKIPPED_NAMES = frozenset({"thumbs.db", "desktop.ini"})
"""Files that systems leave in folders and nobody wrote."""
SKIPPED_PREFIXES = (".", "~$")
"""Hidden files, and the lock files of office programs."""


def folder_record(collection: str, root: Path, groups: tuple[str, ...] = ()) -> SourceRecord:
    root_name = str(root.resolve())
    return SourceRecord(
        source_id(collection, FOLDER, root_name), collection, FOLDER, root_name, groups
    )


def upload_record(collection: str, root: Path) -> SourceRecord:
    """The upload area of a collection. Its id leaves the place out: the data folder may move."""
    return SourceRecord(source_id(collection, UPLOAD, ""), collection, UPLOAD, str(root.resolve()))


class FolderSource:
    """All files below a folder, in a stable order.

    Hidden files are left out, and so are symbolic links to folders (they may form rings) and links
    that lead outside the folder (whoever may write there must not publish the rest of the disk).
    `other_roots` are folders that other sources look after.
    """

    def __init__(self, record: SourceRecord, other_roots: frozenset[Path] = frozenset()) -> None:
        self._record = record
        self._root = Path(record.root)
        self._other_roots = other_roots

    @property
    def record(self) -> SourceRecord:
        return self._record

    def uri(self, relative_path: str) -> str:
        if self._record.kind == UPLOAD:
            return f"upload:{relative_path}"
        return (self._root / relative_path).as_uri()

    def relative_path(self, uri: str) -> str:
        """The inverse of `uri`."""
        if self._record.kind == UPLOAD:
            return uri.removeprefix(self.uri(""))
        path = Path(os.fsdecode(unquote_to_bytes(urlsplit(uri).path)))
        return path.relative_to(self._root).as_posix()

    def walk(self, scope: str = "") -> Iterator[SourceFile]:
        """Files below the root, or below the file or folder `scope` (relative to it)."""
        start = self._root / scope
        if not self._root.is_dir():
            raise ConfigError(f"{self._root} is not a folder. Is the disk mounted?")
        if start.is_file():
            yield from self._file(start)
        elif start.is_dir():
            yield from self._folder(start)

    def _folder(self, folder: Path) -> Iterator[SourceFile]:
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            raise ConfigError(f"{folder} can't be listed: {error.strerror}.") from error
        for entry in entries:
            if entry.name.startswith(SKIPPED_PREFIXES) or entry.name.lower() in SKIPPED_NAMES:
                continue
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                if path not in self._other_roots:
                    yield from self._folder(path)
            else:
                yield from self._file(path)

    def _file(self, path: Path) -> Iterator[SourceFile]:
        if path.is_symlink() and not path.resolve().is_relative_to(self._root):
            return
        try:
            stat = path.stat()
        except OSError:
            return  # Gone since it was listed, or a link to nothing: not there.
        if path.is_file():
            relative_path = path.relative_to(self._root).as_posix()
            yield SourceFile(path, relative_path, stat.st_size, stat.st_mtime_ns)
