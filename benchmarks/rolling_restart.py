"""Two APIs behind nginx, restarted in turn while 50 searches a second come in: does one fail, what do they wait?

    python -m benchmarks.rolling_restart [--rounds 2]

Open loop, as long as no more than 2,000 wait. The APIs share a data folder with one document: what is measured is
the change of guard, not retrieval. Client, nginx and APIs share the machine.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from retrieval.embedders.e5_model import ensure_model
from tests.e2e.site import RATE, Questions, Site, site

MOST_WAITING = 2000
BETWEEN_S = 10.0
"""Both answer for so long before each restart, and after the last."""


async def restarted(running: Site, rounds: int) -> tuple[Questions, float]:
    """The questions, all answered, and for how many seconds they were asked."""
    begun = time.monotonic()
    async with Questions(running, MOST_WAITING) as questions:
        for _ in range(rounds):
            for replica in running.replicas:
                await asyncio.sleep(BETWEEN_S)
                replica.tell_to_stop()
                await asyncio.to_thread(replica.process.wait)
                await asyncio.to_thread(replica.start)
                await questions.answered_by(replica)
        await asyncio.sleep(BETWEEN_S)
        took = time.monotonic() - begun
    return questions, took


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        documents = folder / "documents"
        documents.mkdir()
        (documents / "heron.md").write_text("# Heron\n\nHeron listens on port 5520.")
        ensure_model(folder / "models" / "multilingual-e5-small")
        settings = {"KB_SERVER__TRUSTED_PROXIES": "127.0.0.1", "KB_SERVER__DRAIN_S": "2"}
        with site(folder, folder / "models", documents, **settings) as running:
            questions, took = asyncio.run(restarted(running, rounds))
    table = Table(
        "restarts", "asked", "asked/s", "wanted/s", "failed", "P50 ms", "P99 ms", "longest ms"
    )
    p50, p99, longest = 1000 * np.percentile(questions.waited, [50, 99, 100])
    asked = len(questions.answers)
    table.add_row(
        str(rounds * len(running.replicas)),
        f"{asked:,}",
        f"{asked / took:.1f}",
        f"{RATE}",
        str(len(questions.failed)),
        *(f"{ms:.0f}" for ms in (p50, p99, longest)),
    )
    Console(width=110).print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=2, help="restarts of each API")
    main(parser.parse_args().rounds)
