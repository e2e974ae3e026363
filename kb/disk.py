"""Disks that are full: recognised, and said in a sentence that says what to do."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kb.errors import DiskFull

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
SENTENCE: Final = os.strerror(errno.ENOSPC)
"""In the messages of libraries that give no error number, LanceDB's among them."""
MIB: Final = 1 << 20
REMEDY: Final = "Free space there; what was finished is kept, and work goes on from where it was."


def is_full(error: BaseException) -> bool:
    """Whether an error of the operating system, or what a library made of it, means a full disk."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL
    return SENTENCE in str(error)


@contextmanager
def full_disk_told(place: Path) -> Iterator[None]:
    """Raises DiskFull for what is written below `place`; other errors are left as they are."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise DiskFull(f"The disk of {place} is full. {REMEDY}") from error
        raise


def check_free(place: Path, least_mb: int) -> None:
    """Raises DiskFull where less than so many MiB are free on the disk of an existing folder."""
    free_mb = shutil.disk_usage(place).free // MIB
    if free_mb < least_mb:
        raise DiskFull(
            f"The disk of {place} is almost full: {free_mb} MiB are free, and the setting"
            f" ingest.min_free_mb asks for {least_mb}. {REMEDY}"
        )
