"""Whether what was read of a Lance table is still all there is to it."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog

from kb.errors import KBError
from retrieval.resident_rows import ResidentRows

SETTLED_S: Final = 2.0
"""What was written so long ago is read into memory. A sync that goes on has every commit read otherwise;
and two writes in one tick of the clock of a file system (some ms) leave the same time behind."""

Stamp = tuple[int, int]

log = structlog.get_logger(__name__)


class Residence:
    """The rows of one table in memory, for as long as nobody writes to it, in whatever process."""

    def __init__(self, folder: Path, read: Callable[[], Awaitable[ResidentRows | None]]) -> None:
        """`read` gives all rows, or None where they are too many."""
        self._versions = folder / "_versions"
        self._read = read
        self._stamp: Stamp | None = None
        self._asked: Stamp | None = None
        self._rows: ResidentRows | None = None
        self._loading: asyncio.Task[None] | None = None

    def rows(self) -> ResidentRows | None:
        """Those of the table as it is now. Where there are none, the second who asks has them read."""
        stamp = self._present_stamp()
        if stamp is not None and stamp == self._stamp:
            return self._rows
        self._rows = None
        if (
            stamp is not None
            and stamp == self._asked
            and self._loading is None
            and _is_settled(stamp)
        ):
            self._loading = asyncio.create_task(self._load_quietly(stamp))
        self._asked = stamp  # One search alone, as from the command line, isn't worth it.
        return None

    async def load(self) -> None:
        """Reads them now. Raises IndexUnavailable."""
        await self._load(self._present_stamp())

    async def close(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loading

    async def _load(self, stamp: Stamp | None) -> None:
        rows = await self._read()
        if stamp is not None and stamp == self._present_stamp():
            self._stamp, self._rows = stamp, rows

    async def _load_quietly(self, stamp: Stamp) -> None:
        try:
            await self._load(stamp)
        except KBError as error:
            # The search that asked for them reads the table itself, and tells what is wrong with it.
            log.warning("index_not_resident", code=error.code, reason=error.message)
        finally:
            self._loading = None

    def _present_stamp(self) -> Stamp | None:
        """Changes with each commit: a manifest is made in this folder. None where there is no table."""
        try:
            status = self._versions.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns


def _is_settled(stamp: Stamp) -> bool:
    return time.time_ns() - stamp[1] > SETTLED_S * 1e9
