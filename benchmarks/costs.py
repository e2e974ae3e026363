"""What a piece of work costs: seconds, processor seconds, peak memory. Needs nothing but psutil."""

import threading
import time
from dataclasses import dataclass
from typing import Self

import psutil

MEMORY_SAMPLE_S = 0.1
MIB = 1 << 20


class PeakMemory:
    """Largest sum of resident memory of this process and its children, sampled; MiB."""

    def __init__(self) -> None:
        self.own = self.with_children = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        process = psutil.Process()
        while not self._ended.wait(MEMORY_SAMPLE_S):
            own = process.memory_info().rss / MIB
            children = 0.0
            for child in process.children(recursive=True):
                try:
                    children += child.memory_info().rss / MIB
                except psutil.NoSuchProcess:
                    continue  # It ended between being listed and being asked.
            self.own = max(self.own, own)
            self.with_children = max(self.with_children, own + children)


@dataclass
class Cost:
    """Wall and processor seconds of what happens in the `with` block, children included."""

    wall_s: float = 0.0
    cpu_s: float = 0.0

    def __enter__(self) -> Self:
        self.wall_s, self.cpu_s = -time.perf_counter(), -cpu_seconds()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s += time.perf_counter()
        self.cpu_s += cpu_seconds()


def cpu_seconds() -> float:
    """Of this process and of those below it: a process that has ended counts for the one that awaited it."""
    own = psutil.Process()
    times = [process.cpu_times() for process in [own, *own.children(recursive=True)]]
    return sum(t.user + t.system + t.children_user + t.children_system for t in times)
