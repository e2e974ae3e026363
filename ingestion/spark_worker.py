"""The executors' side of Spark: one task's documents through the same engine as in process.

Everything costly (model, connections, parsing processes) is opened once in a Python worker and kept for
its next tasks.
"""

import asyncio
import importlib
import pickle
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Protocol

import pyarrow as pa

from ingestion.indexing import InProcessEngine, Ledger, Outcome
from ingestion.planning import Task
from ingestion.progress import SyncProgress
from kb.errors import KBError
from kb.settings import Settings
from kb.types import Generation

TASK = pa.schema([("task", pa.binary())])
ANSWER = pa.schema([("answer", pa.binary())])
"""Rows in and out are pickles: a `Task` each, and an `Outcome` each with a `Tally` behind them."""


class EngineParts(Protocol):
    """What an executor opens and keeps."""

    async def engine_for(self, generation: Generation) -> InProcessEngine: ...


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an executor makes its engine. `parts` is the dotted name, `module:function`, of what takes
    the settings and a number of processors and gives `EngineParts`."""

    parts: str
    settings: Settings
    generation: Generation


@dataclass(frozen=True, slots=True)
class Place:
    """Where a task runs: its processors, and how often it was tried before."""

    cpus: int
    attempt: int


@dataclass(slots=True)
class Tally:
    """What a task did: chunks embedded and reused, and the error that ended it, if one did.

    A backend that is gone is an answer, not a failed task: trying again at once would not help, and
    the driver knows how to wait.
    """

    embedded: int = 0
    reused: int = 0
    error: KBError | None = None


class Collected(Ledger):
    """Outcomes for the driver, without their chunks: those are in the index."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    async def settle(self, outcomes: Sequence[Outcome]) -> None:
        self.outcomes.extend(replace(outcome, chunks=()) for outcome in outcomes)


@dataclass(slots=True)
class Worker:
    """What a Python worker keeps: its event loop, to which connections are bound, and its parts."""

    runner: asyncio.Runner = field(default_factory=asyncio.Runner)
    parts: dict[bytes, EngineParts] = field(default_factory=dict)


@cache
def this_worker() -> Worker:
    return Worker()


def work(
    recipe: Recipe, place: Place, batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """One task of Spark: `TASK` rows to `ANSWER` rows."""
    tasks = [pickle.loads(row.as_py()) for batch in batches for row in batch.column(0)]
    worker = this_worker()
    outcomes, tally = worker.runner.run(_index(recipe, place, tasks, worker))
    rows = [pickle.dumps(answer) for answer in (*outcomes, tally)]
    yield pa.record_batch([rows], schema=ANSWER)


async def _index(
    recipe: Recipe, place: Place, tasks: Sequence[Task], worker: Worker
) -> tuple[list[Outcome], Tally]:
    collected = Collected()
    progress = SyncProgress()
    tally = Tally()
    try:
        engine = await _parts(recipe, place, worker).engine_for(recipe.generation)
        if place.attempt:  # An earlier one may have written what can't be seen yet.
            await engine.index.refresh()
        await engine.run(_each(tasks), collected, progress)
    except KBError as error:
        tally.error = error
    tally.embedded, tally.reused = progress.embedded, progress.reused
    return collected.outcomes, tally


def _parts(recipe: Recipe, place: Place, worker: Worker) -> EngineParts:
    key = pickle.dumps(recipe.settings)
    if key not in worker.parts:
        module, _, function = recipe.parts.partition(":")
        open_parts: Any = getattr(importlib.import_module(module), function)
        worker.parts[key] = open_parts(recipe.settings, place.cpus)
    return worker.parts[key]


async def _each(tasks: Sequence[Task]) -> AsyncIterator[Task]:
    for task in tasks:
        yield task
