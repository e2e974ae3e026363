"""The rungs that need no model: quoted sentences, and passages as they are."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Final

import regex

from kb.errors import ModelUnavailable
from kb.types import Citation, Hit
from serving.answering import citations
from serving.answering.events import Answer, Event, Finished, Task, TextDelta
from serving.answering.extractive import render
from serving.answering.question_words import language
from serving.answering.support import check

_PASSAGES_SHOWN: Final = 3
_INTRODUCTION: Final = {
    "en": "These passages of the documents fit the question best:",
    "zh": "文档中与这个问题最相关的段落：",
}


class _QuotingRung:
    """Needs nothing and samples nothing, so parameters of sampling don't matter."""

    name: str
    honours: frozenset[str] = frozenset()

    async def ready(self) -> None:
        return

    async def close(self) -> None:
        return

    def _events(
        self, task: Task, text: str, cited: Sequence[Citation], hits: Sequence[Hit]
    ) -> Iterator[Event]:
        """The text in pieces, then the answer; citation n is of the n-th hit."""
        support = check(text, cited, {number: [hit] for number, hit in enumerate(hits, 1)})
        yield from map(TextDelta, deltas(text))
        yield Finished(
            Answer(text, tuple(cited), task.hits, self.name, None, None, task.question, support)
        )


class ExtractiveRung(_QuotingRung):
    """The sentences that answer, quoted."""

    name = "extractive"

    async def stream(self, task: Task) -> AsyncGenerator[Event, None]:
        if task.extract is None:
            raise ModelUnavailable("The sentences of the passages could not be compared.")
        text, cited = render(task.extract.quotes)
        for event in self._events(task, text, cited, [quote.hit for quote in task.extract.quotes]):
            yield event


class PassagesRung(_QuotingRung):
    """The passages that fit best, whole: what is left when not even sentences can be compared."""

    name = "passages"

    async def stream(self, task: Task) -> AsyncGenerator[Event, None]:
        shown = task.hits[:_PASSAGES_SHOWN]
        introduction = _INTRODUCTION[language(task.asked)]
        text = "\n\n".join([introduction, *(_paragraph(n, hit) for n, hit in enumerate(shown, 1))])
        cited = [citations.cite(n, hit, (0, len(hit.chunk.text))) for n, hit in enumerate(shown, 1)]
        for event in self._events(task, text, cited, shown):
            yield event


def _paragraph(number: int, hit: Hit) -> str:
    return f"{citations.escape_markers(hit.chunk.text.strip())} {citations.marker(number)}"


_DELTA: Final = regex.compile(r"\\?\[\d+\\?\]|\s+|\p{Han}{1,4}|[^\s\p{Han}\[\\]+|.", regex.DOTALL)


def deltas(text: str) -> Iterator[str]:
    """A text cut for streaming: joined it is the text, and no marker is cut apart."""
    waiting = ""
    for match in _DELTA.finditer(text):
        if waiting and not match[0].isspace() and waiting[-1].isspace():
            yield waiting
            waiting = ""
        waiting += match[0]
        if regex.search(r"\p{Han}$", waiting):
            yield waiting
            waiting = ""
    if waiting:
        yield waiting
