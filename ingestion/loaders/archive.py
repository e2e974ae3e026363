"""Opening compressed documents (EPUB, Office) without being blown up by them."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ingestion.loaders.limits import LoadLimits
from kb.errors import DocumentTooLarge, UnreadableDocument
from kb.types import FailureCategory

MAX_ENTRIES = 50_000
"""More files inside one document than any real one has; a listing alone would take seconds."""

_ENCRYPTED_FLAG = 0x1


@contextmanager
def open_archive(path: Path, limits: LoadLimits) -> Iterator[zipfile.ZipFile]:
    """The archive, once it is known to unpack to a sane size.

    Reading an entry never yields more bytes than its directory declares, so the declared sizes
    bound what we may get. Damage found inside the `with` block is translated too. Raises
    UnreadableDocument (BROKEN, ENCRYPTED) and DocumentTooLarge.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check(archive, path, limits)
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UnreadableDocument(
            f"The file is damaged: {error}. Copy or download it again.", FailureCategory.BROKEN
        ) from error
    except NotImplementedError as error:
        raise UnreadableDocument(
            f"The file is packed in a way that is not read: {error}. Save it again.",
            FailureCategory.BROKEN,
        ) from error


def _check(archive: zipfile.ZipFile, path: Path, limits: LoadLimits) -> None:
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise DocumentTooLarge(
            f"The file holds {len(entries):,} parts; at most {MAX_ENTRIES:,} are read."
        )
    unpacked = sum(entry.file_size for entry in entries)
    packed = max(path.stat().st_size, 1)
    if unpacked > packed * limits.max_expansion:
        raise DocumentTooLarge(
            f"The file grows {unpacked // packed:,} times when unpacked ({unpacked:,} bytes); "
            f"at most {limits.max_expansion:,} times is allowed (KB_INGEST__MAX_EXPANSION)."
        )
    if any(entry.flag_bits & _ENCRYPTED_FLAG for entry in entries):
        raise UnreadableDocument(
            "The file is encrypted. Save a copy without the password.", FailureCategory.ENCRYPTED
        )
