"""What a synchronisation has to do: the source as it is now against the catalogue as it was."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import islice

from ingestion.progress import SyncProgress
from kb import ids
from kb.errors import DeletionRefused
from kb.ports import Catalog, Source
from kb.types import Document, DocumentStatus, FailureCategory, SourceFile

WALK_BATCH = 200
"""Files walked (and, where needed, hashed) in one go off the event loop."""
MAX_ATTEMPTS = 3
"""After so many failures a document is quarantined: it waits until it changes or a person retries it."""
PASSING = frozenset(
    {FailureCategory.TIMEOUT, FailureCategory.OUT_OF_MEMORY, FailureCategory.UNREADABLE}
)
"""Failures that may go away without the file changing."""


class SyncMode(StrEnum):
    INCREMENTAL = "incremental"
    """Files whose size and time are as before are not read."""
    FULL = "full"
    """Every file is read and cut again; passages whose text is as before keep their vectors."""
    RETRY = "retry"
    """Only documents whose last reading failed for a reason that may have passed."""


class EngineKind(StrEnum):
    """Where documents are read and embedded."""

    IN_PROCESS = "in-process"
    SPARK = "spark"


@dataclass(frozen=True, slots=True)
class DeleteGuard:
    """How many documents may be lost at once: `free` of them, or a share of all that are known."""

    share: float = 0.2
    free: int = 3


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """What is asked of a synchronisation. `scope` is a path within the source; empty means all of it.

    `guard=None` deletes whatever is gone.
    """

    mode: SyncMode = SyncMode.INCREMENTAL
    scope: str = ""
    guard: DeleteGuard | None = field(default_factory=DeleteGuard)
    engine: EngineKind = EngineKind.IN_PROCESS


@dataclass(frozen=True, slots=True)
class Task:
    """One file to read. `document` is its row as it will be, but for what reading it brings."""

    file: SourceFile
    document: Document
    is_new: bool
    is_changed: bool = False
    """Whether what the index holds of it is no longer true: another content, or other rights."""


@dataclass(slots=True)
class Plan:
    """What the catalogue holds of a source, or of a part of it, and what walking it has shown so far."""

    source: Source
    request: SyncRequest
    known: dict[str, Document]
    seen: set[str] = field(default_factory=set)
    hashes: set[str] = field(default_factory=set)
    """Content of the documents that are there now."""
    arrived: set[str] = field(default_factory=set)
    """Content that was found at a new path."""

    def note(self, documents: Iterable[Document]) -> None:
        """Rows that have changed since the plan was made."""
        self.known |= {d.id: d for d in documents if d.id in self.known}

    def gone(self) -> list[Document]:
        if self.request.mode is SyncMode.RETRY:
            return []
        return [document for name, document in self.known.items() if name not in self.seen]


async def known_documents(catalog: Catalog, source: Source, scope: str) -> dict[str, Document]:
    """The catalogue's documents of the source; with a scope, those at or below that path.

    Duplicates that lost their original are among them as documents that are still to be read.
    """
    scope_uri = source.uri(scope) if scope else ""
    strays = await catalog.strays(source.record.id)
    return {
        document.id: _unread(document) if document.id in strays else document
        async for document in catalog.document_stream(source.record.id)
        if not scope or document.uri == scope_uri or document.uri.startswith(scope_uri + "/")
    }


async def walk(
    plan: Plan, progress: SyncProgress
) -> AsyncIterator[tuple[list[Task], list[Document]]]:
    """Walks the source; gives the files to read, and the rows that only need new file times.

    Raises ConfigError.
    """
    files = plan.source.walk(plan.request.scope)
    while batch := await asyncio.to_thread(_compare, files, plan):
        progress.found += len(batch)
        tasks: list[Task] = []
        touched: list[Document] = []
        for file, document, needed in batch:
            old = plan.known.get(document.id)
            plan.seen.add(document.id)
            plan.hashes.add(document.content_hash)
            if old is None:
                plan.arrived.add(document.content_hash)
            if needed:
                tasks.append(Task(file, document, old is None, _is_changed(old, document)))
            elif old is not None and document != old:
                touched.append(document)
        progress.unchanged += len(batch) - len(tasks)
        yield tasks, touched
    progress.walked = True


def check_deletions(plan: Plan) -> tuple[list[Document], list[Document]]:
    """Documents that moved elsewhere, and those that are lost. Both are to be deleted.

    A source that suddenly holds much less is more likely not mounted than meant.
    Raises DeletionRefused.
    """
    gone = plan.gone()
    moved = [document for document in gone if document.content_hash in plan.arrived]
    lost = [document for document in gone if document.content_hash not in plan.arrived]
    # A second copy that went is no loss: its text is still there.
    alarming = sum(document.content_hash not in plan.hashes for document in lost)
    if plan.request.guard and _is_too_much(alarming, plan, plan.request.guard):
        record = plan.source.record
        raise DeletionRefused(
            f"{alarming} of the {len(plan.known)} documents of {record.root} are gone. "
            "Nothing was deleted. Is the disk mounted? If they are meant to go: "
            f"`kb sync --source {record.id} --confirm-deletes`."
        )
    return moved, lost


def _is_too_much(lost: int, plan: Plan, guard: DeleteGuard) -> bool:
    if lost and not plan.seen and not plan.request.scope:
        return True
    return lost > max(guard.free, guard.share * len(plan.known))


def _compare(files: Iterator[SourceFile], plan: Plan) -> list[tuple[SourceFile, Document, bool]]:
    """The next files with their rows, and whether each must be read. Blocking."""
    return [_compare_file(file, plan) for file in islice(files, WALK_BATCH)]


def _compare_file(file: SourceFile, plan: Plan) -> tuple[SourceFile, Document, bool]:
    source, mode = plan.source, plan.request.mode
    document_id = ids.document_id(source.record.id, file.relative_path)
    old = plan.known.get(document_id)
    if old and old.status is DocumentStatus.EXCLUDED:
        return file, old, False
    if mode is SyncMode.RETRY:
        needed = old is not None and _wants_reading(old, mode)
        return file, old or _row(document_id, file, source, ""), needed
    if old and mode is SyncMode.INCREMENTAL and _same_file(old, file, source):
        return file, old, _wants_reading(old, mode)
    try:
        content_hash = ids.content_hash(file.path)
    except OSError:
        content_hash = ""  # Reading it will fail too, and say why.
    new = _row(document_id, file, source, content_hash)
    if old and content_hash and old.content_hash == content_hash and old.groups == new.groups:
        touched = replace(old, size=file.size, mtime_ns=file.mtime_ns)
        return file, touched, _wants_reading(old, mode)
    return file, new, True


def _is_changed(old: Document | None, new: Document) -> bool:
    return old is not None and ids.revision(old) != ids.revision(new)


def _unread(document: Document) -> Document:
    return replace(document, status=DocumentStatus.PENDING, duplicate_of=None)


def _same_file(old: Document, file: SourceFile, source: Source) -> bool:
    return (
        old.size == file.size
        and old.mtime_ns == file.mtime_ns
        and old.groups == source.record.groups
    )


def _wants_reading(document: Document, mode: SyncMode) -> bool:
    """Whether a document whose content is as before is read again: when it was not read to the end."""
    match document.status:
        case DocumentStatus.PENDING:
            return True
        case DocumentStatus.FAILED:
            return document.error_category in PASSING or mode is SyncMode.FULL
        case DocumentStatus.INDEXED:
            return mode is SyncMode.FULL
        case DocumentStatus.QUARANTINED | DocumentStatus.EXCLUDED:
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
