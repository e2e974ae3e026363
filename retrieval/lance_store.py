"""Index generations as LanceDB tables in one folder."""

import asyncio
import json
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kb.errors import IndexSchemaMismatch, NotFoundError
from kb.types import IndexSchema
from retrieval import mapping
from retrieval.lance_index import EXACT_ROWS, LanceIndex, Shared, translated, write_lock
from retrieval.lance_residence import Stamp

if TYPE_CHECKING:
    from lancedb.db import AsyncConnection
    from lancedb.table import AsyncTable

LOCK_NAME: Final = ".write.lock"
ALIASES_NAME: Final = ".aliases.json"


class LanceStore:
    """The `IndexStore` port. Nothing is opened or written before the first call."""

    def __init__(self, folder: Path, *, exact_rows: int = EXACT_ROWS) -> None:
        # Absolute, because LanceDB takes some relative names for addresses of its cloud.
        self._folder = folder.absolute()
        self._exact_rows = exact_rows
        self._connection: AsyncConnection | None = None
        self._shared = Shared()
        self._opened: dict[str, tuple[Stamp, IndexSchema, LanceIndex]] = {}

    async def create(self, name: str, schema: IndexSchema) -> LanceIndex:
        connection = await self._connect()
        async with write_lock(self._lock_file):
            with translated(name):
                if name in await _table_names(connection) and self._is_made(name):
                    table = await connection.open_table(name)
                else:
                    table = await connection.create_table(
                        name, schema=mapping.arrow_schema(schema), exist_ok=True
                    )
            await self._check(table, schema)
            with translated(name):
                await _ensure_text_index(table)
        return self._index(table, schema)

    def _is_made(self, name: str) -> bool:
        """False for what a creation leaves when it is cut off: no rows, and no version of the table."""
        place = self._folder / f"{name}.lance"
        return any(chain(place.glob("_versions/*.manifest"), place.glob("data/*")))

    async def open(self, name: str, schema: IndexSchema) -> LanceIndex:
        """The same object for as long as it is the same table: what it holds in memory is worth keeping."""
        folder = self._folder_stamp(name)
        known = self._opened.get(name)
        if folder is not None and known is not None and known[:2] == (folder, schema):
            return known[2]
        index = await self._open(name, schema)
        for other, (stamp, _, _) in list(self._opened.items()):
            if stamp != self._folder_stamp(other):
                await self._let_go(other)
        if folder is not None:
            await self._let_go(name)
            self._opened[name] = folder, schema, index
        return index

    async def _let_go(self, name: str) -> None:
        """Does not close it: a search may go on."""
        if opened := self._opened.pop(name, None):
            await opened[2].let_go()

    def _folder_stamp(self, name: str) -> Stamp | None:
        """Another one when a table is made anew under its name. None where there is no table."""
        try:
            status = (self._folder / f"{name}.lance").stat()
        except OSError:
            return None
        return status.st_ino, status.st_ctime_ns

    async def _open(self, name: str, schema: IndexSchema) -> LanceIndex:
        connection = await self._connect()
        with translated(name):
            if name not in await _table_names(connection):
                raise NotFoundError(
                    f"There is no index {name} in {self._folder}. Ingest the documents again."
                )
            table = await connection.open_table(name)
        await self._check(table, schema)
        return self._index(table, schema)

    async def drop(self, name: str) -> None:
        connection = await self._connect()
        async with write_lock(self._lock_file):
            with translated(name):
                await self._let_go(name)
                if name in await _table_names(connection):
                    await connection.drop_table(name, ignore_missing=True)
                aliases = self._aliases()
                if name in aliases.values():
                    self._keep({alias: held for alias, held in aliases.items() if held != name})

    async def names(self) -> list[str]:
        connection = await self._connect()
        with translated("store"):
            return await _table_names(connection)

    async def alias(self, alias: str, name: str) -> None:
        connection = await self._connect()
        async with write_lock(self._lock_file):
            with translated(name):
                if name not in await _table_names(connection):
                    raise NotFoundError(f"There is no index {name}, so it can't be called {alias}.")
                self._keep(self._aliases() | {alias: name})

    async def aliased(self, alias: str) -> str | None:
        with translated("store"):
            return self._aliases().get(alias)

    async def problems(self) -> list[str]:
        """Lance needs nothing but its folder, whose troubles show when it is written to."""
        return []

    async def close(self) -> None:
        for _, _, index in self._opened.values():
            await index.close()
        self._opened = {}
        if self._connection is not None:
            self._connection.close()  # type: ignore[no-untyped-call]
            self._connection = None

    def _aliases(self) -> dict[str, str]:
        """Lance has no aliases: they lie in a file beside its tables."""
        file = self._folder / ALIASES_NAME
        aliases: dict[str, str] = json.loads(file.read_bytes()) if file.exists() else {}
        return aliases

    def _keep(self, aliases: dict[str, str]) -> None:
        """Whoever reads meanwhile has the old file or the new one. Call it under the write lock."""
        new = self._folder / f"{ALIASES_NAME}.new"
        new.write_text(json.dumps(aliases), "utf-8")
        new.replace(self._folder / ALIASES_NAME)

    @property
    def _lock_file(self) -> Path:
        return self._folder / LOCK_NAME

    def _index(self, table: "AsyncTable", schema: IndexSchema) -> LanceIndex:
        return LanceIndex(
            table, schema, self._lock_file, exact_rows=self._exact_rows, shared=self._shared
        )

    async def _check(self, table: "AsyncTable", schema: IndexSchema) -> None:
        with translated(table.name):
            built = mapping.stored_schema(await table.schema())
        mismatch = mapping.difference(table.name, built, schema)
        if mismatch:
            table.close()  # type: ignore[no-untyped-call]
            raise IndexSchemaMismatch(mismatch)

    async def _connect(self) -> "AsyncConnection":
        if self._connection is None:
            from datetime import timedelta

            # Importing lancedb takes seconds: not while the event loop waits.
            lancedb = await asyncio.to_thread(__import__, "lancedb")
            with translated("store"):
                self._folder.mkdir(parents=True, exist_ok=True)
                # Zero: each read looks for commits of other processes.
                self._connection = await lancedb.connect_async(
                    self._folder, read_consistency_interval=timedelta(0)
                )
        return self._connection


async def _table_names(connection: "AsyncConnection") -> list[str]:
    names: list[str] = []
    token: str | None = None
    while True:
        page = await connection.list_tables(page_token=token)
        names.extend(page.tables)
        token = page.page_token
        if not token:
            return names


async def _ensure_text_index(table: "AsyncTable") -> None:
    """Makes the full-text index where it is not there yet: a crash may have come between."""
    from lancedb.index import FTS

    if any("terms" in index.columns for index in await table.list_indices()):
        return
    # The terms are ready: split on white space and change nothing. All of this is on by default.
    as_they_are = FTS(
        base_tokenizer="whitespace",
        max_token_length=None,
        lower_case=False,
        stem=False,
        remove_stop_words=False,
        ascii_folding=False,
    )
    await table.create_index("terms", config=as_they_are)
