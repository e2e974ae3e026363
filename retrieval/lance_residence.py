"""Whether what was read of a Lance table is still all there is to it, and which tables are worth the memory."""

import asyncio
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
MOST_BYTES: Final = 256 << 20
"""What the tables of one store may take together, the objects made of their rows included."""
IDLE_S: Final = 60.0
"""A table that nobody has searched for so long makes room for another; sooner they would only take turns."""

Stamp = tuple[int, int]

log = structlog.get_logger(__name__)


class Residence:
    """The rows of one table in memory, for as long as nobody writes to it, in whatever process."""

    def __init__(
        self,
        folder: Path,
        read: Callable[[], Awaitable[ResidentRows | None]],
        neighbours: "Neighbours | None" = None,
    ) -> None:
        """`read` gives all rows, or None where they are too many."""
        self._versions = folder / "_versions"
        self._read = read
        self._neighbours = neighbours or Neighbours()
        self._stamp: Stamp | None = None
        self._asked: Stamp | None = None
        self._rows: ResidentRows | None = None
        self._loading: asyncio.Task[None] | None = None

    def rows(self) -> ResidentRows | None:
        """Those of the table as it is now. Where there are none, the second who asks has them read."""
        stamp = self._present_stamp()
        if stamp is not None and stamp == self._stamp:
            if self._rows is not None:
                self._neighbours.searched(self)
            return self._rows
        self.forget()
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
        """Reads them now, settled or not. Raises IndexUnavailable."""
        await self._load(self._present_stamp())

    def forget(self) -> None:
        """Frees the memory. The rows may be read again."""
        self._stamp = self._rows = None
        self._neighbours.left(self)

    async def close(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait([self._loading])
        self.forget()

    async def _load(self, stamp: Stamp | None) -> None:
        rows = await self._read()
        if stamp is None or stamp != self._present_stamp():
            return
        if rows is not None and not self._neighbours.admits(self, rows.nbytes):
            rows = None
        self._stamp, self._rows = stamp, rows

    async def _load_quietly(self, stamp: Stamp) -> None:
        try:
            await self._load(stamp)
        except (KBError, MemoryError) as error:
            # Searches read the table themselves, and tell what is wrong with it. Nobody tries this again
            # before the table has changed.
            log.warning("index_not_resident", reason=repr(error))
            self._stamp, self._rows = stamp, None
        finally:
            self._loading = None

    def _present_stamp(self) -> Stamp | None:
        """Changes with each commit: a manifest is made in this folder. None where there is no table."""
        try:
            status = self._versions.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns


class Neighbours:
    """The tables of one store that are in memory, with their sizes and when each was last searched."""

    def __init__(
        self, most_bytes: int = MOST_BYTES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most_bytes
        self._clock = clock
        self._tables: dict[Residence, tuple[int, float]] = {}

    def admits(self, residence: Residence, size: int) -> bool:
        """Whether there is room, or could be made; then it is taken. Who is not admitted may ask when it changes."""
        before = self._clock() - IDLE_S
        idle = [table for table, (_, searched) in self._tables.items() if searched < before]
        busy = sum(taken for table, (taken, _) in self._tables.items() if table not in idle)
        if busy + size > self._most:
            return False
        for table in idle:
            if self._taken + size > self._most:
                table.forget()
        self._tables[residence] = size, self._clock()
        return True

    def searched(self, residence: Residence) -> None:
        size, _ = self._tables[residence]
        self._tables[residence] = size, self._clock()

    def left(self, residence: Residence) -> None:
        self._tables.pop(residence, None)

    @property
    def _taken(self) -> int:
        return sum(size for size, _ in self._tables.values())


def _is_settled(stamp: Stamp) -> bool:
    return time.time_ns() - stamp[1] > SETTLED_S * 1e9
