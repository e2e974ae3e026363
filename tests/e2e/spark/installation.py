"""A data folder whose only source is synchronised on Spark or in process, and what it has come to."""

import asyncio
import json
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from kb.settings import Settings
from kb.types import Chunk, Document, DocumentStatus, Vector
from serving.bootstrap import DEFAULT_COLLECTION, Services, open_services
from tests.e2e.kb_process import KB, START_TIMEOUT_S, environment

DOCUMENTS = 200
LOCAL = "local[2,3]"

Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Content:
    """All that catalogue and index hold, but for the time at which it came there."""

    documents: Mapping[str, Document]
    chunks: Mapping[str, list[Chunk]]
    vectors: Mapping[str, Vector]


@dataclass(frozen=True)
class Installation:
    """A data folder, and indexes with a prefix of their own."""

    settings: Settings

    def start(self, *arguments: object, **settings: str) -> subprocess.Popen[str]:
        return self.launch(KB, *arguments, **settings)

    def launch(self, *command: object, **settings: str) -> subprocess.Popen[str]:
        index = self.settings.index
        own = {
            "KB_INDEX__URL": index.url.get_secret_value(),
            "KB_INDEX__PREFIX": index.prefix,
        }
        return subprocess.Popen(
            [*map(str, command)],
            env=environment(self.settings.data_dir, **own | settings),
            cwd=self.settings.data_dir,  # Not the checkout: no code may be found by accident.
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def sync(self, **settings: str) -> dict[str, Any]:
        """In process, unless the settings name a master of Spark; gives the counts."""
        engine = "spark" if "KB_SPARK__MASTER" in settings else "in-process"
        return finished(self.start("sync", "--json", "--engine", engine, **settings))

    def content(self) -> Content:
        return self.look(content_of)

    def look(self, action: Callable[[Services], Awaitable[Seen]]) -> Seen:
        async def opened() -> Seen:
            async with open_services(self.settings) as services:
                return await action(services)

        return asyncio.run(opened())


def finished(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The counts of a sync of one source."""
    output, errors = process.communicate(timeout=START_TIMEOUT_S)
    assert process.returncode == 0, errors + output
    (result,) = json.loads(output)
    counts: dict[str, Any] = result["counts"]
    return counts


async def content_of(services: Services) -> Content:
    index = await services.index(DEFAULT_COLLECTION)
    documents = {
        document.id: replace(document, indexed_at=None)
        for document in await services.catalog.documents()
    }
    contents = await index.contents()
    assert all(len(content.revisions) == 1 for content in contents.values())
    chunks = {name: await index.chunks(name) for name in contents}
    hashes = [chunk.text_hash for found in chunks.values() for chunk in found]
    vectors = await index.vectors(hashes)
    assert {name: d.chunk_count for name, d in documents.items() if d.chunk_count} == {
        name: len(found) for name, found in chunks.items()
    }
    return Content(documents, chunks, vectors)


def check_same(found: Content, expected: Content) -> None:
    """All but the vectors to the last letter; those of one text differ by what was embedded with it."""
    assert found.documents == expected.documents
    assert found.chunks == expected.chunks
    assert found.vectors.keys() == expected.vectors.keys()
    cosines = [vector @ expected.vectors[name] for name, vector in found.vectors.items()]
    assert min(cosines) > 0.9999


async def wait_until_some_are_indexed(services: Services, process: subprocess.Popen[str]) -> None:
    while not await services.catalog.documents(status=DocumentStatus.INDEXED, limit=1):
        assert process.poll() is None, "it ended before it could be disturbed"
        await asyncio.sleep(0.05)
