"""When a failing model is left alone, and when it is tried again."""

import pytest

from kb.errors import ModelSuspended, ModelUnavailable
from serving.answering.breaker import Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(failures=5, pause_s=30, clock=clock)


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(ModelUnavailable, match="gone"), breaker.guard():
            raise ModelUnavailable("gone")


def succeed(breaker: Breaker) -> bool:
    with breaker.guard() as trial:
        return trial


def test_five_failures_in_a_row_open_it(breaker: Breaker) -> None:
    fail(breaker, 4)
    assert breaker.admits
    fail(breaker)
    with pytest.raises(ModelSuspended), breaker.guard():
        pass


def test_a_success_between_failures_begins_the_count_anew(breaker: Breaker) -> None:
    fail(breaker, 4)
    succeed(breaker)
    fail(breaker, 4)
    assert not breaker.is_open


def test_one_trial_is_let_through_after_the_pause(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 5)
    clock.now = 29.9
    assert not breaker.admits
    clock.now = 30
    with breaker.guard() as trial:
        assert trial
        assert not breaker.admits
    assert not breaker.is_open
    assert not succeed(breaker)


def test_a_failed_trial_begins_another_pause(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 5)
    clock.now = 30
    fail(breaker)
    clock.now = 59.9
    assert not breaker.admits
    clock.now = 60
    assert succeed(breaker)
    fail(breaker, 4)
    assert not breaker.is_open


def test_a_trial_given_up_by_its_caller_lets_the_next_one_try(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, 5)
    clock.now = 30
    with pytest.raises(GeneratorExit), breaker.guard():
        raise GeneratorExit
    assert breaker.is_open
    assert breaker.admits
    assert succeed(breaker)


def test_a_caller_who_gives_up_is_neither_failure_nor_success(breaker: Breaker) -> None:
    fail(breaker, 4)
    with pytest.raises(GeneratorExit), breaker.guard():
        raise GeneratorExit
    fail(breaker)
    assert breaker.is_open


def test_calls_under_way_when_it_opens_do_not_prolong_the_pause(
    breaker: Breaker, clock: Clock
) -> None:
    def late() -> None:
        with breaker.guard():
            fail(breaker, 5)
            clock.now = 20
            raise ModelUnavailable("late")

    with pytest.raises(ModelUnavailable, match="late"):
        late()
    clock.now = 30
    assert breaker.admits


def test_a_success_under_way_does_not_close_what_opened_meanwhile(breaker: Breaker) -> None:
    with breaker.guard():
        fail(breaker, 5)
    assert breaker.is_open
