"""Follow-up questions written anew by the generator, so that they stand alone."""

from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

import regex
import structlog

from kb.errors import InvalidQueryError, ModelUnavailable
from kb.generation import Message, Sampling
from kb.ports import Generator
from serving.answering import citations
from serving.answering.breaker import Breaker
from serving.answering.deadlines import within
from serving.answering.prompting import Prompts, rewrite_messages
from serving.answering.question_words import content_terms, language

_TURNS: Final = 6
_TURN_CHARACTERS: Final = 600
_MOST_TOKENS: Final = 120
_MOST_CHARACTERS: Final = 400
_LEAST_KEPT: Final = 0.5
_MOST_NEW: Final = 0.3
_LABEL: Final = regex.compile(
    r"^(?:rewritten question|standalone question|question|改写后的问题|问题)\s*[:：]\s*",
    regex.IGNORECASE,
)

log = structlog.get_logger(__name__)


class Rewriter:
    """Asks the first generator that is not left alone; says nothing where none serves."""

    def __init__(
        self, generators: Sequence[tuple[Generator, Breaker]], prompts: Prompts, patience_s: float
    ) -> None:
        self._generators = generators
        self._prompts = prompts
        self._patience_s = patience_s

    async def rewrite(self, question: str, history: Sequence[Message]) -> str | None:
        """The question in words that need no conversation; None where rules must do."""
        recent = [
            Message(turn.role, citations.without_markers(turn.content)[:_TURN_CHARACTERS])
            for turn in history[-_TURNS:]
        ]
        messages = rewrite_messages(self._prompts, language(question), question, recent)
        for generator, breaker in self._generators:
            if breaker.is_open:
                continue
            try:
                with breaker.guard():
                    text = await within(
                        _said(generator, messages), self._patience_s, "It rewrote too slowly."
                    )
            except (ModelUnavailable, InvalidQueryError) as error:
                log.warning("rewrite_failed", code=error.code, reason=error.message)
                return None
            said = " ".join([*(turn.content for turn in recent), question])
            return usable(text, question, said)
        return None


async def _said(generator: Generator, messages: Sequence[Message]) -> str:
    sampling = Sampling(temperature=0.0, max_tokens=_MOST_TOKENS)
    async with aclosing(generator.stream(messages, sampling)) as deltas:
        return "".join([delta.text async for delta in deltas])


def usable(text: str, question: str, said: str) -> str | None:
    """The rewritten question, or None for what is none: an answer, several lines, other words.

    `said` is the whole conversation: a rewrite brings hardly a word that is not in it, and keeps at
    least half of the question's.
    """
    text = _LABEL.sub("", text.strip()).strip("\"'“”「」 \n")
    words = set(content_terms(text))
    asked = set(content_terms(question))
    known = set(content_terms(said))
    if not words or "\n" in text or len(text) > _MOST_CHARACTERS:
        return None
    if len(words - known) > _MOST_NEW * len(words):
        return None
    return text if len(asked & words) >= _LEAST_KEPT * len(asked) else None
