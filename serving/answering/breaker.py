"""A circuit breaker for calls that stream: what failed several times in a row is left alone for a while.

Our own, because none of the libraries fits (decision 12): they let every caller through once the pause
is over, count a caller who hangs up as a failure or a success, or have no asyncio.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from kb.errors import ModelSuspended, ModelUnavailable


class Breaker:
    """Opens after `failures` in a row; after `pause_s` one call tries, and closes it or opens it again."""

    def __init__(
        self, failures: int, pause_s: float, clock: Callable[[], float] = monotonic
    ) -> None:
        self._most = failures
        self._pause_s = pause_s
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None
        self._trying = False

    @property
    def is_open(self) -> bool:
        return self._opened_at is not None

    @property
    def admits(self) -> bool:
        """Whether a call would be let through now."""
        if self._opened_at is None:
            return True
        return not self._trying and self._clock() - self._opened_at >= self._pause_s

    @contextmanager
    def guard(self) -> Iterator[bool]:
        """Around a whole call; says whether it is the trial. Raises ModelSuspended where none is let through.

        ModelUnavailable counts as a failure. A caller who gives up proves nothing either way.
        """
        if not self.admits:
            raise ModelSuspended("It failed several times in a row and is tried again soon.")
        trial = self.is_open
        self._trying |= trial
        try:
            yield trial
        except ModelUnavailable:
            self._failed(trial)
            raise
        else:
            if trial or not self.is_open:
                self._failures, self._opened_at = 0, None
        finally:
            if trial:
                self._trying = False

    def _failed(self, trial: bool) -> None:
        """Calls under way when it opened do not prolong the pause; a failed trial starts a new one."""
        self._failures += 1
        if trial or (self._failures >= self._most and not self.is_open):
            self._opened_at = self._clock()
