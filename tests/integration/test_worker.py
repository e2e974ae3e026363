"""The worker with real processes, both databases, and a clock the tests set."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import time_machine

from kb.db.catalog import SQLCatalog
from kb.db.migrate import migrate
from kb.errors import BackendError
from serving.jobs import cron_trigger
from serving.worker import Job, Worker
from tests.integration import worker_process

REPOSITORY = Path(__file__).parents[2]
JOBS = 50
BERLIN = ZoneInfo("Europe/Berlin")
PATIENCE_S = 30


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[SQLCatalog]:
    url = f"sqlite:///{tmp_path}/catalog.db"
    await migrate(url)
    opened = await SQLCatalog.open(url)
    yield opened
    await opened.close()


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[None]:
    """The worker runs during the block, which ends with it should it fail."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(worker.run())
        yield
        task.cancel()


async def until(condition: Callable[[], bool]) -> None:
    started = time.perf_counter()
    while not condition():
        assert time.perf_counter() - started < PATIENCE_S, "it never came to be"
        await asyncio.sleep(0.02)


async def settled(worker: Worker) -> None:
    """The worker has looked at the clock as it is now, and has done what was due."""
    enough = worker.ticks + 2
    await until(lambda: worker.ticks >= enough and worker.is_idle)


class Nightly:
    """One job at 02:30, and the times at which it was done."""

    def __init__(self, catalog: SQLCatalog, folder: Path, lease_s: float = 0.2) -> None:
        self.catalog, self.folder, self.lease_s = catalog, folder, lease_s
        self.done: list[datetime] = []

    def worker(self, line: str = "30 2 * * *") -> Worker:
        async def action() -> None:
            self.done.append(datetime.now(UTC))

        job = Job("sync", cron_trigger(line, BERLIN), line, action)
        return Worker([job], self.catalog, self.folder / "schedule.db", BERLIN, self.lease_s)

    async def slots(self) -> list[str]:
        return [lease.slot for lease in await self.catalog.leases() if lease.finished_at]


# --- Which worker -------------------------------------------------------------------------------


class Processes:
    """Worker processes, killed at the end of the test if they still run."""

    def __init__(self, url: str, folder: Path, work_s: float, lease_s: float) -> None:
        self.url, self.folder, self.work_s, self.lease_s = url, folder, work_s, lease_s
        self.written = folder / "written"
        self.written.mkdir()
        self.started: list[subprocess.Popen[str]] = []

    def start(self, jobs: int, schedule: str) -> subprocess.Popen[str]:
        """Gives a process that is ready and waits for `go`."""
        arguments = (jobs, self.work_s, self.lease_s)
        process = subprocess.Popen(
            [
                sys.executable,
                worker_process.__file__,
                self.url,
                str(self.folder / schedule),
                str(self.written),
                *map(str, arguments),
            ],
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.started.append(process)
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        return process

    @staticmethod
    def go(process: subprocess.Popen[str], first_due: float) -> None:
        assert process.stdin
        process.stdin.write(f"{first_due}\n")
        process.stdin.flush()

    def begun(self) -> Counter[str]:
        return Counter(path.name.split(".")[0] for path in self.written.iterdir())

    def finished(self) -> Counter[str]:
        return Counter(
            path.name.split(".")[0]
            for path in self.written.iterdir()
            if path.read_text() == worker_process.DONE
        )


@pytest.fixture
def processes(catalog_url: str, tmp_path: Path) -> Iterator[Processes]:
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(migrate(catalog_url))
    made = Processes(catalog_url, tmp_path, work_s=0.1, lease_s=10)
    yield made
    for process in made.started:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False], ids=["one schedule", "a schedule each"])
async def test_two_workers_racing_for_fifty_jobs_do_each_once(
    processes: Processes, shared: bool
) -> None:
    """On one machine they share the schedule; on two machines each has its own."""
    pair = [
        processes.start(JOBS, "schedule.db" if shared else f"schedule-{number}.db")
        for number in range(2)
    ]
    due = time.time() + 3
    for process in pair:
        processes.go(process, due)
    await until(lambda: processes.finished().total() >= JOBS)
    await asyncio.sleep(1)
    assert len(processes.begun()) == JOBS
    assert set(processes.begun().values()) == {1}
    owners = await finished_by(processes.url)
    assert sum(owners.values()) == JOBS
    # With one schedule, whoever reads it first may find all jobs and leave the other none.
    assert shared or len(owners) == 2, "one of the workers did nothing, so they did not race"


async def finished_by(url: str) -> Counter[str | None]:
    catalog = await SQLCatalog.open(url)
    leases = await catalog.leases()
    await catalog.close()
    return Counter(lease.owner for lease in leases if lease.finished_at and not lease.error)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "suspended"])
async def test_a_dead_workers_slot_passes_to_another(
    catalog_url: str, processes: Processes, how: signal.Signals
) -> None:
    """One that was only suspended finds, when it wakes, that the slot is another's, and stops."""
    processes.work_s, processes.lease_s = 4, 2
    first = processes.start(1, "schedule-0.db")
    second = processes.start(1, "schedule-1.db")
    due = time.time() + 2
    processes.go(first, due)
    await until(lambda: processes.begun().total() == 1)
    first.send_signal(how)
    processes.go(second, due + 3000)
    await until(lambda: processes.begun().total() == 2)
    if how is signal.SIGSTOP:
        first.send_signal(signal.SIGCONT)
    await until(lambda: processes.finished().total() == 1)
    await asyncio.sleep(3)
    assert processes.finished() == {"job-00": 1}
    assert sum((await finished_by(catalog_url)).values()) == 1


async def test_a_stopped_worker_leaves_its_slot_to_the_next(
    catalog: SQLCatalog, tmp_path: Path
) -> None:
    begun: list[int] = []
    may_end = asyncio.Event()

    async def action() -> None:
        begun.append(1)
        await may_end.wait()

    def worker() -> Worker:
        soon = cron_trigger("* * * * *", BERLIN)
        return Worker([Job("sync", soon, "soon", action)], catalog, tmp_path / "s.db", BERLIN, 60)

    with time_machine.travel(datetime(2026, 7, 1, 10, 0, 58, tzinfo=UTC)):
        async with running(worker()):
            await until(lambda: len(begun) == 1)
        assert [lease.owner for lease in await catalog.leases()] == [None]
        may_end.set()
        again = worker()
        async with running(again):
            await until(lambda: len(begun) == 2)
            await until(lambda: again.is_idle)
    (lease,) = await catalog.leases()
    assert lease.finished_at
    assert lease.error is None


async def test_slots_of_one_job_are_done_one_after_another(
    catalog: SQLCatalog, tmp_path: Path
) -> None:
    """Two at once would meet at the source's lock, and one would pass it over."""
    at_once: list[int] = []
    now = 0

    async def action() -> None:
        nonlocal now
        now += 1
        at_once.append(now)
        await asyncio.sleep(1)
        now -= 1

    assert await catalog.take_lease("sync", "earlier", "w0", 60)
    assert await catalog.release_lease("sync", "earlier", "w0")
    job = Job("sync", cron_trigger("* * * * *", BERLIN), "soon", action)
    with time_machine.travel(datetime(2026, 7, 1, 10, 0, 59, 500_000, tzinfo=UTC)):
        async with running(Worker([job], catalog, tmp_path / "s.db", BERLIN, 0.5)):
            await until(lambda: len(at_once) == 2 and now == 0)
    assert at_once == [1, 1]


async def test_a_job_that_fails_is_done_with_and_says_why(
    catalog: SQLCatalog, tmp_path: Path
) -> None:
    failed: list[int] = []

    async def action() -> None:
        failed.append(1)
        raise BackendError("the disk is full")

    job = Job("sync", cron_trigger("* * * * *", BERLIN), "soon", action)
    with time_machine.travel(datetime(2026, 7, 1, 10, 0, 59, tzinfo=UTC)):
        worker = Worker([job], catalog, tmp_path / "s.db", BERLIN, 60)
        async with running(worker):
            await until(lambda: bool(failed) and worker.is_idle)
    (lease,) = await catalog.leases()
    assert lease.finished_at
    assert lease.error == "the disk is full"


# --- When ---------------------------------------------------------------------------------------


async def test_three_days_of_downtime_are_caught_up_once(
    catalog: SQLCatalog, tmp_path: Path
) -> None:
    nightly = Nightly(catalog, tmp_path)
    start = datetime(2026, 7, 1, 10, tzinfo=UTC)
    with time_machine.travel(start):
        worker = nightly.worker()
        async with running(worker):
            await settled(worker)
    assert nightly.done == []
    with time_machine.travel(start + timedelta(days=3)):
        for _ in range(2):
            worker = nightly.worker()
            async with running(worker):
                await settled(worker)
    assert await nightly.slots() == ["2026-07-04T02:30:00"]
    assert len(nightly.done) == 1


async def test_a_changed_time_is_taken_and_forgets_what_was_missed(
    catalog: SQLCatalog, tmp_path: Path
) -> None:
    nightly = Nightly(catalog, tmp_path)
    with time_machine.travel(datetime(2026, 7, 1, 10, tzinfo=UTC)):
        worker = nightly.worker()
        async with running(worker):
            await settled(worker)
    with time_machine.travel(datetime(2026, 7, 3, 10, tzinfo=UTC)):
        worker = nightly.worker("0 14 * * *")
        async with running(worker):
            await settled(worker)
    with time_machine.travel(datetime(2026, 7, 3, 12, 0, 1, tzinfo=UTC)):
        worker = nightly.worker("0 14 * * *")
        async with running(worker):
            await settled(worker)
    assert await nightly.slots() == ["2026-07-03T14:00:00"]
    assert len(nightly.done) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "slots", "first_done"),
    [
        # Clocks go back: 02:30 comes twice.
        (
            datetime(2026, 10, 24, 10, tzinfo=UTC),
            ["2026-10-25T02:30:00", "2026-10-26T02:30:00"],
            datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
        ),
        # Clocks go forward: there is no 02:30, so it is done half an hour after two became three.
        (
            datetime(2027, 3, 27, 10, tzinfo=UTC),
            ["2027-03-28T02:30:00", "2027-03-29T02:30:00"],
            datetime(2027, 3, 28, 1, 30, tzinfo=UTC),
        ),
    ],
    ids=["autumn", "spring"],
)
async def test_a_change_of_clocks_neither_doubles_nor_skips_a_night(
    catalog: SQLCatalog, tmp_path: Path, start: datetime, slots: list[str], first_done: datetime
) -> None:
    """The worker runs through two nights, of which the clock shows it every half hour."""
    nightly = Nightly(catalog, tmp_path)
    with ExitStack() as stack:
        clock = stack.enter_context(time_machine.travel(start))
        worker = nightly.worker()
        async with running(worker):
            await settled(worker)
            for half_hours in (*range(24, 36), *range(72, 84)):
                clock.move_to(start + timedelta(minutes=30 * half_hours, seconds=1))
                await settled(worker)
    assert await nightly.slots() == slots
    assert len(nightly.done) == len(slots)
    assert timedelta() <= nightly.done[0] - first_done < timedelta(minutes=1)


async def test_a_clock_that_jumps_back_does_nothing_twice(
    catalog: SQLCatalog, tmp_path: Path
) -> None:
    nightly = Nightly(catalog, tmp_path)
    before = datetime(2026, 7, 1, 0, 29, tzinfo=UTC)
    with ExitStack() as stack:
        clock = stack.enter_context(time_machine.travel(before))
        worker = nightly.worker()
        async with running(worker):
            await settled(worker)
            clock.move_to(before + timedelta(minutes=2))
            await settled(worker)
            for _ in range(3):
                clock.move_to(before)
                await settled(worker)
                clock.move_to(before + timedelta(minutes=2))
                await settled(worker)
        # A schedule that is lost, by a restored backup say, does not undo what the catalogue knows.
        (tmp_path / "schedule.db").unlink()
        clock.move_to(before)
        worker = nightly.worker()
        async with running(worker):
            await settled(worker)
            clock.move_to(before + timedelta(minutes=2))
            await settled(worker)
    assert len(nightly.done) == 1
