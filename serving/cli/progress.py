"""A progress bar over a running synchronisation."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ingestion.progress import SyncProgress
from serving.cli.output import errors

REFRESH_S = 0.2


@contextmanager
def shown(progress: SyncProgress, quiet: bool = False) -> Iterator[None]:
    """Draws documents, chunks per second and the time left, on standard error, until the block ends."""
    if quiet:
        yield
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total} documents"),
        TextColumn("{task.fields[chunks]} chunks"),
        TextColumn("{task.fields[rate]:.1f} chunks/s"),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=errors,
    ) as bar:
        task = bar.add_task("Indexing", total=None, chunks=0, rate=0.0)
        with drawn(lambda: _update(bar, task, progress)):
            yield


@contextmanager
def drawn(update: Callable[[], None]) -> Iterator[None]:
    """Calls `update` again and again in a thread, and once more at the end of the block.

    The event loop works; the thread only reads its counters.
    """
    ended = threading.Event()

    def draw() -> None:
        last = False
        while not last:
            last = ended.wait(REFRESH_S)
            update()

    drawing = threading.Thread(target=draw, daemon=True)
    drawing.start()
    try:
        yield
    finally:
        ended.set()
        drawing.join()


def _update(bar: Progress, task: TaskID, progress: SyncProgress) -> None:
    elapsed = bar.tasks[task].elapsed or REFRESH_S
    bar.update(
        task,
        total=progress.found if progress.walked else None,
        completed=progress.finished,
        chunks=progress.chunks,
        rate=progress.chunks / elapsed,
    )
