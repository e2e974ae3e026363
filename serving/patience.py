"""Doing work again that failed for a reason that passes: an index that is gone, a generation switched."""

import time
from collections.abc import Callable

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential
from tenacity.stop import stop_base

from kb.errors import BackendError, KBError

FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 15.0

log = structlog.get_logger(__name__)


def retrying(
    patience_s: float, *passing: type[BackendError], done: Callable[[], int] = lambda: 0
) -> AsyncRetrying:
    """Attempts until one ends without an error of these kinds, or the patience is over.

    Patience counts from the first of the failures in a row. `done` tells how much work is finished
    for good: when it has grown between two failures, the second is the first of a new row.

    Errors that say that trying again won't help are raised at once, and so is the last one.
    """

    def passes(error: BaseException) -> bool:
        return isinstance(error, passing) and error.retryable

    return AsyncRetrying(
        retry=retry_if_exception(passes),
        wait=wait_random_exponential(FIRST_WAIT_S, LONGEST_WAIT_S),
        stop=_PatienceOver(patience_s, done),
        before_sleep=_tell,
        reraise=True,
    )


class _PatienceOver(stop_base):
    def __init__(self, patience_s: float, done: Callable[[], int]) -> None:
        self._patience_s = patience_s
        self._done = done
        self._row: tuple[int, float] | None = None
        """What was done when the failures in a row began, and when that was (monotonic seconds)."""

    def __call__(self, retry_state: RetryCallState) -> bool:
        now, done = time.monotonic(), self._done()
        if self._row is None or self._row[0] != done:
            self._row = done, now
        return now - self._row[1] >= self._patience_s


def _tell(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, KBError):
        log.warning("waiting", code=error.code, reason=error.message, attempt=state.attempt_number)
