import asyncio
from dataclasses import dataclass, field

import pytest

from kb.errors import BackendError, IndexSchemaMismatch, IndexUnavailable
from serving import patience
from serving.patience import retrying

PATIENCE_S = 0.2


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(patience, "LONGEST_WAIT_S", 0.02)


@dataclass
class Work:
    """Fails so many times, after some time each."""

    failures: int
    seconds: float = 0.0
    error: BackendError = field(default_factory=lambda: IndexUnavailable("gone"))
    attempts: int = 0

    async def __call__(self) -> None:
        self.attempts += 1
        await asyncio.sleep(self.seconds)
        if self.attempts <= self.failures:
            raise self.error


async def test_a_long_attempt_takes_nothing_from_the_patience() -> None:
    work = Work(failures=1, seconds=2 * PATIENCE_S)
    await retrying(PATIENCE_S, IndexUnavailable)(work)
    assert work.attempts == 2


async def test_work_done_between_two_failures_begins_the_patience_anew() -> None:
    work = Work(failures=4, seconds=PATIENCE_S / 2)
    await retrying(PATIENCE_S, IndexUnavailable, done=lambda: work.attempts)(work)
    assert work.attempts == 5


async def test_failures_in_a_row_end_it_with_the_last_error() -> None:
    work = Work(failures=1000)
    with pytest.raises(IndexUnavailable, match="gone"):
        await retrying(PATIENCE_S, IndexUnavailable)(work)
    assert 2 < work.attempts < 1000


async def test_an_error_that_stays_is_raised_at_once() -> None:
    work = Work(failures=1000, error=IndexSchemaMismatch("another embedder"))
    with pytest.raises(IndexSchemaMismatch):
        await retrying(PATIENCE_S, IndexUnavailable)(work)
    assert work.attempts == 1
