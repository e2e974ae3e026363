"""Index generations as LanceDB tables in one folder."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from kb.errors import IndexSchemaMismatch, NotFoundError
from kb.types import IndexSchema
from retrieval import mapping
from retrieval.lance_index import EXACT_ROWS, LanceIndex, WriteTurns, translated

if TYPE_CHECKING:
    from lancedb import AsyncConnection, AsyncTable

SCALAR_INDEXES = ("id", "document_id", "text_hash")
LONGEST_TERM = 1_000
"""Above what `retrieval.terms` makes: the engine must not drop what it is given."""


class LanceStore:
    """Implements the port `IndexStore`. Nothing is opened before the first call."""

    def __init__(self, folder: Path, exact_rows: int = EXACT_ROWS) -> None:
        self._folder = folder
        self._exact_rows = exact_rows
        self._connection: AsyncConnection | None = None
        self._turns: WriteTurns | None = None

    async def create(self, name: str, schema: IndexSchema) -> LanceIndex:
        connection, turn = await self._connected()
        async with turn():
            if name not in await self._names(connection):
                with translated():
                    table = await connection.create_table(name, schema=mapping.arrow_schema(schema))
                    await _create_indexes(table)
        return await self.open(name, schema)

    async def open(self, name: str, schema: IndexSchema) -> LanceIndex:
        connection, turn = await self._connected()
        if name not in await self._names(connection):
            raise NotFoundError(f"There is no index {name} in {self._folder}.")
        with translated():
            table = await connection.open_table(name)
            there = mapping.index_schema((await table.schema()).metadata)
        if there != schema:
            raise IndexSchemaMismatch(mapping.mismatch(name, there, schema))
        return LanceIndex(table, schema, turn, self._exact_rows)

    async def drop(self, name: str) -> None:
        connection, turn = await self._connected()
        async with turn():
            if name in await self._names(connection):
                with translated():
                    await connection.drop_table(name)

    async def names(self) -> list[str]:
        connection, _ = await self._connected()
        return await self._names(connection)

    async def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    async def _connected(self) -> "tuple[AsyncConnection, WriteTurns]":
        if self._connection is None or self._turns is None:
            import lancedb

            with translated():
                await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
                # Zero: a reader sees what other processes have written since.
                self._connection = await lancedb.connect_async(
                    self._folder, read_consistency_interval=timedelta(0)
                )
            self._turns = WriteTurns(str(self._folder / "write.lock"))
        return self._connection, self._turns

    async def _names(self, connection: "AsyncConnection") -> list[str]:
        names: list[str] = []
        with translated():
            page = await connection.list_tables()
            names += page.tables
            while page.page_token:
                page = await connection.list_tables(page_token=page.page_token)
                names += page.tables
        return sorted(names)


async def _create_indexes(table: "AsyncTable") -> None:
    """The terms are ours, so the engine must only split them on white space."""
    from lancedb.index import FTS, BTree

    words = FTS(
        base_tokenizer="whitespace",
        stem=False,
        lower_case=False,
        remove_stop_words=False,
        ascii_folding=False,
        max_token_length=LONGEST_TERM,
    )
    await table.create_index("terms", config=words)
    for column in SCALAR_INDEXES:
        await table.create_index(column, config=BTree())
