"""Syncs on Spark whose parts are killed, run twice or cancelled end like an undisturbed one."""

import asyncio
import contextlib
import json
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import cycle
from pathlib import Path

import psutil
import pytest

from kb.settings import IndexSettings
from kb.types import RunStatus
from serving.bootstrap import Services
from serving.health import examine
from tests.conftest import throw_away_elasticsearch
from tests.e2e.kb_process import START_TIMEOUT_S, data_folder
from tests.e2e.spark.conftest import Install, installed
from tests.e2e.spark.installation import (
    DOCUMENTS,
    Content,
    Installation,
    check_same,
    wait_until_some_are_indexed,
)
from tests.e2e.spark.standalone import standalone_cluster
from tests.e2e.victims import Elasticsearch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.spark,
    pytest.mark.elasticsearch,
    pytest.mark.timeout(3600),
]

KILLS = int(os.environ.get("TEST_KILLS", "4"))
SEED = os.environ.get("TEST_SEED", "1")
EXECUTOR, PYTHON_WORKER = "CoarseGrainedExecutorBackend", "pyspark.daemon"
ORPHAN_GRACE_S = 30

Sync = subprocess.Popen[str]


def kill_one(sync: Sync, part: str) -> bool:
    """SIGKILL to one executor, or to one Python worker: a fork of the daemon, not the daemon itself.

    Whether there was one yet, or still.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(sync.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                parent = child.parent()
                forked = parent is not None and PYTHON_WORKER in " ".join(parent.cmdline())
                if part in " ".join(child.cmdline()) and (forked or part != PYTHON_WORKER):
                    child.kill()
                    return True
    return False


def kill_driver(sync: Sync) -> bool:
    if sync.poll() is not None:
        return False
    children = psutil.Process(sync.pid).children(recursive=True)
    sync.kill()
    sync.communicate()
    _, alive = psutil.wait_procs(children, ORPHAN_GRACE_S)
    assert not alive, f"still running after the driver was killed: {alive}"
    return True


def kill_server(sync: Sync, server: Elasticsearch) -> bool:
    if sync.poll() is not None:
        return False
    server.kill()
    server.start()
    return True


@pytest.fixture
def killers() -> Iterator[tuple[str, Mapping[str, Callable[[Sync], bool]]]]:
    """The URL of an Elasticsearch that may be killed, and how each part is."""
    with throw_away_elasticsearch() as (url, folder):
        server = Elasticsearch(folder)
        yield (
            url,
            {
                "executor": lambda sync: kill_one(sync, EXECUTOR),
                "driver": kill_driver,
                "Elasticsearch": lambda sync: kill_server(sync, server),
                "Python worker": lambda sync: kill_one(sync, PYTHON_WORKER),
            },
        )


async def check_clean(services: Services) -> None:
    assert [found async for found in examine(services) if found.problem] == []


def test_whatever_is_killed_the_sync_ends_like_an_undisturbed_one(
    expected: Content,
    folder: Path,
    models: Path,
    tmp_path: Path,
    cluster: dict[str, str],
    killers: tuple[str, Mapping[str, Callable[[Sync], bool]]],
) -> None:
    """At random moments, of which some come before a part is there or after the sync's end: those don't count."""
    url, victims = killers
    chance = random.Random(f"spark {SEED}")

    def install(name: str) -> Installation:
        data_dir = data_folder(tmp_path / name, models)
        return installed(data_dir, IndexSettings(url=url, prefix=f"test-{name}-"), folder)

    undisturbed = install("undisturbed")
    started = time.monotonic()
    undisturbed.sync(**cluster)
    duration_s = time.monotonic() - started
    killed: Counter[str] = Counter()
    names = cycle(victims)
    for number in range(4 * KILLS):
        if killed.total() == KILLS:
            break
        name = next(names)
        spark = install(f"{number}")
        sync = spark.start("sync", "--json", "--engine", "spark", **cluster)
        after_s = chance.uniform(0, duration_s)
        time.sleep(after_s)
        in_time = victims[name](sync)
        killed[name] += in_time
        sync.communicate(timeout=START_TIMEOUT_S)
        if done := sync.returncode == 0:
            assert spark.sync()["unchanged"] == DOCUMENTS + 3
        else:  # The next one, in process, goes on where this one ended.
            known = len(spark.look(lambda services: services.catalog.documents()))
            counts = spark.sync()
            assert counts["unchanged"] == known
            assert counts["unchanged"] + counts["indexed"] + counts["failed"] == DOCUMENTS + 3
        check_same(spark.content(), expected)
        spark.look(check_clean)
        told = f"{name} killed {after_s:.1f} s after the begin of a sync of {duration_s:.0f} s"
        print(f"{told}, in time: {in_time}, went on by itself: {done}; all is as undisturbed")  # noqa: T201
    assert killed.total() == KILLS, "the syncs end before anything can be killed"


def test_tasks_that_run_twice_at_once_change_nothing(
    install: Install,
    expected: Content,
    spark_home: Path,
    stranger: Path,
    tmp_path: Path,
) -> None:
    """Speculation: whatever takes longer than a moment gets a second copy on the other machine."""
    events = tmp_path / "events"
    events.mkdir()
    options = {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.executor.memory": "512m",
        "spark.speculation": "true",
        "spark.speculation.task.duration.threshold": "200ms",
        "spark.eventLog.enabled": "true",
        "spark.eventLog.rolling.enabled": "false",
        "spark.eventLog.compress": "false",
        "spark.eventLog.dir": events.as_uri(),
    }
    lines = "\n".join(f"{name} {value}" for name, value in options.items())
    (tmp_path / "spark-defaults.conf").write_text(f"{lines}\n")
    spark = install()
    with standalone_cluster(spark_home, tmp_path) as master:
        counts = spark.sync(
            KB_SPARK__MASTER=master,
            KB_SPARK__DOCUMENTS_PER_TASK="10",
            SPARK_HOME=str(spark_home),
            SPARK_CONF_DIR=str(tmp_path),
            SPARK_LOCAL_IP="127.0.0.1",
            PYSPARK_PYTHON=str(stranger),
        )
    (log,) = events.iterdir()
    told = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    copies = [event for event in told if event.get("Task Info", {}).get("Speculative")]
    assert copies, "no task was run twice"
    assert (counts["indexed"], counts["failed"]) == (DOCUMENTS, 3)
    check_same(spark.content(), expected)
    spark.look(check_clean)


def test_a_cancelled_run_ends_and_the_next_goes_on(
    install: Install, expected: Content, cluster: dict[str, str]
) -> None:
    spark = install()
    process = spark.start("sync", "--json", "--engine", "spark", **cluster)

    async def cancelled(services: Services) -> RunStatus:
        await wait_until_some_are_indexed(services, process)
        (run,) = await services.catalog.runs()
        await services.catalog.cancel_run(run.id)
        await asyncio.to_thread(process.communicate, timeout=START_TIMEOUT_S)
        return (await services.catalog.run(run.id)).status

    assert spark.look(cancelled) is RunStatus.CANCELLED
    known = len(spark.look(lambda services: services.catalog.documents()))
    assert 0 < known < DOCUMENTS + 3
    assert spark.sync()["unchanged"] == known, "in process, where Spark ended"
    check_same(spark.content(), expected)
