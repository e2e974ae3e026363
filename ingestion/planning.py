"""What a synchronisation has to do: the source as it is now against the catalogue as it was."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from ingestion.progress import SyncProgress
from kb import ids
from kb.errors import ConfigError
from kb.ports import Catalog, Source
from kb.types import Document, DocumentStatus, FailureCategory, SourceFile

WALK_BATCH = 200
"""Files walked (and, where needed, hashed) in one go off the event loop."""
MAX_ATTEMPTS = 3
"""After so many failures a document waits until it changes or a person retries it."""
PASSING = frozenset(
    {FailureCategory.TIMEOUT, FailureCategory.OUT_OF_MEMORY, FailureCategory.UNREADABLE}
)
"""Failures that may go away without the file changing."""


@dataclass(frozen=True, slots=True)
class Task:
    """One file to read. `document` is its row as it will be, but for what reading it brings."""

    file: SourceFile
    document: Document


@dataclass(frozen=True, slots=True)
class Known:
    """What the catalogue holds of a source, or of a part of it."""

    by_id: dict[str, Document]

    def gone(self, seen: set[str]) -> list[str]:
        return [document_id for document_id in self.by_id if document_id not in seen]


async def known_documents(catalog: Catalog, source: Source, scope: str) -> Known:
    """The catalogue's documents of the source; with a scope, those at or below that path."""
    scope_uri = source.uri(scope) if scope else ""
    return Known(
        {
            document.id: document
            async for document in catalog.document_stream(source.record.id)
            if not scope or document.uri == scope_uri or document.uri.startswith(scope_uri + "/")
        }
    )


async def plan(
    source: Source, known: Known, scope: str, progress: SyncProgress, seen: set[str]
) -> AsyncIterator[tuple[list[Task], list[Document]]]:
    """Walks the source; gives the files to read, and the rows that only need new file times.

    `seen` is filled with the ids of all documents that still exist. Raises ConfigError.
    """
    files = source.walk(scope)
    while batch := await asyncio.to_thread(_compare, files, source, known):
        progress.found += len(batch)
        seen.update(document.id for _, document, _ in batch)
        tasks = [Task(file, document) for file, document, needed in batch if needed]
        touched = [
            document
            for _, document, needed in batch
            if not needed and document != known.by_id[document.id]
        ]
        progress.unchanged += len(batch) - len(tasks)
        yield tasks, touched
    progress.walked = True


def refuse_to_empty(source: Source, known: Known, seen: set[str], scope: str) -> None:
    """A folder that is suddenly empty is more likely not mounted than meant. Raises ConfigError."""
    if known.by_id and not seen and not scope:
        raise ConfigError(
            f"{source.record.root} holds no documents any more, but {len(known.by_id)} are indexed. "
            "Nothing was deleted. Is the disk mounted? To remove them, delete the collection "
            f"(`kb collections delete {source.record.collection}`)."
        )


def _compare(
    files: Iterator[SourceFile], source: Source, known: Known
) -> list[tuple[SourceFile, Document, bool]]:
    """The next files with their rows, and whether each must be read. Blocking."""
    return [_compare_file(file, source, known) for file in islice(files, WALK_BATCH)]


def _compare_file(
    file: SourceFile, source: Source, known: Known
) -> tuple[SourceFile, Document, bool]:
    document_id = ids.document_id(source.record.id, file.relative_path)
    old = known.by_id.get(document_id)
    if old and (old.status is DocumentStatus.EXCLUDED or _same_file(old, file, source)):
        return file, old, _wants_reading(old)
    try:
        content_hash = ids.content_hash(file.path)
    except OSError:
        content_hash = ""  # Reading it will fail too, and say why.
    new = _row(document_id, file, source, content_hash)
    if old and content_hash and old.content_hash == content_hash and old.groups == new.groups:
        return file, replace(old, size=file.size, mtime_ns=file.mtime_ns), _wants_reading(old)
    return file, new, True


def _same_file(old: Document, file: SourceFile, source: Source) -> bool:
    return (
        old.size == file.size
        and old.mtime_ns == file.mtime_ns
        and old.groups == source.record.groups
    )


def _wants_reading(document: Document) -> bool:
    """An unchanged document is read again only when its last reading did not come to an end."""
    match document.status:
        case DocumentStatus.PENDING:
            return True
        case DocumentStatus.FAILED:
            return document.error_category in PASSING and document.attempts < MAX_ATTEMPTS
        case DocumentStatus.INDEXED | DocumentStatus.EXCLUDED:
            return False


def _row(document_id: str, file: SourceFile, source: Source, content_hash: str) -> Document:
    return Document(
        id=document_id,
        collection=source.record.collection,
        source_id=source.record.id,
        uri=source.uri(file.relative_path),
        title=file.path.stem,
        media_type="",
        size=file.size,
        mtime_ns=file.mtime_ns,
        content_hash=content_hash,
        status=DocumentStatus.PENDING,
        groups=source.record.groups,
    )
