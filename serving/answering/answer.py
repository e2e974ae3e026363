"""From a conversation to an answer with citations, or an honest refusal. The use case behind every chat."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Final

import structlog
from prometheus_client import Counter

from kb import metrics, tracing
from kb.errors import AnswerInterrupted, ModelUnavailable
from kb.generation import Message, Role, Sampling
from kb.ports import Embedder
from kb.settings import AnswerSettings
from kb.types import Hit
from serving.answering.breaker import Breaker
from serving.answering.conversation import Asked, is_small_talk, last_question
from serving.answering.events import Answer, Event, Finished, Task, TextDelta
from serving.answering.extractive import Extract, find_quotes
from serving.answering.ladder import Guarded, Ladder
from serving.answering.question_words import content_terms
from serving.answering.refusal import (
    Refusal,
    RefusalReason,
    reason_to_refuse,
    refuse,
    scores,
    strength,
)
from serving.answering.rewriting import Rewriter
from serving.answering.rungs import ExtractiveRung, PassagesRung, deltas

__all__ = [
    "Answer",
    "Answering",
    "Message",
    "Search",
    "answer",
    "answer_events",
    "last_answer",
    "quoting",
]

Search = Callable[[str], Awaitable[list[Hit]]]
"""A search with everything but the question already given."""

REFUSAL: Final = "refusal"
CLEARLY_STRONGER: Final = 0.15
"""A short question that could lean on the conversation is taken alone only where its evidence (see
`refusal.strength`) is stronger by this: with fewer words, chance brings more. The dialogues of
tests/unit/dialogues.json have the same answers with any value, so it is a guard, not a measurement."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answering:
    """What answers are made with. Without a `rewriter` rules put follow-up questions together."""

    settings: AnswerSettings
    ladder: Ladder
    rewriter: Rewriter | None = None
    total_s: float = inf


def quoting_steps() -> list[list[Guarded]]:
    """The rungs that need no model, below those that do. What they can't answer lies in the question."""
    never = sys.maxsize
    return [[Guarded(rung, Breaker(never, 0.0))] for rung in (ExtractiveRung(), PassagesRung())]


def quoting(settings: AnswerSettings) -> Answering:
    """Answers without any generator."""
    return Answering(settings, Ladder(quoting_steps()))


async def answer(
    messages: Sequence[Message],
    *,
    search: Search,
    embedder: Embedder,
    answering: Answering,
    sampling: Sampling | None = None,
) -> Answer:
    """The whole answer; a model that fails in the middle of its own leaves it to the next rung.

    Raises as `answer_events` does, but never AnswerInterrupted.
    """
    events = answer_events(
        messages,
        search=search,
        embedder=embedder,
        answering=answering,
        sampling=sampling,
        whole=True,
    )
    return await last_answer(events)


async def last_answer(events: AsyncGenerator[Event, None]) -> Answer:
    """What the events end with."""
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Finished):
                return event.answer
    raise AssertionError("the last event is Finished")


def answer_events(
    messages: Sequence[Message],
    *,
    search: Search,
    embedder: Embedder,
    answering: Answering,
    sampling: Sampling | None = None,
    whole: bool = False,
) -> AsyncGenerator[Event, None]:
    """Answers the last question of a conversation, or refuses: text as it comes, then the whole answer.

    With `whole` nothing comes before everything is there. Raises InvalidQueryError without a question
    or for parameters that nothing configured can meet, AnswerInterrupted where a model failed after
    some of its text came, and what `search` and `embedder` raise.
    """
    return _measured(_events(messages, search, embedder, answering, sampling or Sampling(), whole))


async def _events(
    messages: Sequence[Message],
    search: Search,
    embedder: Embedder,
    answering: Answering,
    sampling: Sampling,
    whole: bool,
) -> AsyncGenerator[Event, None]:
    answering.ladder.check(sampling.demands)
    deadline = asyncio.get_running_loop().time() + answering.total_s
    asked = last_question(messages, answering.settings.turns)
    if is_small_talk(asked.text):
        for event in _refused(
            refuse(RefusalReason.SMALL_TALK, asked.text), asked.text, [], sampling
        ):
            yield event
        return
    history = _turns_before(messages)
    with metrics.stage("retrieve", metrics.RETRIEVAL):
        question, hits, extract = await _read(asked, history, search, embedder, answering)
    if refusal := _reason(asked, hits, extract):
        for event in _refused(refusal, question, hits, sampling):
            yield event
        return
    task = Task(
        asked=asked.text,
        question=question,
        hits=tuple(hits),
        extract=extract,
        deadline=deadline,
        history=history,
        wishes=[m.content for m in messages if m.role == Role.SYSTEM and m.content.strip()],
        sampling=sampling,
    )
    async with aclosing(answering.ladder.stream(task, whole=whole)) as events:
        async for event in events:
            yield event


def _turns_before(messages: Sequence[Message]) -> list[Message]:
    """The conversation without the last question and without system messages."""
    turns = [m for m in messages if m.role in (Role.USER, Role.ASSISTANT) and m.content.strip()]
    last = max(place for place, turn in enumerate(turns) if turn.role == Role.USER)
    return turns[:last]


def _reason(asked: Asked, hits: Sequence[Hit], extract: Extract | None) -> Refusal | None:
    """Why not to answer, if the passages are not good enough."""
    if not hits:
        return refuse(RefusalReason.NOTHING_FOUND, asked.text)
    if extract is None:
        return None
    if extract.evidence is None:
        return refuse(RefusalReason.NOTHING_FOUND, asked.text)
    reason = reason_to_refuse(extract.evidence)
    return refuse(reason, asked.text, scores(extract.evidence)) if reason else None


async def _read(
    asked: Asked,
    history: Sequence[Message],
    search: Search,
    embedder: Embedder,
    answering: Answering,
) -> tuple[str, list[Hit], Extract | None]:
    """The question as it was meant: rewritten, with the conversation, without it, or what has better evidence."""
    settings = answering.settings

    async def read(question: str) -> tuple[str, list[Hit], Extract | None]:
        hits = (await search(question))[: settings.passages]
        focus = asked.text if question != asked.text and content_terms(asked.text) else ""
        try:
            extract = await find_quotes(
                question, hits, embedder=embedder, limit=settings.sentences, focus=focus
            )
        except ModelUnavailable as error:
            log.warning("sentences_not_compared", code=error.code, reason=error.message)
            return question, hits, None
        return question, hits, extract

    if asked.in_context is None:
        return await read(asked.text)
    if answering.rewriter and (rewritten := await answering.rewriter.rewrite(asked.text, history)):
        return await read(rewritten)
    in_context = await read(asked.in_context)
    if asked.leans:
        return in_context
    alone = await read(asked.text)
    clearly_alone = _strength(alone[2]) > _strength(in_context[2]) + CLEARLY_STRONGER
    return alone if clearly_alone else in_context


def _strength(extract: Extract | None) -> float:
    return strength(extract.evidence) if extract and extract.evidence else -inf


def _refused(
    refusal: Refusal, question: str, hits: Sequence[Hit], sampling: Sampling
) -> list[Event]:
    """Where JSON was asked for, the sentence is no text of the answer."""
    text = "" if sampling.is_structured else refusal.message
    answer = Answer(text, (), tuple(hits), REFUSAL, None, refusal, question)
    return [*map(TextDelta, deltas(text)), Finished(answer)]


async def _measured(events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
    """Counts and logs how an answer ended, whatever the end."""
    started = monotonic()
    first_text: float | None = None
    outcome: Counter | None = metrics.ANSWERS_ABANDONED
    try:
        async with aclosing(events):
            async for event in events:
                if isinstance(event, TextDelta) and first_text is None:
                    first_text = monotonic() - started
                    tracing.happened("first_text")
                if isinstance(event, Finished):
                    outcome = None
                    _record(event.answer, first_text, monotonic() - started)
                yield event
    except AnswerInterrupted:
        outcome = metrics.ANSWERS_INTERRUPTED
        raise
    except Exception:
        outcome = None  # No answer at all: the caller gets the error, and logs it.
        raise
    finally:
        if outcome:
            outcome.inc()


def _record(answer: Answer, first_text: float | None, seconds: float) -> None:
    degraded = "yes" if answer.degraded_because else "no"
    refused = answer.refusal.reason.value if answer.refusal else ""
    metrics.ANSWERS.labels(answer.answered_by, degraded, refused).inc()
    metrics.ANSWER.labels(answer.answered_by).observe(seconds)
    if first_text is not None:
        metrics.FIRST_TEXT.labels(answer.answered_by).observe(first_text)
    log.info(
        "answered",
        answered_by=answer.answered_by,
        degraded_because=answer.degraded_because,
        refused=refused or None,
        citations=len(answer.citations),
        seconds=round(seconds, 3),
    )
