"""The engine on Spark: the driver plans and writes the catalogue, executors read, embed and index.

The only module that imports pyspark. Documents go out in jobs, several at a time; each is collected by
a thread, so that outcomes are settled as jobs end, in whatever order.
"""

import asyncio
import importlib.util
import os
import pickle
import re
import sys
import tempfile
import uuid
import zipfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import structlog

from ingestion.indexing import Ledger, Outcome
from ingestion.planning import Task
from ingestion.progress import SyncProgress
from ingestion.spark_worker import ANSWER, TASK, Place, Recipe, Tally, work
from kb.errors import SparkFailed
from kb.ports import ChunkIndex
from kb.settings import Settings
from kb.types import Generation

SUBMITTED: Final = "PYSPARK_GATEWAY_PORT"
"""In the environment when spark-submit started this process, with a master and a Java of its own."""
JOBS: Final = 8
"""Most jobs at a time. Enough that one slow task keeps only its own job's outcomes waiting."""
TASKS_AHEAD: Final = 2
"""Tasks planned for each that can run: the next one is there when one ends."""
MOST_OF_REASON: Final = 1_000
"""Characters: what Spark says begins with the reason and goes on with stacks."""
CANCELLING_S: Final = 0.2
LOOPBACK: Final = "127.0.0.1"
LOCAL: Final = re.compile(r"local\[(\d+|\*)(?:,\s*(\d+))?\]|local-cluster\[\d+,\s*(\d+),\s*\d+\]")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Shape:
    """How documents are divided: `jobs` at a time, of so many tasks, of so many documents each."""

    jobs: int
    tasks: int
    documents: int

    @classmethod
    def of(cls, slots: int, documents: int) -> "Shape":
        """For a cluster that runs so many tasks at once."""
        wanted = slots * TASKS_AHEAD
        jobs = min(JOBS, wanted)
        return cls(jobs, -(-wanted // jobs), documents)

    def tasks_for(self, documents: int) -> int:
        """A job that is not full (the last one) is spread as widely."""
        return max(1, min(self.tasks, documents))


class SparkCluster:
    """One Spark application. It starts when there is a first document to index, and is kept.

    `parts` and `settings` are for the executors: see `Recipe`. `packages` are shipped to them.
    `java` is a JAVA_HOME, not used under spark-submit.
    """

    def __init__(
        self, settings: Settings, java: Path | None, parts: str, packages: Sequence[str]
    ) -> None:
        self._settings = settings
        self._java = java
        self._parts = parts
        self._packages = packages
        self._session: Any = None
        self._starting = asyncio.Lock()
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def engine(self, generation: Generation, index: ChunkIndex) -> "SparkEngine":
        recipe = Recipe(self._parts, self._settings, generation)
        return SparkEngine(self, recipe, index, self._settings.spark.documents_per_task)

    async def session(self) -> Any:
        """The running session. Raises SparkFailed."""
        async with self._starting:
            if self._session is None:
                self._session = await asyncio.to_thread(self._start)
            return self._session

    async def close(self) -> None:
        """Stops what was started. Twice is harmless."""
        session, self._session = self._session, None
        if session is not None:
            await asyncio.to_thread(session.stop)
        if self._folder is not None:
            self._folder.cleanup()

    def _start(self) -> Any:
        from pyspark.sql import SparkSession

        builder = SparkSession.builder.appName("kb sync")
        if SUBMITTED not in os.environ:
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
            if self._java:
                os.environ["JAVA_HOME"] = str(self._java)
            if LOCAL.fullmatch(self._settings.spark.master):
                os.environ.setdefault("SPARK_LOCAL_IP", LOOPBACK)
            for name, value in options(self._settings.spark.master).items():
                builder = builder.config(name, value)
        with _translated("Spark could not start"):
            session = builder.getOrCreate()
            self._ship(session)
        log.info("spark_started", master=session.sparkContext.master)
        return session

    def _ship(self, session: Any) -> None:
        """Executors run the driver's code, whatever version their own machine may have.

        What spark-submit was given with --py-files is taken as it is.
        """
        if session.sparkContext.getConf().get("spark.submit.pyFiles"):
            return
        self._folder = tempfile.TemporaryDirectory(prefix="kb-spark-")
        archive = Path(self._folder.name) / "kb-code.zip"
        write_code(self._packages, archive)
        session.sparkContext.addPyFile(str(archive))


class SparkEngine:
    """Implements `Engine`. `index` is the generation's, for making visible what executors wrote."""

    def __init__(
        self, cluster: SparkCluster, recipe: Recipe, index: ChunkIndex, documents_per_task: int
    ) -> None:
        self._cluster = cluster
        self._recipe = recipe
        self._index = index
        self._documents_per_task = documents_per_task

    async def run(self, tasks: AsyncIterator[Task], ledger: Ledger, progress: SyncProgress) -> None:
        """Without a task nothing is started."""
        first = await anext(tasks, None)
        if first is None:
            return
        session = await self._cluster.session()
        # An earlier run, killed, may have written what can't be seen yet.
        await self._index.refresh()
        shape = Shape.of(slots_of(session), self._documents_per_task)
        jobs = Jobs(session, self._recipe, shape)
        settling = asyncio.Lock()
        free = asyncio.Semaphore(shape.jobs)

        async def job(batch: list[Task]) -> None:
            outcomes, tallies = await jobs.collect(batch)
            async with settling:
                await self._index.refresh()
                await ledger.settle(outcomes)
            progress.embedded += sum(tally.embedded for tally in tallies)
            progress.reused += sum(tally.reused for tally in tallies)
            free.release()
            for tally in tallies:
                if tally.error:
                    raise tally.error

        try:
            async with asyncio.TaskGroup() as group:
                async for batch in _batches(first, tasks, shape.tasks * shape.documents):
                    await free.acquire()
                    group.create_task(job(batch))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        finally:
            await jobs.end()


class Jobs:
    """Jobs of one run, each collected by a thread; ended together."""

    def __init__(self, session: Any, recipe: Recipe, shape: Shape) -> None:
        self._session = session
        self._recipe = recipe
        self._shape = shape
        self._group = f"kb-{uuid.uuid4().hex}"
        self._threads = ThreadPoolExecutor(shape.jobs, "spark-job")
        self._running: set[Future[list[Any]]] = set()

    async def collect(self, tasks: Sequence[Task]) -> tuple[list[Outcome], list[Tally]]:
        """Raises SparkFailed."""
        future = self._threads.submit(self._collect, tasks)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        answers = await asyncio.wrap_future(future)
        outcomes = [answer for answer in answers if isinstance(answer, Outcome)]
        tallies = [answer for answer in answers if isinstance(answer, Tally)]
        return outcomes, tallies

    async def end(self) -> None:
        """Cancels what still runs, and waits for it: a job may just be about to begin."""
        from py4j.protocol import Py4JError

        self._threads.shutdown(wait=False, cancel_futures=True)
        while self._running:
            with suppress(Py4JError):  # Spark itself is gone: the threads are about to learn it.
                context = self._session.sparkContext
                await asyncio.to_thread(context.cancelJobGroup, self._group)
            await asyncio.sleep(CANCELLING_S)

    def _collect(self, tasks: Sequence[Task]) -> list[Any]:
        recipe = self._recipe

        def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            from pyspark import TaskContext

            task: Any = TaskContext.get()
            return work(recipe, Place(task.cpus(), task.attemptNumber()), batches)

        with _translated(f"Spark gave up on {len(tasks)} documents"):
            description = f"index {len(tasks)} documents of {recipe.generation.collection}"
            self._session.sparkContext.setJobGroup(self._group, description, True)
            rows = pa.table([[pickle.dumps(task) for task in tasks]], schema=TASK)
            frame = self._session.createDataFrame(rows)
            parts = self._shape.tasks_for(len(tasks))
            parted = frame.repartition(parts) if parts > 1 else frame.coalesce(1)
            answers = parted.mapInArrow(run, f"{ANSWER.names[0]} binary").collect()
        return [pickle.loads(bytes(row[0])) for row in answers]


def options(master: str) -> Mapping[str, str]:
    """Spark's own options for a master. Those of a cluster are the user's (spark-defaults.conf).

    On one machine a task has all processors of its executor: its Python worker loads the model once
    and embeds on a thread each. Nothing listens to other machines.
    """
    match = LOCAL.fullmatch(master.replace(" ", ""))
    if match is None:
        return {"spark.master": master}
    cores = match[1] or match[3]
    if cores == "*":
        cores = str(os.cpu_count() or 1)
        master = f"local[{cores},{match[2] or 1}]"
    return {
        "spark.master": master,
        "spark.task.cpus": cores,
        "spark.driver.host": LOOPBACK,
        "spark.driver.bindAddress": LOOPBACK,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
    }


def slots_of(session: Any) -> int:
    """Tasks that the cluster runs at once."""
    context = session.sparkContext
    cpus = int(context.getConf().get("spark.task.cpus", "1"))
    return max(1, int(context.defaultParallelism) // cpus)


def write_code(packages: Sequence[str], archive: Path) -> None:
    """Python packages as a zip that can be imported from, wherever they were imported from here."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as code:
        for package in packages:
            spec = importlib.util.find_spec(package)
            if spec is None or not spec.submodule_search_locations:
                raise SparkFailed(f"The package {package} can't be found to be sent to executors.")
            root = Path(spec.submodule_search_locations[0])
            for path in sorted(root.rglob("*")):
                if path.is_file() and path.suffix != ".pyc":
                    code.write(path, Path(package) / path.relative_to(root))


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Spark's errors as ours."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JError) as error:
        reason = str(error).strip()[:MOST_OF_REASON]
        raise SparkFailed(f"{what}: {reason}") from error


async def _batches(first: Task, tasks: AsyncIterator[Task], size: int) -> AsyncIterator[list[Task]]:
    batch = [first]
    async for task in tasks:
        if len(batch) == size:
            yield batch
            batch = []
        batch.append(task)
    yield batch
