"""Parsing and chunking in processes that can be killed: `ProcessParser`, and `InlineParser` without any.

Foreign files make parsers loop, eat memory and crash in native code. Each slot is a pebble pool of
one process, so a death is always that of the one file the process was given.
"""

import asyncio
import multiprocessing
import os
import signal
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from pathlib import Path

from pebble import ProcessExpired, ProcessPool

from ingestion import loaders, parse_process
from ingestion.chunking import Chunker
from ingestion.loaders import LoadLimits
from ingestion.parse_process import Load, ProcessSettings
from kb.errors import DocumentError, ModelUnavailable, ParseTimeout, UnreadableDocument
from kb.settings import IngestSettings
from kb.types import FailureCategory, PreparedDocument

FILES_PER_PROCESS = 2_000
"""After so many files a process is replaced, because parser libraries leak; a new one costs 1.5 s."""

FILES_AT_HAND = 2
"""Files a process is given at a time: it reads one while the next one is on its way (115 > 147
small files a second)."""

_CONTEXT = multiprocessing.get_context("forkserver")

# How native code ends when it gets no memory: Rust and C++ abort, the kernel kills.
_SIGNALS_OF_NO_MEMORY = frozenset({signal.SIGABRT, signal.SIGKILL})
_MIB = 1 << 20


def load_limits(settings: IngestSettings) -> LoadLimits:
    return LoadLimits(
        max_bytes=settings.max_file_mb * _MIB,
        max_characters=settings.max_characters,
        max_expansion=settings.max_expansion,
    )


def start_fork_server() -> None:
    """Starts the process that parsing processes are forked from, and does not wait for it.

    It imports the main program again, which takes seconds: time to load a model meanwhile.
    """
    # `__main__` is in the list because each process would import it again otherwise.
    _CONTEXT.set_forkserver_preload(["__main__", parse_process.__name__])
    forkserver.ensure_running()


class InlineParser:
    """Implements the port `Parser` in the caller's own thread, for tests: nothing can be killed."""

    def __init__(
        self, settings: IngestSettings, chunker: Chunker, load: Load = loaders.load
    ) -> None:
        self._limits = load_limits(settings)
        self._chunker = chunker
        self._load = load

    async def prepare(self, path: Path, document_id: str) -> PreparedDocument:
        return parse_process.prepare(self._load, self._limits, self._chunker, path, document_id)

    async def close(self) -> None:
        pass


class ProcessParser:
    """Implements the port `Parser`. Its processes start when they are first needed.

    `max_tokens` bounds a chunk; `tokenizer_file` is a `tokenizers` JSON file. `load` must be
    importable by name, because it runs in other processes. Twice as many callers as there are
    processes are served at once; the others wait in line.
    """

    def __init__(
        self,
        settings: IngestSettings,
        max_tokens: int,
        tokenizer_file: Path,
        load: Load = loaders.load,
    ) -> None:
        process_settings = ProcessSettings(
            load, load_limits(settings), settings.parse_memory_mb, max_tokens, tokenizer_file
        )
        count = settings.parse_processes or max(1, (os.cpu_count() or 1) // 2)
        self._slots = [_Slot(process_settings, settings.parse_timeout_s) for _ in range(count)]
        self._closed = False
        # Last in, first out: few files need few processes.
        self._free: asyncio.LifoQueue[_Slot] = asyncio.LifoQueue()
        for slot in self._slots * FILES_AT_HAND:
            self._free.put_nowait(slot)

    async def prepare(self, path: Path, document_id: str) -> PreparedDocument:
        slot = await self._free.get()
        try:
            if self._closed:  # it waited in line meanwhile
                raise asyncio.CancelledError
            return await slot.run(path, document_id)
        finally:
            self._free.put_nowait(slot)

    async def close(self) -> None:
        """Kills what is still running; callers get CancelledError, from now on too. Twice is harmless."""
        self._closed = True
        await asyncio.gather(*(slot.close() for slot in self._slots))


class _Slot:
    """One process that is replaced whenever it dies."""

    def __init__(self, settings: ProcessSettings, timeout_s: float) -> None:
        self._settings = settings
        self._timeout_s = timeout_s
        self._pool: ProcessPool | None = None
        self._replacing = asyncio.Lock()
        self._tasks: set[asyncio.Future[PreparedDocument]] = set()

    async def run(self, path: Path, document_id: str) -> PreparedDocument:
        try:
            return await self._run_once(path, document_id)
        except BrokenProcessPool:
            # It died before it said that it had begun: between two files perhaps, so try again.
            try:
                return await self._run_once(path, document_id)
            except BrokenProcessPool as error:
                raise _crash("at once") from error

    async def _run_once(self, path: Path, document_id: str) -> PreparedDocument:
        pool = await self._running_pool()
        task = pool.schedule(parse_process.run, args=(path, document_id), timeout=self._timeout_s)
        running = asyncio.wrap_future(task)
        self._tasks.add(running)
        try:
            return await running
        except TimeoutError as error:
            raise ParseTimeout(
                f"Reading the file took longer than {self._timeout_s:g} seconds. "
                "Split it, or raise KB_INGEST__PARSE_TIMEOUT_S."
            ) from error
        except ProcessExpired as error:
            raise self._death(error.exitcode) from error
        finally:
            self._tasks.discard(running)

    async def close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await self._stop()

    async def _stop(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()  # type: ignore[no-untyped-call]
            await asyncio.to_thread(pool.join)

    async def _running_pool(self) -> ProcessPool:
        async with self._replacing:
            if self._pool is None or not self._pool.active:
                await self._stop()
                self._pool = await asyncio.to_thread(self._new_pool)
            return self._pool

    def _new_pool(self) -> ProcessPool:
        if not self._settings.tokenizer_file.is_file():
            raise ModelUnavailable(f"The tokenizer {self._settings.tokenizer_file} is missing.")
        start_fork_server()
        pool = ProcessPool(
            max_workers=1,
            max_tasks=FILES_PER_PROCESS,
            initializer=parse_process.start,
            initargs=(self._settings,),
            context=_CONTEXT,
        )
        assert pool.active  # asking starts it, which waits for the fork server
        return pool

    def _death(self, exit_code: int) -> DocumentError:
        if -exit_code in _SIGNALS_OF_NO_MEMORY:
            message = parse_process.out_of_memory_message(self._settings.memory_mb)
            return UnreadableDocument(message, FailureCategory.OUT_OF_MEMORY)
        return _crash(
            signal.Signals(-exit_code).name if exit_code < 0 else f"exit status {exit_code}"
        )


def _crash(how: str) -> UnreadableDocument:
    return UnreadableDocument(
        f"The parser crashed on this file ({how}). Open it in its own program and save it again.",
        FailureCategory.BROKEN,
    )
