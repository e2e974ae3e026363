"""Where documents come from: folders, upload areas, and lists of files."""

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from pathspec import GitIgnoreSpec

from kb.errors import ConfigError, InvalidSource
from kb.ids import source_id
from kb.ports import Source
from kb.types import SourceFile, SourceKind, SourceRecord, Symlinks

SKIPPED_NAMES = frozenset({"thumbs.db", "desktop.ini"})
"""Files that systems leave in folders and nobody wrote."""
SKIPPED_PREFIXES = (".", "~$")
"""Hidden files, and the lock files of office programs."""
LIST_COMMENT = "#"


def folder_record(collection: str, root: Path, groups: tuple[str, ...] = ()) -> SourceRecord:
    return _record(collection, SourceKind.FOLDER, root, groups)


def list_record(collection: str, root: Path, groups: tuple[str, ...] = ()) -> SourceRecord:
    return _record(collection, SourceKind.LIST, root, groups)


def upload_record(
    collection: str, root: Path, groups: tuple[str, ...] = (), area: str = ""
) -> SourceRecord:
    """An upload area of a collection. Its id leaves the place out: the data folder may move."""
    kind = SourceKind.UPLOAD
    return SourceRecord(
        source_id(collection, kind, area), collection, kind, str(root.resolve()), groups
    )


def _record(collection: str, kind: SourceKind, root: Path, groups: tuple[str, ...]) -> SourceRecord:
    place = str(root.resolve())
    return SourceRecord(source_id(collection, kind, place), collection, kind, place, groups)


def open_source(record: SourceRecord, other_roots: frozenset[Path] = frozenset()) -> Source:
    """The source that a record describes. Nothing is read yet."""
    if record.kind is SourceKind.LIST:
        return ListSource(record)
    return FolderSource(record, other_roots)


class FolderSource:
    """All files below a folder, in a stable order; of symbolic links those that the record wants.

    Hidden files are left out. `other_roots` are folders that other sources look after.
    """

    def __init__(self, record: SourceRecord, other_roots: frozenset[Path] = frozenset()) -> None:
        self._record = record
        self._root = Path(record.root)
        self._other_roots = other_roots
        self._wanted = Wanted(record)

    @property
    def record(self) -> SourceRecord:
        return self._record

    def uri(self, relative_path: str) -> str:
        if self._record.kind is SourceKind.UPLOAD:
            return f"upload:{relative_path}"
        return (self._root / relative_path).as_uri()

    def relative_path(self, uri: str) -> str:
        if self._record.kind is SourceKind.UPLOAD:
            return uri.removeprefix(self.uri(""))
        return path_of(uri).relative_to(self._root).as_posix()

    def walk(self, scope: str = "") -> Iterator[SourceFile]:
        """Files below the root, or below the file or folder `scope` (relative to it)."""
        start = self._root / scope
        if not self._root.is_dir():
            raise ConfigError(f"{self._root} is not a folder. Is the disk mounted?")
        if not self._leads_to(start):
            return
        if start.is_file():
            yield from self._file(start)
        elif start.is_dir():
            yield from self._folder(start, frozenset({start.resolve()}))

    def _leads_to(self, place: Path) -> bool:
        """Whether a walk from the root comes to it: a folder on the way may be a link by now."""
        if ".." in place.parts or not place.is_relative_to(self._root):
            return False
        folders = [
            folder for folder in (place, *place.parents) if folder.is_relative_to(self._root)
        ]
        return self._record.symlinks is Symlinks.FOLLOW or not any(
            folder.is_symlink() and folder.is_dir() for folder in folders if folder != self._root
        )

    def _folder(self, folder: Path, above: frozenset[Path]) -> Iterator[SourceFile]:
        """`above` are the real folders we came through: a link back to one of them is a ring."""
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            raise ConfigError(f"{folder} can't be listed: {error.strerror}.") from error
        for entry in entries:
            if entry.name.startswith(SKIPPED_PREFIXES) or entry.name.lower() in SKIPPED_NAMES:
                continue
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=self._record.symlinks is Symlinks.FOLLOW):
                inner = path.resolve() if entry.is_symlink() else path
                if self._is_ours(path) and inner not in above:
                    yield from self._folder(path, above | {inner})
            else:
                yield from self._file(path)

    def _is_ours(self, folder: Path) -> bool:
        return folder not in self._other_roots and self._wanted.may_hold(self._relative(folder))

    def _file(self, path: Path) -> Iterator[SourceFile]:
        if path.is_symlink() and not self._follows(path):
            return
        relative_path = self._relative(path)
        if self._wanted.name(relative_path):
            yield from _found(path, relative_path, self._wanted)

    def _follows(self, link: Path) -> bool:
        match self._record.symlinks:
            case Symlinks.NEVER:
                return False
            case Symlinks.INSIDE:
                return link.resolve().is_relative_to(self._root)
            case Symlinks.FOLLOW:
                return True

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()


class ListSource:
    """The files that a text file names: one path a line, relative to its folder unless absolute.

    Empty lines and lines that begin with # are passed over, files that are not there too.
    """

    def __init__(self, record: SourceRecord) -> None:
        self._record = record
        self._list = Path(record.root)
        self._wanted = Wanted(record)

    @property
    def record(self) -> SourceRecord:
        return self._record

    def uri(self, relative_path: str) -> str:
        return (self._list.parent / relative_path).as_uri()

    def relative_path(self, uri: str) -> str:
        path = path_of(uri)
        folder = self._list.parent
        return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()

    def walk(self, scope: str = "") -> Iterator[SourceFile]:
        try:
            lines = self._list.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"The list of files {self._list} can't be read: {error}.") from error
        names = {line.strip() for line in lines} - {""}
        paths = {self._path(name) for name in names if not name.startswith(LIST_COMMENT)}
        for path in sorted(paths):
            relative_path = self.relative_path(path.as_uri())
            if scope in ("", relative_path) and self._wanted.name(relative_path):
                yield from _found(path, relative_path, self._wanted)

    def _path(self, name: str) -> Path:
        return Path(os.path.normpath(self._list.parent / name))


class Wanted:
    """Which files of a source are meant: patterns as in .gitignore, and a size."""

    def __init__(self, record: SourceRecord) -> None:
        self._record = record

    @cached_property
    def _include(self) -> GitIgnoreSpec | None:
        return _patterns(self._record.include) if self._record.include else None

    @cached_property
    def _exclude(self) -> GitIgnoreSpec:
        return _patterns(self._record.exclude)

    def name(self, relative_path: str) -> bool:
        if self._include and not self._include.match_file(relative_path):
            return False
        return not self._exclude.match_file(relative_path)

    def may_hold(self, folder: str) -> bool:
        """False for folders that are excluded as a whole: they need not be walked."""
        return not self._exclude.match_file(folder + "/")

    def size(self, size: int) -> bool:
        limit = self._record.max_file_mb
        return limit is None or size <= limit << 20


def check_patterns(record: SourceRecord) -> None:
    """Raises InvalidSource for a pattern that can't be read."""
    _patterns((*record.include, *record.exclude))


def _patterns(lines: tuple[str, ...]) -> GitIgnoreSpec:
    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise InvalidSource(f"A pattern of this source can't be read: {error}.") from error


def path_of(uri: str) -> Path:
    """The path of a file URI, whatever bytes its name is made of."""
    return Path(os.fsdecode(unquote_to_bytes(urlsplit(uri).path)))


def _found(path: Path, relative_path: str, wanted: Wanted) -> Iterator[SourceFile]:
    try:
        stat = path.stat()
    except OSError:
        return  # Gone since it was listed, or a link to nothing: not there.
    if path.is_file() and wanted.size(stat.st_size):
        yield SourceFile(path, relative_path, stat.st_size, stat.st_mtime_ns)
