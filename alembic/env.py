"""Alembic's entry point. The product calls it through `kb.db.migrate` with an open connection.

For developers: `alembic -x url=sqlite:///build/dev.db revision --autogenerate -m "what changes"`.
"""

import asyncio
from typing import Any, Literal

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection, Enum
from sqlalchemy.types import TypeDecorator

from kb.db.migrate import in_migration
from kb.db.tables import metadata


def plain_type(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Migrations are history: they name plain types, not ours, which may change later."""
    if kind == "type" and isinstance(item, Enum):
        return f"sa.String(length={item.length})"
    if kind == "type" and isinstance(item, TypeDecorator):
        return f"sa.{item.impl_instance!r}"
    return False


def run_migrations(connection: Connection, _place: str = "") -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transaction_per_migration=False,  # all or nothing
        transactional_ddl=True,  # true of SQLite too, as kb.db.session begins transactions
        render_as_batch=True,  # SQLite changes a table by copying it
        compare_type=True,
        render_item=plain_type,
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    raise CommandError("Migrations need a database: they can't be written as SQL.")

open_connection = context.config.attributes.get("connection")
if open_connection is not None:
    run_migrations(open_connection)
else:
    url = context.get_x_argument(as_dictionary=True).get("url")
    if not url:
        raise CommandError("Name a database: alembic -x url=sqlite:///build/dev.db ...")
    asyncio.run(in_migration(url, run_migrations))
