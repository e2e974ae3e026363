"""What runs inside a parsing process: load one file and cut it, within a bound of memory."""

import fcntl
import multiprocessing
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ingestion.chunking import Chunker, token_counter
from ingestion.loaders import LoadLimits
from kb import ids
from kb.errors import DocumentError, UnreadableDocument
from kb.types import FailureCategory, ParsedDocument, PreparedDocument

Load = Callable[[Path, LoadLimits], ParsedDocument]

NICENESS = 5
"""Parsing gives way to the embedder, whose threads wait for the slowest of them at every step."""

_MIB = 1 << 20
_PAGE = resource.getpagesize()
_OWN_MEMORY = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """What a parsing process is started with; pickles."""

    load: Load
    limits: LoadLimits
    memory_mb: int
    max_tokens: int
    tokenizer_file: Path


def prepare(
    load: Load, limits: LoadLimits, chunker: Chunker, path: Path, document_id: str
) -> PreparedDocument:
    """Loads and cuts one file. Raises DocumentError, or MemoryError."""
    try:
        parsed = load(path, limits)
    except (DocumentError, MemoryError):
        raise
    # Loaders promise DocumentError only; one that breaks its promise must not end a whole run.
    except Exception as error:
        raise UnreadableDocument(
            f"The file could not be read ({type(error).__name__}: {error}).", FailureCategory.BROKEN
        ) from error
    chunks = chunker.chunks(parsed, document_id)
    text_hash = ids.document_text_hash(parsed.text)
    return PreparedDocument(parsed.title, parsed.media_type, parsed.warnings, chunks, text_hash)


class _State:
    """Set once in each process by `start`."""

    settings: ProcessSettings
    chunker: Chunker


def start(settings: ProcessSettings) -> None:
    """Readies this process. It dies with the process that started it, even in the middle of a file."""
    _die_with_parent()
    os.nice(NICENESS)
    _State.settings = settings
    _State.chunker = Chunker(token_counter(settings.tokenizer_file), settings.max_tokens)


def run(path: Path, document_id: str) -> PreparedDocument:
    settings = _State.settings
    try:
        with _bounded_memory(settings.memory_mb):
            return prepare(settings.load, settings.limits, _State.chunker, path, document_id)
    except MemoryError as error:
        raise UnreadableDocument(
            out_of_memory_message(settings.memory_mb), FailureCategory.OUT_OF_MEMORY
        ) from error


def out_of_memory_message(memory_mb: int) -> str:
    return (
        f"Reading the file took more than {memory_mb} MiB of memory. "
        "Split it, or raise KB_INGEST__PARSE_MEMORY_MB."
    )


@contextmanager
def _bounded_memory(memory_mb: int) -> Iterator[None]:
    """Lets this process take `memory_mb` more address space than it has now.

    The kernel enforces it, also against native code that never gives the interpreter a turn. Where
    there is no /proc (macOS, which ignores this limit anyway) only the time limit protects.
    """
    if not _OWN_MEMORY.exists():
        yield
        return
    now = int(_OWN_MEMORY.read_text().split()[0]) * _PAGE
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = now + memory_mb * _MIB
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    try:
        yield
    finally:  # sending the result back must not fail
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _die_with_parent() -> None:
    """Asks the kernel for SIGIO, which ends a process, when our main process is gone.

    The pipe from it hangs up then. No thread of ours is needed, so this works in the middle of
    native code too. (The fork server is no help: it lives as long as its children.)
    """
    parent = multiprocessing.parent_process()
    if parent is None:  # not a child: nothing to follow
        return
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(parent.sentinel, fcntl.F_GETFL)
    fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, flags | os.O_ASYNC)
    if not parent.is_alive():  # it died before we asked
        os._exit(1)
