"""The catalogue's database fails: one error of ours, a sentence that helps, never a password."""

import asyncio
import sqlite3
import traceback
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from ingestion.progress import SyncProgress
from ingestion.sources import folder_record
from kb.db.catalog import SQLCatalog
from kb.db.migrate import migrate
from kb.db.session import parse_url
from kb.errors import CatalogUnavailable, ConfigError, NotFoundError
from serving.runs import recorded


@pytest.fixture
async def sqlite_file(tmp_path: Path) -> Path:
    file = tmp_path / "catalog.db"
    await migrate(f"sqlite:///{file}")
    return file


# --- URLs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:///data/catalog.db", "sqlite+aiosqlite"),
        ("postgres://kb:pw@host/name", "postgresql+asyncpg"),
        ("postgresql://kb:pw@host/name", "postgresql+asyncpg"),
        ("postgresql+asyncpg://kb:pw@host/name", "postgresql+asyncpg"),
    ],
)
def test_usual_urls_are_given_our_drivers(url: str, driver: str) -> None:
    assert parse_url(url).drivername == driver


def test_sslmode_is_understood() -> None:
    url = parse_url("postgresql://kb@host/name?sslmode=require")
    assert dict(url.query) == {"ssl": "require"}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "catalog.db",
        "sqlite://",
        "sqlite:///:memory:",
        "mysql://kb:s3cret@host/name",
        "postgresql://kb:s3cret@host:port/name",
        "postgresql://host/name?password=s3cret",
    ],
)
def test_other_urls_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_url(url)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


# --- Runs ---------------------------------------------------------------------------------------


async def test_a_run_that_can_not_begin_says_why(sqlite_file: Path, tmp_path: Path) -> None:
    """Not that its end can't be noted either."""
    catalog = await SQLCatalog.open(f"sqlite:///{sqlite_file}")

    async def work() -> None: ...

    record = folder_record("gone", tmp_path)
    with pytest.raises(NotFoundError, match="no longer holds the collection"):
        await recorded(work(), record, "incremental", SyncProgress(), catalog)
    await catalog.close()


# --- SQLite -------------------------------------------------------------------------------------


async def test_a_file_that_was_never_migrated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no tables yet"):
        await SQLCatalog.open(f"sqlite:///{tmp_path}/catalog.db")


async def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CatalogUnavailable, match="Check that its folder exists") as caught:
        await SQLCatalog.open(f"sqlite:///{tmp_path}/gone/catalog.db")
    assert caught.value.retryable


async def test_migrating_below_something_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CatalogUnavailable, match="can't be created"):
        await migrate(f"sqlite:///{tmp_path}/file/catalog.db")


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_text("Dear diary, " * 1000)
    url = f"sqlite:///{tmp_path}/catalog.db"
    with pytest.raises(CatalogUnavailable, match="is not an SQLite database"):
        await SQLCatalog.open(url)
    with pytest.raises(CatalogUnavailable, match="is not an SQLite database"):
        await migrate(url)


async def test_a_read_only_file_can_be_read_but_not_written(sqlite_file: Path) -> None:
    catalog = await SQLCatalog.open(f"sqlite:///file:{sqlite_file}?mode=ro&uri=true")
    try:
        assert await catalog.collections() == []
        with pytest.raises(CatalogUnavailable, match="read-only for this user"):
            await catalog.ensure_collection("docs")
    finally:
        await catalog.close()


async def test_a_lock_held_for_too_long(sqlite_file: Path) -> None:
    catalog = await SQLCatalog.open(f"sqlite:///{sqlite_file}", lock_timeout_s=0.2)
    other = sqlite3.connect(sqlite_file, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CatalogUnavailable, match=r"locked by another process for 0\.2 s"):
            await catalog.ensure_collection("docs")
        assert await catalog.collections() == [], "reading goes on while another writes"
        other.execute("ROLLBACK")
        await catalog.ensure_collection("docs")
    finally:
        other.close()
        await catalog.close()


# --- PostgreSQL ---------------------------------------------------------------------------------


@pytest.fixture
async def postgresql_catalog(postgresql_url: str) -> AsyncIterator[SQLCatalog]:
    await migrate(postgresql_url)
    catalog = await SQLCatalog.open(postgresql_url, lock_timeout_s=0.2)
    yield catalog
    await catalog.close()


@pytest.mark.postgresql
async def test_a_wrong_password(postgresql_url: str) -> None:
    url = parse_url(postgresql_url).set(drivername="postgresql", password="s3cret")
    with pytest.raises(CatalogUnavailable, match="refuses the user name or the password") as caught:
        await SQLCatalog.open(url.render_as_string(hide_password=False))
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))
    assert str(url.host) in caught.value.message


@pytest.mark.postgresql
async def test_a_database_that_does_not_exist(postgresql_url: str) -> None:
    url = parse_url(postgresql_url).set(database="nothing")
    with pytest.raises(CatalogUnavailable, match="Create the database first"):
        await migrate(url.render_as_string(hide_password=False))


async def test_no_server() -> None:
    with pytest.raises(CatalogUnavailable, match=r"PostgreSQL at 127\.0\.0\.1:1 can't be reached"):
        await SQLCatalog.open("postgresql://kb:s3cret@127.0.0.1:1/kb")


@pytest.mark.postgresql
async def test_lost_connections_are_made_again(
    postgresql_url: str, postgresql_catalog: SQLCatalog
) -> None:
    await postgresql_catalog.ensure_collection("docs")
    await _elsewhere(
        postgresql_url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    assert [found.name for found in await postgresql_catalog.collections()] == ["docs"]


@pytest.mark.postgresql
async def test_the_database_disappears(
    postgresql_server: str, postgresql_url: str, postgresql_catalog: SQLCatalog
) -> None:
    name = postgresql_url.rpartition("/")[2]
    await _elsewhere(postgresql_server, f"DROP DATABASE {name} WITH (FORCE)")
    with pytest.raises(CatalogUnavailable, match="does not exist"):
        await postgresql_catalog.collections()


@pytest.mark.postgresql
async def test_a_row_locked_for_too_long(
    postgresql_url: str, postgresql_catalog: SQLCatalog
) -> None:
    await postgresql_catalog.ensure_collection("docs")
    other = await asyncpg.connect(postgresql_url)
    try:
        async with other.transaction():
            await other.execute("SELECT * FROM collections FOR UPDATE")
            with pytest.raises(CatalogUnavailable, match=r"locked by another process for 0\.2 s"):
                await postgresql_catalog.delete_collection("docs")
        await postgresql_catalog.delete_collection("docs")
    finally:
        await other.close()


async def _elsewhere(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
        await asyncio.sleep(0.2)  # ended sessions need a moment to be gone
    finally:
        await connection.close()
