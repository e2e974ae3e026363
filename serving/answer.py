"""From a conversation to an answer with citations, or an honest refusal. The use case behind every chat."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

import regex

from kb.ports import Embedder
from kb.settings import AnswerSettings
from kb.types import Citation, Hit
from serving.conversation import Asked, Message, is_small_talk, last_question
from serving.extractive import Extract, find_quotes, render
from serving.question_words import content_terms
from serving.refusal import Refusal, RefusalReason, reason_to_refuse, refuse, scores, strength

__all__ = ["Answer", "Message", "Search", "answer", "deltas"]

Search = Callable[[str], Awaitable[list[Hit]]]
"""A search with everything but the question already given."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`text` has markers [1], [2] for `citations`, which are numbered from 1 as they appear.

    `hits` are what it was made from, `question` is the stand-alone question that was searched.
    `answered_by` is "extractive" or "refusal" (generators add their own); `degraded_because` says
    why a lower step of the ladder answered than was configured. `refusal` is set when refused.
    """

    text: str
    citations: tuple[Citation, ...]
    hits: tuple[Hit, ...]
    answered_by: str
    degraded_because: str | None
    refusal: Refusal | None
    question: str


EXTRACTIVE: Final = "extractive"
REFUSAL: Final = "refusal"
CLEARLY_STRONGER: Final = 0.15
"""A short question that could lean on the conversation is taken alone only where its evidence (see
`refusal.strength`) is stronger by this: with fewer words, chance brings more. The dialogues of
tests/unit/dialogues.json have the same answers with any value, so it is a guard, not a measurement."""


async def answer(
    messages: Sequence[Message], *, search: Search, embedder: Embedder, settings: AnswerSettings
) -> Answer:
    """Answers the last question of a conversation by quoting, or refuses.

    Raises InvalidQueryError without a question, and what `search` and `embedder` raise.
    """
    asked = last_question(messages, settings.turns)
    if is_small_talk(asked.text):
        return _refused(refuse(RefusalReason.SMALL_TALK, asked.text), asked.text, [])
    question, hits, extract = await _best_reading(asked, search, embedder, settings)
    if extract.evidence is None:
        return _refused(refuse(RefusalReason.NOTHING_FOUND, asked.text), question, hits)
    reason = reason_to_refuse(extract.evidence)
    if reason is not None:
        return _refused(refuse(reason, asked.text, scores(extract.evidence)), question, hits)
    text, citations = render(extract.quotes)
    return Answer(text, citations, tuple(hits), EXTRACTIVE, None, None, question)


async def _best_reading(
    asked: Asked, search: Search, embedder: Embedder, settings: AnswerSettings
) -> tuple[str, list[Hit], Extract]:
    """The question as it was meant: with the conversation, without it, or what has better evidence."""

    async def read(question: str) -> tuple[str, list[Hit], Extract]:
        hits = (await search(question))[: settings.passages]
        focus = asked.text if question != asked.text and content_terms(asked.text) else ""
        extract = await find_quotes(
            question, hits, embedder=embedder, limit=settings.sentences, focus=focus
        )
        return question, hits, extract

    if asked.in_context is None:
        return await read(asked.text)
    in_context = await read(asked.in_context)
    if asked.leans:
        return in_context
    alone = await read(asked.text)
    clearly_alone = _strength(alone[2]) > _strength(in_context[2]) + CLEARLY_STRONGER
    return alone if clearly_alone else in_context


def _strength(extract: Extract) -> float:
    return strength(extract.evidence) if extract.evidence else -inf


def _refused(refusal: Refusal, question: str, hits: Sequence[Hit]) -> Answer:
    return Answer(refusal.message, (), tuple(hits), REFUSAL, None, refusal, question)


_DELTA: Final = regex.compile(r"\\?\[\d+\\?\]|\s+|\p{Han}{1,4}|[^\s\p{Han}\[\\]+|.", regex.DOTALL)


def deltas(answer: Answer) -> Iterator[str]:
    """The answer's text cut for streaming: joined it is the text, and no marker is cut apart."""
    waiting = ""
    for match in _DELTA.finditer(answer.text):
        if waiting and not match[0].isspace() and waiting[-1].isspace():
            yield waiting
            waiting = ""
        waiting += match[0]
        if regex.search(r"\p{Han}$", waiting):
            yield waiting
            waiting = ""
    if waiting:
        yield waiting
