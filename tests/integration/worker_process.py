"""A worker process of the tests: jobs that write into a folder which slot they did.

    python worker_process.py CATALOGUE SCHEDULE FOLDER NUMBER_OF_JOBS WORK_S LEASE_S

Says "ready" and waits for a line with the time (seconds since 1970) at which the first job is due, then each
50 ms later, and all once an hour. Each doing of a job is a new file, begun when the job begins and filled when it ends.
"""

import asyncio
import sys
import tempfile
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from apscheduler.triggers.interval import IntervalTrigger

from kb.db.catalog import SQLCatalog
from serving.worker import Job, Worker

DONE = "done"
APART_S = 0.05


def jobs(folder: Path, number: int, first_due: float, work_s: float) -> list[Job]:
    async def work(name: str) -> None:
        with tempfile.NamedTemporaryFile("w", dir=folder, prefix=f"{name}.", delete=False) as file:
            await asyncio.sleep(work_s)
            file.write(DONE)

    def trigger(n: int) -> IntervalTrigger:
        due = datetime.fromtimestamp(first_due + n * APART_S, UTC)
        return IntervalTrigger(hours=1, start_date=due)

    names = [f"job-{n:02}" for n in range(number)]
    return [Job(name, trigger(n), "hourly", partial(work, name)) for n, name in enumerate(names)]


async def main() -> None:
    url, schedule, folder, number, work_s, lease_s = sys.argv[1:]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    first_due = sys.stdin.readline()
    catalog = await SQLCatalog.open(url)
    made = jobs(Path(folder), int(number), float(first_due), float(work_s))
    await Worker(made, catalog, Path(schedule), UTC, float(lease_s)).run()


if __name__ == "__main__":
    asyncio.run(main())
