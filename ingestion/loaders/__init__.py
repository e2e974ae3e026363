"""Loaders: one module a format, each turning one file into titled, structured text.

`load` is the only way in: it checks sizes, finds the format, and lets the format's module read.
"""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from ingestion.loaders.blocks import clean
from ingestion.loaders.detect import detect
from ingestion.loaders.limits import LoadLimits
from ingestion.loaders.registry import Format
from kb.errors import DocumentError, DocumentTooLarge, UnreadableDocument
from kb.types import FailureCategory, ParsedDocument

__all__ = ["LoadLimits", "load"]


class _Loader(Protocol):
    def load(self, path: Path, limits: LoadLimits) -> ParsedDocument: ...


def load(path: Path, limits: LoadLimits) -> ParsedDocument:
    """Reads one file. The text is valid Unicode with \\n line ends and no blank blocks.

    Raises DocumentError only: every other failure is turned into one. MemoryError passes through,
    because the parsing process has to die of it.
    """
    try:
        _check_size(path, limits)
        entry = detect(path)
        parsed = _loader(entry).load(path, limits)
    except (DocumentError, MemoryError):
        raise
    except OSError as error:
        raise UnreadableDocument(
            f"The file cannot be opened: {error.strerror or error}.", FailureCategory.UNREADABLE
        ) from error
    except RecursionError as error:
        raise UnreadableDocument(
            "The file is nested too deeply to be read.", FailureCategory.BROKEN
        ) from error
    # Parser libraries raise whatever they like on damaged input. One file must not end a run, and
    # the cause travels along for the log.
    except Exception as error:
        raise UnreadableDocument(
            f"The file could not be read and may be damaged ({type(error).__name__}: {error}). "
            "Open it in its own program and save it again.",
            FailureCategory.BROKEN,
        ) from error
    return _finished(parsed, limits)


def _check_size(path: Path, limits: LoadLimits) -> None:
    size = path.stat().st_size
    if size > limits.max_bytes:
        raise DocumentTooLarge(
            f"The file has {size / 2**20:,.0f} MiB; at most {limits.max_bytes / 2**20:,.0f} are read. "
            "Split it, or raise KB_INGEST__MAX_FILE_MB."
        )


def _loader(entry: Format) -> _Loader:
    return cast(_Loader, import_module(f"{__name__}.{entry.module}"))


def _finished(parsed: ParsedDocument, limits: LoadLimits) -> ParsedDocument:
    """The document with every text clean; refuses one without text or with too much of it."""
    cleaned = (replace(block, text=clean(block.text)) for block in parsed.blocks)
    blocks = tuple(block for block in cleaned if block.text)
    if not blocks:
        raise UnreadableDocument(
            "The file holds no text to index. If it is a scan or a picture, run text recognition "
            "(OCR) on it first.",
            FailureCategory.NO_TEXT,
        )
    characters = sum(len(block.text) for block in blocks)
    if characters > limits.max_characters:
        raise DocumentTooLarge(
            f"The file holds {characters:,} characters of text; at most {limits.max_characters:,} are "
            "read. Split it, or raise KB_INGEST__MAX_CHARACTERS."
        )
    return replace(parsed, blocks=blocks)
