"""Doing work again that failed for a reason that passes: an index that is gone, a generation switched."""

import structlog
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_delay,
    wait_random_exponential,
)

from kb.errors import BackendError, KBError

FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 15.0

log = structlog.get_logger(__name__)


def retrying(patience_s: float, *passing: type[BackendError]) -> AsyncRetrying:
    """Attempts until one ends without an error of these kinds, or the patience is over.

    Errors that say that trying again won't help are raised at once, and so is the last one.
    """

    def passes(error: BaseException) -> bool:
        return isinstance(error, passing) and error.retryable

    return AsyncRetrying(
        retry=retry_if_exception(passes),
        wait=wait_random_exponential(FIRST_WAIT_S, LONGEST_WAIT_S),
        stop=stop_after_delay(patience_s),
        before_sleep=_tell,
        reraise=True,
    )


def _tell(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, KBError):
        log.warning("waiting", code=error.code, reason=error.message, attempt=state.attempt_number)
