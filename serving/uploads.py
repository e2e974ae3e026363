"""Uploaded files: stored first, then indexed one after another in the background."""

import asyncio
import shutil
import unicodedata
import uuid
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import structlog

from ingestion.duplicates import give_way
from ingestion.progress import SyncProgress
from ingestion.sources import SKIPPED_PREFIXES
from kb import ids
from kb.disk import check_free, full_disk_told
from kb.errors import BackendError, GenerationSwitched, InvalidQueryError, KBError
from kb.types import Document, DocumentStatus, SourceKind, SourceRecord
from serving.bootstrap import Services
from serving.patience import retrying
from serving.sources import folder_of_uploads, stored_source, upload_source
from serving.sync import request_of, run_sync

MAX_NAME_BYTES = 200
"""File systems allow 255 bytes; the temporary name is a little longer."""

PARTIAL_SUFFIX = ".partial"
RETRY_S = 2.0
"""Pause before the next upload after one that failed for a reason that passes."""

log = structlog.get_logger(__name__)


class UploadQueue:
    """Indexes uploads in the order of their arrival; what was not done is done after a restart."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._waiting: asyncio.Queue[tuple[SourceRecord, str]] = asyncio.Queue()
        self._worker: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        return self._waiting.qsize()

    async def start(self) -> None:
        for record in await self._services.catalog.sources():
            if record.kind is not SourceKind.UPLOAD:
                continue
            folder = folder_of_uploads(record, self._services)
            if folder.is_dir():
                for leftover in folder.glob(f".*{PARTIAL_SUFFIX}"):
                    leftover.unlink()
                self._waiting.put_nowait((record, ""))
        self._worker = asyncio.create_task(self._work())

    async def stop(self) -> None:
        if self._worker:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)

    async def add(
        self, name: str, content: BinaryIO, collection: str, groups: tuple[str, ...] = ()
    ) -> Document:
        """Stores a file and queues it; the same name replaces the file that had it.

        The document is pending until the worker comes to it. Raises InvalidQueryError for a name
        that no file can have, DiskFull where too little space is free.
        """
        name = clean_name(name)
        folder = self._services.settings.data_dir
        with full_disk_told(folder):
            check_free(folder, self._services.settings.ingest.min_free_mb)
            return await self._add(name, content, collection, groups)

    async def _add(
        self, name: str, content: BinaryIO, collection: str, groups: tuple[str, ...]
    ) -> Document:
        source = await upload_source(collection, self._services, groups)
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
        await _give_way(document, self._services)
        await self._services.catalog.save_documents([document])
        self._waiting.put_nowait((source.record, name))
        return document

    async def _work(self) -> None:
        while True:
            record, name = await self._waiting.get()
            try:
                await run_sync(
                    record,
                    self._services,
                    SyncProgress(),
                    request_of(self._services, scope=name),
                    wait=True,
                )
            except KBError as error:
                log.error(
                    "upload_not_indexed",
                    collection=record.collection,
                    code=error.code,
                    reason=error.message,
                )
                if isinstance(error, BackendError) and error.retryable:
                    self._waiting.put_nowait((record, name))  # It was accepted: nobody asks again.
                    await asyncio.sleep(RETRY_S)
            except Exception:
                log.exception("upload_not_indexed", collection=record.collection)


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
