"""The ladder: the best rung that works answers, and the answer says which one and why not a better one."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import structlog

from kb import metrics, tracing
from kb.errors import AnswerInterrupted, InvalidQueryError, ModelUnavailable
from serving.answering.breaker import Breaker
from serving.answering.deadlines import PROBE_S, within
from serving.answering.events import Event, Finished, Rung, Task, TextDelta

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Guarded:
    """A rung, or one of the replicas that share its name, behind a breaker of its own."""

    rung: Rung
    breaker: Breaker

    async def stream(self, task: Task) -> AsyncGenerator[Event, None]:
        with self.breaker.guard() as trial:
            if trial:
                # Cheap, so that nobody waits for a server that is still gone.
                await within(self.rung.ready(), PROBE_S, "It does not answer yet.")
            async with aclosing(self.rung.stream(task)) as events:
                async for event in events:
                    yield event


class Ladder:
    """Steps from the best to the one that always works; the replicas of a step take turns."""

    def __init__(self, steps: Sequence[Sequence[Guarded]]) -> None:
        self._steps = [list(step) for step in steps]
        self._turns = [0 for _ in steps]

    async def stream(self, task: Task, *, whole: bool = False) -> AsyncGenerator[Event, None]:
        """The events of the highest rung that works.

        As long as no text was given out a failure falls to the next; with `whole` that is until the
        answer is complete. Later it raises AnswerInterrupted. Raises InvalidQueryError where no rung
        can meet the demands, and ModelUnavailable where none that can works.
        """
        self.check(task.sampling.demands)
        failures: dict[str, int] = {}  # The step of each.
        for place, guarded in self._in_turn():
            if not guarded.rung.honours.issuperset(task.sampling.demands):
                continue
            sent = False
            try:
                steps = tracing.part_of_each(
                    guarded.stream(task), "generate", {"kb.rung": guarded.rung.name}
                )
                async with aclosing(steps) as events:
                    async for event in _collected(events) if whole else events:
                        sent |= isinstance(event, TextDelta) and bool(event.text)
                        yield _labelled(event, [f for f, at in failures.items() if at < place])
                return
            except ModelUnavailable as error:
                failures[f"{guarded.rung.name}: {error.code}"] = place
                metrics.GENERATION_FAILURES.labels(guarded.rung.name, error.code).inc()
                log.warning(
                    "rung_failed",
                    rung=guarded.rung.name,
                    code=error.code,
                    reason=error.message,
                    after_text=sent,
                )
                if sent:
                    raise AnswerInterrupted(
                        f"The model failed in the middle of its answer: {error.message}"
                    ) from error
        raise ModelUnavailable(f"Nothing can answer now ({', '.join(failures)}).")

    def rungs(self) -> Iterator[Guarded]:
        for step in self._steps:
            yield from step

    async def close(self) -> None:
        for guarded in self.rungs():
            await guarded.rung.close()

    def _in_turn(self) -> Iterator[tuple[int, Guarded]]:
        """The rungs to try with their steps, each step's replicas beginning with another than last time."""
        for place, step in enumerate(self._steps):
            turn = self._turns[place]
            self._turns[place] = (turn + 1) % len(step)
            for guarded in step[turn:] + step[:turn]:
                yield place, guarded

    def check(self, demands: Sequence[str]) -> None:
        """Raises InvalidQueryError where no rung can meet them all."""
        if not any(guarded.rung.honours.issuperset(demands) for guarded in self.rungs()):
            raise InvalidQueryError(
                f"{' and '.join(demands)}: no generator is configured that supports this."
            )


async def _collected(events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """The events, once the last has come."""
    for event in [event async for event in events]:
        yield event


def _labelled(event: Event, failures: Sequence[str]) -> Event:
    if not isinstance(event, Finished):
        return event
    return Finished(replace(event.answer, degraded_because="; ".join(failures) or None))
