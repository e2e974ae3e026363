"""The rungs that need no model: quoted sentences, and passages as they are."""

from collections.abc import AsyncGenerator, Iterator
from typing import Final

import regex

from kb.errors import ModelUnavailable
from kb.types import Hit
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


class ExtractiveRung:
    """The sentences that answer, quoted. It samples nothing, so parameters of sampling don't matter."""

    name = "extractive"
    honours: frozenset[str] = frozenset()

    async def ready(self) -> None:
        return

    async def stream(self, task: Task) -> AsyncGenerator[Event, None]:
        if task.extract is None:
            raise ModelUnavailable("The sentences of the passages could not be compared.")
        text, cited = render(task.extract.quotes)
        sources = {number: [quote.hit] for number, quote in enumerate(task.extract.quotes, start=1)}
        support = check(text, cited, sources)
        for delta in deltas(text):
            yield TextDelta(delta)
        yield Finished(
            Answer(text, cited, task.hits, self.name, None, None, task.question, support)
        )

    async def close(self) -> None:
        return


class PassagesRung:
    """The passages that fit best, whole: what is left when not even sentences can be compared."""

    name = "passages"
    honours: frozenset[str] = frozenset()

    async def ready(self) -> None:
        return

    async def stream(self, task: Task) -> AsyncGenerator[Event, None]:
        shown = task.hits[:_PASSAGES_SHOWN]
        paragraphs = [
            _INTRODUCTION[language(task.asked)],
            *(_paragraph(n, hit) for n, hit in enumerate(shown, 1)),
        ]
        text = "\n\n".join(paragraphs)
        cited = tuple(
            citations.cite(number, hit, (0, len(hit.chunk.text)))
            for number, hit in enumerate(shown, 1)
        )
        support = check(text, cited, {number: [hit] for number, hit in enumerate(shown, 1)})
        for delta in deltas(text):
            yield TextDelta(delta)
        yield Finished(
            Answer(text, cited, task.hits, self.name, None, None, task.question, support)
        )

    async def close(self) -> None:
        return


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
