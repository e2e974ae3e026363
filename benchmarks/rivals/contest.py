"""What every contender is given and gives back, and how its work is measured. Needs only psutil.

A contender runs in a process, and most in an environment, of its own: the job and the report travel as
JSON files.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.costs import Cost, PeakMemory

FOUND = 100
"""Chunks that a question brings: enough of them for ten documents."""


@dataclass(frozen=True)
class Job:
    """`documents` is a folder of files, `model` one that sentence-transformers loads.

    Chunks have at most `chunk_tokens` of the model's tokens, about `chunk_characters` characters.
    `batch` is how many texts are embedded together; 0 leaves the contender's own default.
    """

    documents: str
    questions: tuple[str, ...]
    model: str
    chunk_tokens: int
    chunk_characters: int
    batch: int


@dataclass(frozen=True)
class Report:
    """`chunks` are the texts that were embedded; `rankings` have file names, best first, by question."""

    load_s: float
    wall_s: float
    cpu_s: float
    peak_mib: float
    chunks: tuple[str, ...]
    rankings: tuple[tuple[str, ...], ...]


class Contender(Protocol):
    """Made from a `Job`."""

    def ingest(self, folder: Path) -> None:
        """Indexes the folder's Markdown files, and no longer those of an earlier call."""
        ...

    def chunks(self) -> Sequence[str]: ...

    def search(self, question: str) -> Sequence[str]:
        """The file names of the FOUND best chunks."""
        ...

    def close(self) -> None: ...


def measured(job: Job, make: Callable[[Job], Contender]) -> Report:
    with PeakMemory() as peak:
        with Cost() as loading:
            contender = make(job)
            warm_up(contender)
        with Cost() as cost:
            contender.ingest(Path(job.documents))
    rankings = [tuple(dict.fromkeys(contender.search(question))) for question in job.questions]
    chunks = tuple(contender.chunks())
    contender.close()
    return Report(
        loading.wall_s, cost.wall_s, cost.cpu_s, peak.with_children, chunks, tuple(rankings)
    )


def warm_up(contender: Contender) -> None:
    """Everything is imported, loaded and started before the clock is: none of it is throughput."""
    with tempfile.TemporaryDirectory(prefix="rivals-") as folder:
        (Path(folder) / "first.md").write_text("# First\n\nNothing much.\n", "utf-8")
        contender.ingest(Path(folder))


def main(make: Callable[[Job], Contender]) -> None:
    """`python -m benchmarks.rivals.NAME JOB REPORT`."""
    job_file, report_file = map(Path, sys.argv[1:])
    job = Job(**json.loads(job_file.read_text("utf-8")))
    report_file.write_text(json.dumps(asdict(measured(job, make))), "utf-8")
