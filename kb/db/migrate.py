"""Brings the catalogue's tables up to what this code expects. See docs/catalogue.md.

Alembic is imported inside functions: it takes a second, and most starts find nothing to do.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import AsyncFileLock
from filelock import Timeout as FileLockTimeout
from sqlalchemy import URL, Connection, event, inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection

from kb.db.session import Database, is_sqlite
from kb.db.tables import SCHEMA_REVISION
from kb.errors import CatalogUnavailable, ConfigError

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATION_LOCK_TIMEOUT_S = 600.0
"""How long a starting process waits for another that is migrating."""
MIGRATION_LOCK_ID = 0x6B625F6361745F6C
"""PostgreSQL's advisory locks are numbers; this one spells "kb_cat_l"."""

INSTALLED_SCRIPTS = Path(__file__).parent / "migrations"
CHECKOUT_SCRIPTS = Path(__file__).parents[2] / "alembic"

TOO_NEW = (
    "was written by a newer version of this program (schema {found}, this version knows {known})."
    " Upgrade this program, or restore a backup from before the upgrade."
)


async def migrate(url: str, *, scripts: Path | None = None) -> None:
    """Creates the tables, or upgrades them. Twice changes nothing; processes take turns.

    All steps are one transaction: a crash leaves the catalogue as it was. `scripts` is for tests.
    Raises ConfigError when the catalogue was written by a newer version of this program, and
    CatalogUnavailable.
    """
    if scripts is None and await _is_current(url):
        return

    def upgrade(connection: Connection, place: str) -> None:
        from alembic import command

        config = alembic_config(scripts or find_scripts(), connection)
        _refuse_newer(config, connection, place)
        command.upgrade(config, "head")

    await in_migration(url, upgrade)


async def in_migration(url: str, action: Callable[[Connection, str], None]) -> None:
    """Runs `action(connection, place)` as the only migrating process, in one transaction."""
    database = Database(url, lock_timeout_s=MIGRATION_LOCK_TIMEOUT_S)
    try:
        async with _one_at_a_time(database), database.write() as connection:
            if not is_sqlite(database.url):
                lock = text("SELECT pg_advisory_xact_lock(:id)")
                await connection.execute(lock, {"id": MIGRATION_LOCK_ID})
            await connection.run_sync(action, database.place)
            await _check_foreign_keys(connection, database)
    finally:
        await database.close()


async def check_schema(connection: AsyncConnection, place: str) -> None:
    """Raises ConfigError unless the tables are those this code expects."""
    found = await _revision(connection)
    if found is None:
        raise ConfigError(f"{place} has no tables yet. `kb up` creates them.")
    if found != SCHEMA_REVISION:
        raise ConfigError(
            f"{place} has schema {found}, but this version of the program needs {SCHEMA_REVISION}."
            " `kb up` brings an older one up to date; a newer one needs a newer program."
        )


async def _is_current(url: str) -> bool:
    database = Database(url)
    if is_sqlite(database.url) and not _file(database.url).exists():
        return False  # asking would create the file, outside the lock
    try:
        async with database.read() as connection:
            return await _revision(connection) == SCHEMA_REVISION
    finally:
        await database.close()


async def _revision(connection: AsyncConnection) -> str | None:
    if not await connection.run_sync(lambda sync: inspect(sync).has_table("alembic_version")):
        return None
    found = await connection.execute(text("SELECT version_num FROM alembic_version"))
    revision: str | None = found.scalar()
    return revision


def _refuse_newer(config: "Config", connection: Connection, place: str) -> None:
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    directory = ScriptDirectory.from_config(config)
    known = {script.revision for script in directory.walk_revisions()}
    found = set(MigrationContext.configure(connection).get_current_heads())
    if found - known:
        newer = TOO_NEW.format(
            found=", ".join(sorted(found - known)), known=directory.get_current_head()
        )
        raise ConfigError(f"{place} {newer}")


# --- Alembic ------------------------------------------------------------------------------------


def find_scripts() -> Path:
    """The migrations: inside the installed package, or beside it in a checkout."""
    for folder in (INSTALLED_SCRIPTS, CHECKOUT_SCRIPTS):
        if (folder / "env.py").is_file():
            return folder
    raise ConfigError(
        f"The installation is incomplete: {INSTALLED_SCRIPTS} is missing. Install the program again."
    )


def alembic_config(scripts: Path, connection: Connection) -> "Config":
    """What `alembic.command` needs to work on an open connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


# --- Locks and SQLite ---------------------------------------------------------------------------


@asynccontextmanager
async def _one_at_a_time(database: Database) -> AsyncIterator[None]:
    """A lock file beside an SQLite file; PostgreSQL is locked inside the transaction."""
    if not is_sqlite(database.url):
        yield
        return
    _prepare_sqlite(database)
    file = _file(database.url)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = AsyncFileLock(
            file.with_name(file.name + ".migration.lock"), timeout=MIGRATION_LOCK_TIMEOUT_S
        )
        await lock.acquire()
    except FileLockTimeout as error:
        raise CatalogUnavailable(
            f"{database.place} has been migrated by another process for {MIGRATION_LOCK_TIMEOUT_S:g} s."
        ) from error
    except OSError as error:
        raise CatalogUnavailable(f"{database.place} can't be created: {error}.") from error
    try:
        yield
    finally:
        await lock.release()


def _prepare_sqlite(database: Database) -> None:
    @event.listens_for(database.engine.sync_engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        # Kept in the file. Here and not at every start, because switching needs the file for itself.
        cursor.execute("PRAGMA journal_mode = WAL")
        # SQLite changes a table by copying and dropping it, which would delete what refers to it.
        cursor.execute("PRAGMA foreign_keys = OFF")
        cursor.close()


async def _check_foreign_keys(connection: AsyncConnection, database: Database) -> None:
    if not is_sqlite(database.url):
        return
    broken = (await connection.exec_driver_sql("PRAGMA foreign_key_check")).all()
    if broken:
        raise CatalogUnavailable(
            f"{database.place} would lose {len(broken)} references in this migration,"
            " so nothing was changed. Please report this."
        )


def _file(url: URL) -> Path:
    return Path(str(url.database))
