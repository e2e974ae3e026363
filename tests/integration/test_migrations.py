"""Migrations: they agree with the tables, keep the data, and stand processes starting at once."""

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect
from sqlalchemy.dialects import postgresql, sqlite

from kb.db.catalog import SQLCatalog
from kb.db.migrate import alembic_config, find_scripts, in_migration, migrate
from kb.db.tables import SCHEMA_REVISION, metadata
from kb.errors import ConfigError
from kb.types import Document, DocumentStatus, SourceKind, SourceRecord

REPOSITORY = Path(__file__).parents[2]
DOCUMENT = Document(
    id="d1",
    collection="docs",
    source_id="s1",
    uri="file:///guide.md",
    title="Guide",
    media_type="text/markdown",
    size=1,
    mtime_ns=1,
    content_hash="c0ffee",
    status=DocumentStatus.INDEXED,
    indexed_at=datetime(2026, 1, 1, tzinfo=UTC),
)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/data/catalog.db"
    made: str = request.getfixturevalue("postgresql_url")
    return made


async def save_document(url: str) -> None:
    catalog = await SQLCatalog.open(url)
    await catalog.ensure_collection("docs")
    await catalog.ensure_source(SourceRecord("s1", "docs", SourceKind.FOLDER, "/srv"))
    await catalog.save_documents([DOCUMENT])
    await catalog.close()


async def saved_documents(url: str) -> list[Document]:
    catalog = await SQLCatalog.open(url)
    found = await catalog.documents()
    await catalog.close()
    return found


async def table_names(url: str) -> set[str]:
    names: set[str] = set()
    await in_migration(
        url, lambda connection, _: names.update(inspect(connection).get_table_names())
    )
    return names


# --- The schema ---------------------------------------------------------------------------------


async def test_the_migrated_schema_is_that_of_the_tables(url: str) -> None:
    await migrate(url)
    differences: list[Any] = []

    def compare(connection: Connection, _place: str) -> None:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences.extend(compare_metadata(context, metadata))

    await in_migration(url, compare)
    assert differences == []


def test_the_constant_names_the_newest_migration() -> None:
    assert ScriptDirectory(str(find_scripts())).get_heads() == [SCHEMA_REVISION]


def test_no_name_is_a_reserved_word() -> None:
    names = {table.name for table in metadata.tables.values()}
    names |= {column.name for table in metadata.tables.values() for column in table.columns}
    for dialect in (postgresql.dialect(), sqlite.dialect()):  # type: ignore[no-untyped-call]
        assert names.isdisjoint(dialect.identifier_preparer.reserved_words)


async def test_migrating_twice_keeps_the_data(url: str) -> None:
    await migrate(url)
    await save_document(url)
    await migrate(url)
    assert await saved_documents(url) == [DOCUMENT]


async def test_down_to_nothing_and_up_again(url: str) -> None:
    await migrate(url)
    await save_document(url)

    def downgrade(connection: Connection, _place: str) -> None:
        command.downgrade(alembic_config(find_scripts(), connection), "base")

    await in_migration(url, downgrade)
    assert await table_names(url) == {"alembic_version"}
    await migrate(url)
    await save_document(url)
    assert await saved_documents(url) == [DOCUMENT]


async def test_sqlite_is_left_in_wal_mode(tmp_path: Path) -> None:
    await migrate(f"sqlite:///{tmp_path}/catalog.db")
    # Bytes 18 and 19 of the header are 2 for WAL: https://www.sqlite.org/fileformat.html
    assert (tmp_path / "catalog.db").read_bytes()[18:20] == b"\x02\x02"


# --- Later and newer versions -------------------------------------------------------------------

REBUILD_COLLECTIONS = '''"""A later issue changes a table that others refer to."""

import sqlalchemy as sa
from alembic import op

revision = "9001"
down_revision = "{newest}"


def upgrade() -> None:
    with op.batch_alter_table("collections", recreate="auto") as batch:
        batch.add_column(sa.Column("description", sa.Text(), server_default="", nullable=False))
        batch.alter_column("created_at", nullable=True)
'''

FAIL_HALFWAY = """
    op.create_table("half_done", sa.Column("id", sa.Integer()))
    raise RuntimeError("the power failed")
"""


def later_scripts(folder: Path, extra: str = "") -> Path:
    """Our migrations and one of a later version."""
    scripts = folder / "later"
    shutil.copytree(find_scripts(), scripts, ignore=shutil.ignore_patterns("__pycache__"))
    source = REBUILD_COLLECTIONS.format(newest=SCHEMA_REVISION) + extra
    (scripts / "versions" / "9001_later.py").write_text(source)
    return scripts


async def test_a_later_migration_keeps_what_refers_to_the_table_it_rebuilds(
    url: str, tmp_path: Path
) -> None:
    """SQLite drops the old table, and with foreign keys on that would delete all documents."""
    await migrate(url)
    await save_document(url)
    await migrate(url, scripts=later_scripts(tmp_path))
    found: list[Any] = []

    def look(connection: Connection, _place: str) -> None:
        found.extend(connection.exec_driver_sql("SELECT id FROM documents").scalars())
        found.extend(column["name"] for column in inspect(connection).get_columns("collections"))

    await in_migration(url, look)
    assert found == ["d1", "name", "created_at", "held_by", "held_until", "description"]


async def test_a_migration_that_fails_leaves_everything_as_it_was(url: str, tmp_path: Path) -> None:
    await migrate(url)
    await save_document(url)
    before = await table_names(url)
    with pytest.raises(RuntimeError, match="the power failed"):
        await migrate(url, scripts=later_scripts(tmp_path, FAIL_HALFWAY))
    assert await table_names(url) == before
    assert await saved_documents(url) == [DOCUMENT]


async def test_a_catalogue_of_a_newer_version_is_refused(url: str, tmp_path: Path) -> None:
    await migrate(url, scripts=later_scripts(tmp_path))
    with pytest.raises(ConfigError, match=r"newer version of this program \(schema 9001"):
        await migrate(url)
    with pytest.raises(ConfigError, match="has schema 9001"):
        await SQLCatalog.open(url)


# --- Processes and places -----------------------------------------------------------------------


def python(
    *arguments: str, cwd: Path = REPOSITORY, path: Path = REPOSITORY
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


MIGRATE = (
    "import asyncio, sys; from kb.db.migrate import migrate; asyncio.run(migrate(sys.argv[1]))"
)


@pytest.mark.slow
async def test_processes_that_start_at_once_all_succeed(url: str) -> None:
    started = [python("-c", MIGRATE, url) for _ in range(3)]
    outputs = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], outputs
    await save_document(url)


@pytest.mark.slow
def test_an_installed_package_finds_its_own_migrations(tmp_path: Path) -> None:
    """Lays the files out as the wheel does (force-include in pyproject.toml)."""
    installed = tmp_path / "site-packages"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "kb", installed / "kb", ignore=ignored)
    shutil.copytree(REPOSITORY / "alembic", installed / "kb/db/migrations", ignore=ignored)
    show = "; import kb.db.migrate as m; print(m.find_scripts())"
    process = python(
        "-c", MIGRATE + show, f"sqlite:///{tmp_path}/c.db", cwd=tmp_path, path=installed
    )
    output, _ = process.communicate(timeout=60)
    assert output.strip() == str(installed / "kb/db/migrations")


@pytest.mark.slow
def test_our_folder_does_not_hide_the_alembic_package() -> None:
    assert not (REPOSITORY / "alembic" / "__init__.py").exists()
    process = python("-c", "import alembic.command; print(alembic.command.__file__)")
    output, _ = process.communicate(timeout=60)
    assert "site-packages" in output


@pytest.mark.slow
async def test_developers_can_use_the_alembic_command(url: str) -> None:
    await migrate(url)
    process = python("-m", "alembic", "-x", f"url={url}", "check")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "No new upgrade operations detected" in output
