"""kill -9 of the worker, of Elasticsearch and of PostgreSQL in the middle of syncs, one after another.

After each the worker must bring index and catalogue to where an undisturbed run brings them, and nothing
may be found wrong. TEST_KILLS is how many; TEST_SEED makes it other moments and other documents.
"""

import asyncio
import os
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import psutil
import pytest

from ingestion.sources import folder_record
from kb.errors import CatalogUnavailable
from kb.ports import Catalog
from kb.settings import CatalogSettings, IndexSettings, Settings
from kb.types import Lease, SourceRecord
from serving.bootstrap import DEFAULT_COLLECTION, Services, open_services
from serving.health import examine
from serving.sources import add_source
from serving.sync import request_of, sync_all
from tests.e2e.kb_process import KB, START_TIMEOUT_S, data_folder, environment
from tests.e2e.states import state_of
from tests.e2e.test_crash import KILLS, ORPHAN_GRACE_S
from tests.e2e.victims import Elasticsearch, PostgreSQL, Victim

pytestmark = [
    pytest.mark.slow,
    pytest.mark.postgresql,
    pytest.mark.elasticsearch,
    pytest.mark.timeout(3600),
]

SEED = os.environ.get("TEST_SEED", "1")
DOCUMENTS = 60
CHANGED = 50
"""Changes to the folder before each sync."""
LEASE_S = "2"


class Folder:
    """Documents that change, appear, go, move and are copied, by chance that a seed decides."""

    def __init__(self, root: Path, chance: random.Random) -> None:
        self.root = root
        self._chance = chance
        self._texts = 0
        root.mkdir()
        for _ in range(DOCUMENTS):
            self._new(self._unused())

    def change(self) -> None:
        for _ in range(CHANGED):
            files = sorted(self.root.rglob("*.md"))
            file = self._chance.choice(files)
            action = self._chance.choice(
                ("rewrite", "rewrite", "copy", "new", "move", "delete", "delete")
            )
            if action == "rewrite":
                self._new(file)
            elif action == "new":
                self._new(self._unused())
            elif action == "copy":
                shutil.copy(file, self._unused())
            elif action == "move":
                file.rename(self._unused())
            elif len(files) > DOCUMENTS:
                file.unlink()

    def _unused(self) -> Path:
        while True:
            folder = self.root / self._chance.choice("abc")
            folder.mkdir(exist_ok=True)
            path = folder / f"{self._chance.randrange(10**6):06}.md"
            if not path.exists():
                return path

    def _new(self, path: Path) -> None:
        self._texts += 1
        number = self._texts
        parts = "\n\n".join(
            f"## Part {part}\n\n"
            + f"Item {number} weighs {number * part} grams. 第{number}项的说明。" * 4
            for part in range(3)
        )
        path.write_text(f"# 报告 {number}\n\n{parts}\n", "utf-8")


@dataclass
class Worker:
    """`kb worker`, which synchronises when it is offered a slot: its own time comes once a year."""

    environment: dict[str, str]
    folder: Path
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [KB, "worker", "--json"],
                env=self.environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        assert self.process
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        _, alive = psutil.wait_procs(children, ORPHAN_GRACE_S)
        assert not alive, f"still running after their parent was killed: {alive}"

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)


async def lease(catalog: Catalog, slot: str) -> Lease | None:
    """The slot as the catalogue has it; None too while the catalogue can't be asked."""
    with suppress(CatalogUnavailable):
        for found in await catalog.leases():
            if found.slot == slot:
                return found
    return None


async def until(catalog: Catalog, slot: str, holds: Callable[[Lease], bool]) -> Lease:
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            found = await lease(catalog, slot)
            if found and holds(found):
                return found
            await asyncio.sleep(0.03)


async def offered(catalog: Catalog, slot: str) -> None:
    """As a worker leaves a slot that was stopped: whoever asks next does it. Returns when somebody does."""
    assert await catalog.take_lease("sync", slot, "the test", 60)
    assert await catalog.release_lease("sync", slot, "the test")
    await until(catalog, slot, lambda found: found.owner is not None)


async def finished(catalog: Catalog, slot: str) -> Lease:
    return await until(catalog, slot, lambda found: found.finished_at is not None)


@dataclass
class World:
    folder: Folder
    worker: Worker
    victims: Mapping[str, Victim]
    disturbed: Services
    undisturbed: Services
    record: SourceRecord

    async def agree(self) -> None:
        """Fails where the disturbed and the undisturbed run have not come to the same."""
        await self.sync_undisturbed()
        expected = await state_of(
            self.undisturbed.catalog, await self.undisturbed.index(DEFAULT_COLLECTION)
        )
        assert (
            await state_of(self.disturbed.catalog, await self.disturbed.index(DEFAULT_COLLECTION))
            == expected
        )

    async def sync_undisturbed(self) -> None:
        request = request_of(self.undisturbed, confirm_deletes=True)
        (result,) = await sync_all([self.record], self.undisturbed, request)
        assert result.error is None


@pytest.fixture
async def world(
    tmp_path: Path,
    models: Path,
    postgresql: PostgreSQL,
    elasticsearch: Elasticsearch,
) -> AsyncIterator[World]:
    data = data_folder(tmp_path / "disturbed", models)
    settings = Settings(
        data_dir=data,
        catalog=CatalogSettings(url=postgresql.url),
        index=IndexSettings(url=elasticsearch.url),
    )
    others = {f"KB_WORKER__{name}": "" for name in ("RETRY", "PRUNE", "HEALTH")}
    variables = environment(
        data,
        KB_CATALOG__URL=postgresql.url,
        KB_INDEX__URL=elasticsearch.url,
        KB_INGEST__MAX_DELETE_SHARE="1",
        KB_WORKER__SYNC="0 0 1 1 *",
        KB_WORKER__LEASE_S=LEASE_S,
        **others,
    )
    worker = Worker(variables, tmp_path, tmp_path / "worker.log")
    undisturbed = Settings(data_dir=data_folder(tmp_path / "undisturbed", models))
    folder = Folder(tmp_path / "documents", random.Random(f"folder {SEED}"))
    async with open_services(settings) as one, open_services(undisturbed) as other:
        record = await add_source(folder_record(DEFAULT_COLLECTION, folder.root), one)
        await add_source(record, other)
        victims: dict[str, Victim] = {
            "worker": worker,
            "elasticsearch": elasticsearch,
            "postgresql": postgresql,
        }
        yield World(folder, worker, victims, one, other, record)
        worker.stop()


async def test_whatever_is_killed_ends_like_an_undisturbed_run(world: World) -> None:
    chance = random.Random(f"moments {SEED}")
    killed: Counter[str] = Counter()
    catalog = world.disturbed.catalog
    world.worker.start()
    duration_s = await first_syncs(world)
    victims = cycle(world.victims)
    for number in range(2 * KILLS):
        if killed.total() == KILLS:
            break
        name, slot = next(victims), f"{number:04}"
        world.folder.change()
        await offered(catalog, slot)
        after_s = chance.uniform(0, 0.9 * duration_s)
        await asyncio.sleep(after_s)
        found = await lease(catalog, slot)
        in_time = found is not None and found.finished_at is None
        await asyncio.to_thread(world.victims[name].kill)
        await asyncio.to_thread(world.victims[name].start)
        done = (await finished(catalog, slot)).error is None
        if not done:  # It could not be done at its time; the next one is.
            await offered(catalog, f"{slot} again")
            assert (await finished(catalog, f"{slot} again")).error is None
        await world.agree()
        killed[name] += in_time
        told = f"{name} killed {after_s:.2f} s after the begin of a sync of {duration_s:.1f} s"
        print(f"{told}, in time: {in_time}, went on by itself: {done}; all is as undisturbed")  # noqa: T201
    assert killed.total() == KILLS, "the syncs end before anything can be killed"
    assert [found async for found in examine(world.disturbed) if found.problem] == []


async def first_syncs(world: World) -> float:
    """All documents, then one change, undisturbed; gives how long that took, in seconds."""
    catalog = world.disturbed.catalog
    for slot in ("first", "second"):
        await offered(catalog, slot)
        started = time.monotonic()
        assert (await finished(catalog, slot)).error is None
        duration_s = time.monotonic() - started
        await world.agree()
        world.folder.change()
    return duration_s
