"""A progress bar over a running synchronisation."""

import threading
from collections.abc import Iterator
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
        ended = threading.Event()
        drawing = threading.Thread(target=_draw, args=(bar, task, progress, ended), daemon=True)
        drawing.start()
        try:
            yield
        finally:
            ended.set()
            drawing.join()


def _draw(bar: Progress, task: TaskID, progress: SyncProgress, ended: threading.Event) -> None:
    """The event loop works; this thread only reads its counters."""
    last = False
    while not last:
        last = ended.wait(REFRESH_S)
        elapsed = bar.tasks[task].elapsed or REFRESH_S
        bar.update(
            task,
            total=progress.found if progress.walked else None,
            completed=progress.finished,
            chunks=progress.chunks,
            rate=progress.chunks / elapsed,
        )
