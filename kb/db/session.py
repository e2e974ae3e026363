"""Connections to the catalogue's database, and its failures in our words."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Row, Select, create_engine, event, make_url
from sqlalchemy import exc as sql
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from kb.disk import REMEDY, is_full
from kb.errors import CatalogDiskFull, CatalogUnavailable, ConfigError, NotFoundError

LOCK_TIMEOUT_S = 30.0
"""How long one write waits for another. The longest of ours, 2,000 documents, holds it well under 1 s."""
CONNECT_TIMEOUT_S = 10.0
READERS = 4
POSTGRESQL_DISK_FULL = "53100"
NO_ROOM = 1 << 20
"""Bytes free on a disk below which SQLite's unclear errors are put down to that."""

DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
EXPECTED_URLS = "sqlite:///path/to/catalog.db or postgresql://user:password@host:5432/name"


def parse_url(url: str) -> URL:
    """The URL with our async driver. Raises ConfigError, which never repeats the URL: it holds a password."""
    try:
        parsed = make_url(url)
    except (sql.ArgumentError, ValueError):
        raise ConfigError(f"The catalogue's URL can't be read. Write {EXPECTED_URLS}.") from None
    if parsed.drivername not in DRIVERS:
        raise ConfigError(
            f"The catalogue can't be kept in {parsed.drivername!r}. Write {EXPECTED_URLS}."
        )
    parsed = parsed.set(drivername=DRIVERS[parsed.drivername])
    if is_sqlite(parsed):
        if parsed.database in (None, "", ":memory:"):
            raise ConfigError(f"The catalogue needs a file. Write {EXPECTED_URLS}.")
        return parsed
    return _with_asyncpg_options(parsed)


def _with_asyncpg_options(url: URL) -> URL:
    """libpq's `sslmode` is `ssl` to asyncpg; other options would fail late and unclearly."""
    unknown = sorted(set(url.query) - {"sslmode", "ssl", "host", "port"})
    if unknown:
        raise ConfigError(
            f"The catalogue's URL has options that are not known: {', '.join(unknown)}."
            " Only sslmode, host and port can be given."
        )
    if "sslmode" in url.query:
        mode = url.query["sslmode"]
        url = url.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})
    return url


def is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def place(url: URL) -> str:
    """Where the catalogue is, for messages: without user and password."""
    if is_sqlite(url):
        return f"The catalogue {url.database}"
    return f"The catalogue {url.database!r} on PostgreSQL at {url.host or 'localhost'}:{url.port or 5432}"


class Database:
    """One engine with read and write transactions. Nothing is opened before the first use."""

    def __init__(self, url: str, *, lock_timeout_s: float = LOCK_TIMEOUT_S) -> None:
        self.url = parse_url(url)
        self.place = place(self.url)
        self.lock_timeout_s = lock_timeout_s
        make_engine = _sqlite_engine if is_sqlite(self.url) else _postgresql_engine
        self.engine = make_engine(self.url, lock_timeout_s)
        self._reader = _SQLiteReader(self.url, lock_timeout_s) if is_sqlite(self.url) else None

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that sees one state. Never waits for a writer."""
        with self.translated():
            async with self.engine.connect() as connection:
                yield connection

    async def rows(
        self, statement: Select[Any], parameters: Mapping[str, Any] | None = None
    ) -> Sequence[Row[Any]]:
        """All rows of one statement, which sees one state by itself. For what each search asks.

        A fifth to a third of the time of `read` on SQLite, whose driver goes to its thread for every step of it.
        """
        with self.translated():
            if self._reader is not None:
                return await self._reader.rows(statement, parameters)
            async with self.engine.connect() as connection:
                rows: Sequence[Row[Any]] = (await connection.execute(statement, parameters)).all()
                return rows

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that is committed at the end, or rolled back by an exception."""
        with self.translated():
            async with self.engine.connect() as connection:
                await connection.execution_options(**{WRITES: True})
                async with connection.begin():
                    yield connection

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Driver errors as ours. A wrong statement is a mistake in the code and stays what it is."""
        try:
            yield
        except sql.IntegrityError as error:
            if not _is_foreign_key_violation(error):
                raise
            raise NotFoundError(
                f"{self.place} no longer holds the collection or source this belongs to."
                " It was probably deleted meanwhile."
            ) from error
        except (sql.ProgrammingError, sql.DataError):
            raise
        except (sql.DBAPIError, sql.TimeoutError, OSError) as error:
            if self._disk_is_full(error):
                raise CatalogDiskFull(
                    f"{self.place} can't be written: its disk is full. {REMEDY}"
                ) from error
            raise CatalogUnavailable(f"{self.place} {self._reason(error)}") from error

    def _disk_is_full(self, error: Exception) -> bool:
        """SQLite says so only where a page could not be written: a file beside its own that can't be
        made or lengthened is another error to it."""
        cause = _cause(error)
        if isinstance(cause, sqlite3.Error):
            code = _primary_code(cause)
            unclear = code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
            return code == sqlite3.SQLITE_FULL or (unclear and self._has_no_room())
        return getattr(cause, "sqlstate", None) == POSTGRESQL_DISK_FULL or (
            isinstance(cause, OSError) and is_full(cause)
        )

    def _has_no_room(self) -> bool:
        folder = Path(self.url.database or "").parent
        return folder.is_dir() and shutil.disk_usage(folder).free < NO_ROOM

    def _reason(self, error: Exception) -> str:
        cause = _cause(error)
        locked = (
            f"has been locked by another process for {self.lock_timeout_s:g} s."
            " Try again when that process is done."
        )
        if isinstance(cause, sqlite3.Error):
            return {
                sqlite3.SQLITE_BUSY: locked,
                sqlite3.SQLITE_READONLY: "can't be written: the file or its folder is read-only for this user.",
                sqlite3.SQLITE_CANTOPEN: "can't be opened. Check that its folder exists and that this user may use it.",
                sqlite3.SQLITE_NOTADB: "is not an SQLite database. Name another file, or restore a backup.",
                sqlite3.SQLITE_CORRUPT: "is damaged. Restore a backup.",
            }.get(_primary_code(cause), f"failed: {cause}.")
        return {
            "28P01": "refuses the user name or the password.",
            "28000": "refuses this user.",
            "3D000": "does not exist. Create the database first.",
            "53300": "has too many connections.",
            "55P03": locked,
        }.get(
            getattr(cause, "sqlstate", None) or "",
            f"can't be reached or failed: {_one_line(cause)}.",
        )

    async def close(self) -> None:
        try:
            if self._reader is not None:
                await self._reader.close()
        finally:
            await self.engine.dispose()


def _cause(error: Exception) -> BaseException | None:
    return error.orig if isinstance(error, sql.DBAPIError) else error


def _primary_code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _is_foreign_key_violation(error: sql.IntegrityError) -> bool:
    code = getattr(error.orig, "sqlite_errorcode", None) or getattr(error.orig, "sqlstate", None)
    return code in (sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY, "23503")


def _one_line(cause: BaseException | None) -> str:
    lines = str(cause).splitlines()
    return lines[0].rstrip(".") if lines else type(cause).__name__


# --- Engines ------------------------------------------------------------------------------------

WRITES = "kb_writes"
"""Execution option of a connection whose next transaction writes."""


def _sqlite_engine(url: URL, lock_timeout_s: float) -> AsyncEngine:
    engine = create_async_engine(url, hide_parameters=True)
    _prepare_each_connection(engine.sync_engine, lock_timeout_s)

    @event.listens_for(engine.sync_engine, "do_connect")
    def probe(_dialect: Any, _record: Any, arguments: Any, options: Any) -> None:
        # A failed connect leaves aiosqlite's (0.22) thread reporting to a loop that may be closed,
        # which prints a stray traceback. So a file that can't be opened fails here, without a thread.
        sqlite3.connect(*arguments, **options).close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and then writes fails at once when another has written in
        # between. IMMEDIATE takes the write lock at the start, and waits for it.
        writes = connection.get_execution_options().get(WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _prepare_each_connection(engine: Engine, lock_timeout_s: float) -> None:
    pragmas = (
        f"PRAGMA busy_timeout = {int(lock_timeout_s * 1000)}",
        "PRAGMA foreign_keys = ON",
        # One fsync a commit. NORMAL may lose the last commits when the power fails: most would only
        # be done again, but a document taken out or a right withdrawn would silently be back.
        "PRAGMA synchronous = FULL",
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        # Python's driver begins transactions when it sees fit; None leaves that to us.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()


class _SQLiteReader:
    """Single statements, each whole in one of a few threads of its own."""

    def __init__(self, url: URL, lock_timeout_s: float) -> None:
        self._engine = create_engine(url.set(drivername="sqlite"), hide_parameters=True)
        _prepare_each_connection(self._engine, lock_timeout_s)
        # Not the loop's own threads: where those are busy, searches would wait for them.
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="catalog")

    async def rows(
        self, statement: Select[Any], parameters: Mapping[str, Any] | None
    ) -> Sequence[Row[Any]]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._rows, statement, parameters)

    async def close(self) -> None:
        try:
            await asyncio.to_thread(self._threads.shutdown)
        finally:
            self._engine.dispose()

    def _rows(
        self, statement: Select[Any], parameters: Mapping[str, Any] | None
    ) -> Sequence[Row[Any]]:
        with self._engine.connect() as connection:
            return connection.execute(statement, parameters).all()


def _postgresql_engine(url: URL, lock_timeout_s: float) -> AsyncEngine:
    return create_async_engine(
        url,
        hide_parameters=True,
        pool_pre_ping=True,  # survives a restart of the server
        connect_args={
            "timeout": CONNECT_TIMEOUT_S,
            "server_settings": {
                "application_name": "kb",
                "lock_timeout": str(int(lock_timeout_s * 1000)),
                "jit": "off",  # compiling costs more than any statement of ours
            },
        },
    )
