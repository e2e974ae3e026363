"""Spark beside the sync in process, on the same files: speed, start, memory; and what more executors would do.

    python -m benchmarks.spark sync SET... --url URL [--documents N] [--master MASTER]
    python -m benchmarks.spark stages SET... --url URL [--documents N]

Each SET is a question set, of which the passages are taken: one a document. URL is an Elasticsearch's.

`sync` prints one line: without a master in process, else on Spark. The session and the executors' models
are started by a small sync before the clock is; `start s` is what that took. Memory is the largest sum of
resident memory at one moment, by kind of process, in MiB.

`stages` does one stage after another with one thread each, through the functions that every engine uses,
and prints the seconds of processor time that a document costs our process, its parsing processes and
Elasticsearch; then what the driver pays for a document and a job; and from these what 1, 10 and 100
executors of one core would index, and how many cores Elasticsearch and the driver need then.
"""

import argparse
import asyncio
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

from benchmarks.sync import write_documents
from ingestion.indexing import (
    BATCH_CHUNKS,
    InProcessEngine,
    Outcome,
    indexable,
    passage_vectors,
    read,
)
from ingestion.planning import EngineKind, Plan, SyncRequest, Task, walk
from ingestion.progress import SyncProgress
from ingestion.sources import folder_record, open_source
from kb.logs import configure_logs
from kb.settings import IndexSettings, LogSettings, SparkSettings, load_settings
from kb.types import SourceRecord
from serving.bootstrap import DEFAULT_COLLECTION, Services, open_services
from serving.sync import request_of, run_sync

MIB = 1 << 20
SAMPLE_S = 0.2
WARM_UP = 8
"""Documents that start everything: enough for a task on each executor."""
KINDS = {
    "CoarseGrainedExecutorBackend": "executor JVMs",
    "pyspark.daemon": "Python workers",
    "SparkSubmit": "driver JVM",
    "forkserver": "parsing",
}


class Watched:
    """This process and all below it, by kind: largest sums of resident memory (MiB), and processor
    seconds used in the `with` block."""

    def __init__(self) -> None:
        self.most: Counter[str] = Counter()
        self._cpu: dict[tuple[str, int], list[float]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def cpu_s(self) -> Counter[str]:
        used: Counter[str] = Counter()
        for (kind, _), seen in self._cpu.items():
            used[kind] += round(seen[-1] - seen[0])
        return used

    def _watch(self) -> None:
        own = psutil.Process()
        while not self._ended.wait(SAMPLE_S):
            now: Counter[str] = Counter()
            for process in [own, *own.children(recursive=True)]:
                try:
                    kind = kind_of(process)
                    now[kind] += process.memory_info().rss // MIB
                    self._cpu.setdefault((kind, process.pid), []).append(cpu(process))
                except psutil.NoSuchProcess:
                    continue  # It ended between being listed and being asked.
            self.most |= now


def kind_of(process: psutil.Process) -> str:
    if process.pid == os.getpid():
        return "driver"
    command = " ".join(process.cmdline())
    return next((kind for word, kind in KINDS.items() if word in command), "others")


@asynccontextmanager
async def installation(
    url: str, folder: Path, master: str | None, per_task: int
) -> AsyncIterator[Services]:
    """Services over an empty data folder, with the models of the settings' own, and indexes of its own."""
    given = load_settings()
    (folder / "data").mkdir()
    (given.data_dir / "models").mkdir(parents=True, exist_ok=True)
    (folder / "data" / "models").symlink_to((given.data_dir / "models").resolve())
    settings = given.model_copy(
        update={
            "data_dir": folder / "data",
            "index": IndexSettings(url=url, prefix=f"bench-{time.time_ns()}-"),
            "spark": SparkSettings(
                master=master or given.spark.master, documents_per_task=per_task
            ),
        }
    )
    async with open_services(settings) as services:
        yield services
        for collection in await services.catalog.collections():
            await services.delete_collection(collection.name)


async def measure_sync(
    sets: Sequence[Path], url: str, number: int, master: str | None, per_task: int
) -> None:
    engine = EngineKind.SPARK if master else EngineKind.IN_PROCESS
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_documents(sets, folder / "documents", number)
        write_documents(sets, folder / "warm-up", WARM_UP)
        async with installation(url, folder, master, per_task) as services:
            started = time.perf_counter()
            await sync(services, folder_record("warm-up", folder / "warm-up"), engine)
            start_s = time.perf_counter() - started
            with Watched() as watched:
                started = time.perf_counter()
                progress = await sync(
                    services, folder_record(DEFAULT_COLLECTION, folder / "documents"), engine
                )
                seconds = time.perf_counter() - started
    print(f"{'engine':26} {'start s':>8} {'s':>7} {'documents/s':>11} {'chunks/s':>8} {'failed':>6}  "
          "peak MiB (processor s)")  # fmt: skip
    used = watched.cpu_s
    kinds = ", ".join(
        f"{kind} {most} ({used[kind]} s)" for kind, most in watched.most.most_common()
    )
    print(f"{master or 'in process':26} {start_s:8.1f} {seconds:7.1f} {progress.indexed / seconds:11.1f} "
          f"{progress.chunks / seconds:8.1f} {progress.failed.total():6}  {kinds}")  # fmt: skip


async def sync(services: Services, record: SourceRecord, engine: EngineKind) -> SyncProgress:
    progress = SyncProgress()
    await run_sync(record, services, progress, request_of(services, engine=engine))
    return progress


@dataclass
class Stage:
    """Processor seconds of one stage: ours with the parsing processes, and Elasticsearch's."""

    ours: float = 0.0
    elasticsearch: float = 0.0
    server: psutil.Process | None = None
    _before: tuple[float, float] = field(default=(0.0, 0.0))

    def __enter__(self) -> Self:
        self._before = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        ours, server = self._now()
        self.ours += ours - self._before[0]
        self.elasticsearch += server - self._before[1]

    def _now(self) -> tuple[float, float]:
        own = psutil.Process()
        ours = sum(cpu(process) for process in [own, *own.children(recursive=True)])
        return ours, cpu(self.server) if self.server else 0.0


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def measure_stages(sets: Sequence[Path], url: str, number: int, master: str) -> None:
    server = server_of(url)
    names = ("plan", "parse", "embed", "index", "settle", "job")
    stages = {name: Stage(server=server) for name in names}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_documents(sets, folder / "documents", number)
        write_documents(sets, folder / "warm-up", WARM_UP)
        async with installation(url, folder, master, number) as services:
            await sync(services, folder_record("warm-up", folder / "warm-up"), EngineKind.SPARK)
            live = await services.ensure_collection(DEFAULT_COLLECTION)
            record = await services.catalog.ensure_source(
                folder_record(DEFAULT_COLLECTION, folder / "documents")
            )
            engine = services.engine(live, refresh=False)
            await read((await planned(record))[0], engine.parser)  # starts the process
            with stages["plan"]:
                tasks = await planned(record)
            with stages["parse"]:
                outcomes = [await read(task, engine.parser) for task in tasks]
            await embed_and_index(outcomes, engine, stages)
            with stages["settle"]:
                documents = [outcome.document for outcome in outcomes]
                await services.catalog.save_documents(documents, live.generation)
            session = await services.spark().session()
            with stages["job"]:
                await asyncio.to_thread(empty_jobs, session, len(tasks))
    chunks = sum(len(outcome.chunks) for outcome in outcomes)
    report(stages, len(tasks), chunks)


async def planned(record: SourceRecord) -> list[Task]:
    plan = Plan(open_source(record), SyncRequest(), {})
    return [task async for tasks, _ in walk(plan, SyncProgress()) for task in tasks]


async def embed_and_index(
    outcomes: Sequence[Outcome], engine: InProcessEngine, stages: dict[str, Stage]
) -> None:
    """In batches as the engine makes them."""
    for start in range(0, len(outcomes), BATCH_CHUNKS):
        batch = outcomes[start : start + BATCH_CHUNKS]
        with stages["embed"]:
            chunks = [chunk for outcome in batch for chunk in outcome.chunks]
            vectors = await passage_vectors(chunks, engine.index, engine.embedder, SyncProgress())
        with stages["index"]:
            dimensions = engine.embedder.dimensions
            documents = [indexable(o.document, o.chunks, vectors, dimensions) for o in batch]
            await engine.index.replace(documents, refresh=False)
    with stages["index"]:
        await engine.index.refresh()


JOBS_TRIED = 20


def empty_jobs(session: Any, documents: int) -> None:
    """Jobs as the engine's, whose tasks do nothing: what is left is the driver's own."""
    import pyarrow as pa

    rows = pa.table([[b"x" * 1_000] * documents], schema=pa.schema([("task", pa.binary())]))
    for _ in range(JOBS_TRIED):
        frame = session.createDataFrame(rows).repartition(1)
        frame.mapInArrow(lambda batches: batches, "task binary").collect()


def server_of(url: str) -> psutil.Process | None:
    """The process that listens at the URL's port; None where it is on another machine."""
    port = int(url.rpartition(":")[2].strip("/"))
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
            return psutil.Process(connection.pid)
    return None


def report(stages: dict[str, Stage], documents: int, chunks: int) -> None:
    """Milliseconds of processor time a document, and what follows from them."""
    ms = 1_000 / documents
    stages["job"].ours /= JOBS_TRIED
    print(f"{documents} documents, {chunks} chunks; ms of processor time a document:")
    for name, stage in stages.items():
        print(
            f"  {name:8} ours {stage.ours * ms:8.3f}   Elasticsearch {stage.elasticsearch * ms:8.3f}"
        )
    executor = sum(stages[name].ours for name in ("parse", "embed", "index")) / documents
    server = sum(stages[name].elasticsearch for name in ("embed", "index")) / documents
    driver = sum(stages[name].ours for name in ("plan", "settle", "job")) / documents
    for executors in (1, 10, 100):
        rate = executors / executor
        print(f"  {executors:4} executors of one core: {rate:9.1f} documents/s; cores needed by "
              f"Elasticsearch {rate * server:.2f}, by the driver {rate * driver:.3f}")  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("what", choices=["sync", "stages"])
    arguments.add_argument("sets", type=Path, nargs="+")
    arguments.add_argument("--url", required=True)
    arguments.add_argument("--documents", type=int, default=1_000)
    arguments.add_argument("--per-task", type=int, default=SparkSettings().documents_per_task)
    arguments.add_argument("--master")
    given = arguments.parse_args()
    configure_logs(LogSettings(level="warning"))
    if given.what == "stages":
        master = given.master or SparkSettings().master
        asyncio.run(measure_stages(given.sets, given.url, given.documents, master))
    else:
        asyncio.run(
            measure_sync(given.sets, given.url, given.documents, given.master, given.per_task)
        )


if __name__ == "__main__":
    main()
