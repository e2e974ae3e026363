import asyncio

import pytest

from kb.errors import IndexSchemaMismatch, IndexUnavailable
from serving import patience
from serving.patience import retrying

PATIENCE_S = 0.2


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(patience, "LONGEST_WAIT_S", 0.02)


async def test_a_long_attempt_takes_nothing_from_the_patience() -> None:
    attempts = 0
    async for attempt in retrying(PATIENCE_S, IndexUnavailable):
        with attempt:
            attempts += 1
            await asyncio.sleep(2 * PATIENCE_S)
            if attempts == 1:
                raise IndexUnavailable("gone")
    assert attempts == 2


async def test_work_done_between_two_failures_begins_the_patience_anew() -> None:
    done = 0
    async for attempt in retrying(PATIENCE_S, IndexUnavailable, done=lambda: done):
        with attempt:
            if done < 4:
                done += 1
                await asyncio.sleep(PATIENCE_S / 2)
                raise IndexUnavailable("gone")
    assert done == 4


async def test_failures_in_a_row_end_it_with_the_last_error() -> None:
    attempts = 0
    with pytest.raises(IndexUnavailable, match="gone"):
        async for attempt in retrying(PATIENCE_S, IndexUnavailable):
            with attempt:
                attempts += 1
                raise IndexUnavailable("gone")
    assert attempts > 2


async def test_an_error_that_stays_is_raised_at_once() -> None:
    attempts = 0
    with pytest.raises(IndexSchemaMismatch):
        async for attempt in retrying(PATIENCE_S, IndexUnavailable):
            with attempt:
                attempts += 1
                raise IndexSchemaMismatch("another embedder")
    assert attempts == 1
