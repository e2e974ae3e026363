"""The `KeyStore` port on SQLite or PostgreSQL."""

from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Update, insert, select, update

from kb.db import tables
from kb.db.session import Database
from kb.db.statements import values_of
from kb.errors import NotFoundError
from kb.types import ApiKey, Scope


class SQLKeys:
    """Rows are never deleted: a revoked key stays, so that revoking the last one opens nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._exist = False

    async def exist(self) -> bool:
        if not self._exist:  # Once true, true for good.
            first = select(tables.api_keys.c.id).limit(1)
            self._exist = bool(await self._database.rows(first))
        return self._exist

    async def add(self, key: ApiKey, secret_hash: str) -> None:
        row = values_of(key) | {"secret_hash": secret_hash}
        async with self._database.write() as connection:
            await connection.execute(insert(tables.api_keys), row)

    async def list(self) -> list[ApiKey]:
        query = select(tables.api_keys).order_by(tables.api_keys.c.created_at, tables.api_keys.c.id)
        async with self._database.read() as connection:
            return [_key(row) for row in await connection.execute(query)]

    async def find(self, key_id: str) -> tuple[ApiKey, str] | None:
        query = select(tables.api_keys).where(tables.api_keys.c.id == key_id)
        rows = await self._database.rows(query)
        return (_key(rows[0]), str(rows[0].secret_hash)) if rows else None

    async def set_secret(self, key_id: str, secret_hash: str) -> None:
        await self._change(
            _update(key_id).where(tables.api_keys.c.revoked_at.is_(None)),
            key_id,
            secret_hash=secret_hash,
        )

    async def revoke(self, key_id: str, at: datetime) -> None:
        await self._change(_update(key_id), key_id, revoked_at=at)

    async def used(self, key_id: str, at: datetime) -> None:
        await self._change(_update(key_id), key_id, last_used_at=at)

    async def _change(self, statement: Update, key_id: str, **values: Any) -> None:
        async with self._database.write() as connection:
            if (await connection.execute(statement.values(**values))).rowcount == 0:
                raise NotFoundError(f"There is no key {key_id!r}, or it is revoked.")


def _update(key_id: str) -> Update:
    return update(tables.api_keys).where(tables.api_keys.c.id == key_id)


def _key(row: Row[Any]) -> ApiKey:
    values = {field.name: row._mapping[field.name] for field in fields(ApiKey)}
    return ApiKey(**values | {"scopes": tuple(map(Scope, row.scopes))})
