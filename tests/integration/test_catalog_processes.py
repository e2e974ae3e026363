"""Several processes write one catalogue at once: all of it arrives, and no lock error leaks."""

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kb.db.catalog import SQLCatalog
from kb.db.migrate import migrate
from kb.types import Document, DocumentStatus, SourceKind, SourceRecord

REPOSITORY = Path(__file__).parents[2]
PROCESSES = 2
WRITERS = 4
BATCHES = 10
BATCH = 20


def batch(writer: str, number: int) -> list[Document]:
    return [
        Document(
            id=f"{writer}-{number:02}-{place:02}",
            collection="docs",
            source_id="s1",
            uri=f"file:///{writer}/{number}/{place}.md",
            title="Guide",
            media_type="text/markdown",
            size=1,
            mtime_ns=1,
            content_hash="c0ffee",
            status=DocumentStatus.INDEXED,
            chunk_count=1,
            indexed_at=datetime.now(UTC),
        )
        for place in range(BATCH)
    ]


async def write(url: str, process: str) -> None:
    """What one process does: several writers that save, read, and save the same rows again."""
    catalog = await SQLCatalog.open(url)

    async def writer(name: str) -> None:
        for number in range(BATCHES):
            await catalog.save_documents(batch(name, number))
            await catalog.save_documents(batch("shared", number))
            await catalog.collections()

    await asyncio.gather(*(writer(f"{process}.{number}") for number in range(WRITERS)))
    await catalog.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]
)
def test_processes_write_at_once(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/catalog.db"
    if kind == "postgresql":
        url = request.getfixturevalue("postgresql_url")
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(_prepare(url))
        started = [
            subprocess.Popen(
                [sys.executable, __file__, url, str(number)],
                env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for number in range(PROCESSES)
        ]
        outputs = [process.communicate(timeout=200)[0] for process in started]
        assert outputs == [""] * PROCESSES
        written = runner.run(_count(url))
    assert written == (PROCESSES * WRITERS + 1) * BATCHES * BATCH


async def _prepare(url: str) -> None:
    await migrate(url)
    catalog = await SQLCatalog.open(url)
    await catalog.ensure_collection("docs")
    await catalog.ensure_source(SourceRecord("s1", "docs", SourceKind.FOLDER, "/srv"))
    await catalog.close()


async def _count(url: str) -> int:
    catalog = await SQLCatalog.open(url)
    found = await catalog.collection("docs")
    await catalog.close()
    return found.chunks


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], sys.argv[2]))
