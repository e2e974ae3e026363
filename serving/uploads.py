"""Uploaded files: stored first, then indexed by a run of the queue."""

import asyncio
import shutil
import time
import unicodedata
import uuid
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from ingestion.duplicates import give_way
from ingestion.planning import SyncMode
from ingestion.progress import SyncProgress
from ingestion.sources import SKIPPED_PREFIXES
from kb import ids
from kb.disk import check_free, full_disk_told
from kb.errors import GenerationSwitched, InvalidQueryError
from kb.types import Document, DocumentStatus, Run, RunStatus, SourceKind, SourceRecord
from serving.bootstrap import Services
from serving.patience import retrying
from serving.queued_work import UPLOAD
from serving.run_queue import RunQueue, queued_run
from serving.sources import folder_of_uploads, stored_source, upload_source

MAX_NAME_BYTES = 200
"""File systems allow 255 bytes; the temporary name is a little longer."""

PARTIAL_SUFFIX = ".partial"
PARTIAL_KEPT_S = 24 * 3600


async def add_upload(
    name: str,
    content: BinaryIO,
    collection: str,
    services: Services,
    queue: RunQueue,
    *,
    groups: tuple[str, ...] = (),
    requested_by: str | None = None,
) -> tuple[Document, Run]:
    """Stores a file and queues its indexing; the same name replaces the file that had it.

    The document is pending until its run has come to it. Raises InvalidQueryError for a name that no
    file can have, DiskFull where too little space is free.
    """
    name = clean_name(name)
    folder = services.settings.data_dir
    with full_disk_told(folder):
        check_free(folder, services.settings.ingest.min_free_mb)
        document = await _stored(name, content, collection, services, groups)
        run = queued_run(
            UPLOAD,
            collection,
            source_id=document.source_id,
            request={"document_id": document.id, "scope": name},
            requested_by=requested_by,
        )
        return document, await queue.add(run)


async def take_up_pending(services: Services, queue: RunQueue) -> None:
    """At a start: uploads that wait though no run does, as a backup holds them, get one.

    What was half written when a server was killed is cleared away.
    """
    for record in await services.catalog.sources():
        if record.kind is not SourceKind.UPLOAD:
            continue
        await asyncio.to_thread(_clear_away, folder_of_uploads(record, services))
        waiting = await services.catalog.documents(
            source_id=record.id, status=DocumentStatus.PENDING, limit=1
        )
        if waiting and not await _has_open_run(record, services):
            await queue.add(
                queued_run(SyncMode.INCREMENTAL, record.collection, source_id=record.id)
            )


async def _has_open_run(record: SourceRecord, services: Services) -> bool:
    return any(
        [
            await services.catalog.runs(source_id=record.id, status=status, limit=1)
            for status in (RunStatus.QUEUED, RunStatus.RUNNING)
        ]
    )


def _clear_away(folder: Path) -> None:
    """Only what is so old that no server is still writing it."""
    oldest = time.time() - PARTIAL_KEPT_S
    for leftover in folder.glob(f".*{PARTIAL_SUFFIX}"):
        with suppress(FileNotFoundError):
            if leftover.stat().st_mtime < oldest:
                leftover.unlink()


async def _stored(
    name: str,
    content: BinaryIO,
    collection: str,
    services: Services,
    groups: tuple[str, ...],
) -> Document:
    source = await upload_source(collection, services, groups)
    size = await asyncio.to_thread(_store, content, Path(source.record.root) / name)
    document = Document(
        id=ids.document_id(source.record.id, name),
        collection=collection,
        source_id=source.record.id,
        uri=source.uri(name),
        title=Path(name).stem,
        media_type="",
        size=size,
        mtime_ns=0,
        content_hash="",
        status=DocumentStatus.PENDING,
        groups=source.record.groups,
    )
    await _give_way(document, services)
    await services.catalog.save_documents([document])
    return document


async def _give_way(document: Document, services: Services) -> None:
    """Before the row of the file that it replaces is overwritten."""
    async for attempt in retrying(services.settings.ingest.index_patience_s, GenerationSwitched):
        with attempt:
            backends = await services.backends(document.collection)
            await give_way([document.id], backends, SyncProgress())


async def remove_document(document: Document, services: Services) -> Document | None:
    """Takes a document out of the index; a duplicate of it, if there is one, takes its place there.

    An uploaded file is deleted for good: gives None. A file of a folder is still there, so its row
    stays as excluded and sync leaves it out until it is retried. Doing it twice is harmless.
    """
    record = await services.catalog.source(document.source_id)
    source = await stored_source(record, services)
    async for attempt in retrying(services.settings.ingest.index_patience_s, GenerationSwitched):
        with attempt:
            backends = await services.backends(document.collection)
            await give_way([document.id], backends, SyncProgress())
            await backends.index.delete([document.id])
            if record.kind is SourceKind.UPLOAD:
                file = Path(source.record.root) / source.relative_path(document.uri)
                await asyncio.to_thread(file.unlink, missing_ok=True)
                await services.catalog.delete_documents([document.id], backends.generation)
                return None
            excluded = replace(
                document,
                status=DocumentStatus.EXCLUDED,
                chunk_count=0,
                indexed_at=None,
                text_hash="",
                duplicate_of=None,
            )
            await services.catalog.save_documents([excluded], backends.generation)
            return excluded
    raise AssertionError("retrying ends with a result or an error")


def clean_name(name: str) -> str:
    """The last part of a file name, in Unicode's composed form. Raises InvalidQueryError."""
    name = unicodedata.normalize("NFC", name.replace("\\", "/").rsplit("/", 1)[-1]).strip()
    if not name or name.startswith(SKIPPED_PREFIXES) or not name.isprintable():
        raise InvalidQueryError(
            f"{name!r} can't be the name of an uploaded file: it must be printable, not empty, and "
            f"not begin with {' or '.join(SKIPPED_PREFIXES)}."
        )
    if len(name.encode()) > MAX_NAME_BYTES:
        raise InvalidQueryError(f"The file name is longer than {MAX_NAME_BYTES} bytes: shorten it.")
    return name


def _store(content: BinaryIO, target: Path) -> int:
    """Writes beside, then renames: a half-written upload is never indexed. Gives the size in bytes."""
    partial = target.with_name(f".{uuid.uuid4().hex}{PARTIAL_SUFFIX}")
    try:
        with partial.open("wb") as file:
            shutil.copyfileobj(content, file)
            size = file.tell()
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return size
