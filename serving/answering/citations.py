"""Citations: from a hit and a span to the shape every answer carries, and where its markers stand. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import regex

from kb.types import Citation, Hit
from serving.answering.sentences import Span

_BRACKETED_NUMBER: Final = regex.compile(r"(?<!\\)\[(\d{1,3})\]")

_SPACED_MARKER: Final = regex.compile(r"[ \t]*(?<!\\)\[\d{1,3}\]")

BEFORE_FENCE: Final = regex.compile(r"[\s>]*+(?:(?:[-*+]|\d{1,9}[.)])\s[\s>]*+)?")
"""What may stand on a line before a fence: spaces, quotation marks, the start of a list item."""
_FENCE_START: Final = regex.compile(rf"{BEFORE_FENCE.pattern}(`{{3,}}(?=[^`]*$)|~{{3,}})")
_FENCE_END: Final = regex.compile(r"[\s>]*+(`{3,}|~{3,})\s*")
_TICKS: Final = regex.compile(r"`+")


def cite(number: int, hit: Hit, span: Span) -> Citation:
    """The citation of `span` (characters of the hit's chunk text), as number [n] of an answer.

    `quote` is exactly that span, and `start:end` the same span of the document's parsed text.
    Raises ValueError for a span that isn't inside the chunk.
    """
    chunk = hit.chunk
    start, end = span
    if not 0 <= start < end <= len(chunk.text):
        raise ValueError(f"the span {span} is outside the chunk's {len(chunk.text)} characters")
    return Citation(
        number=number,
        document_id=chunk.document_id,
        chunk_id=chunk.id,
        uri=hit.uri,
        title=chunk.title,
        heading_path=chunk.heading_path,
        page=chunk.page,
        quote=chunk.text[start:end],
        start=chunk.start + start,
        end=chunk.start + end,
        score=hit.score,
        also_at=hit.also_at,
    )


def marker(number: int) -> str:
    return f"[{number}]"


def escape_markers(text: str) -> str:
    """Quoted text whose own "[12]" can't be taken for a marker: Markdown shows it unchanged.

    What follows it is not code: a fence left open is closed, and one at its end has its line alone.
    """
    escaped = _BRACKETED_NUMBER.sub(r"\\[\1\\]", text)
    *_, (last, fence) = _fences(escaped)
    if not fence:
        return escaped
    return f"{escaped}\n" if closes_fence(last, fence) else f"{escaped}\n{fence}\n"


def without_markers(text: str) -> str:
    """A text without its [n], and without the spaces before them."""
    return _SPACED_MARKER.sub("", text)


@dataclass(frozen=True, slots=True)
class Marker:
    """A [n] in an answer's text: `start:end` are characters of that text."""

    start: int
    end: int
    citation: Citation


def markers(text: str, citations: Sequence[Citation]) -> list[Marker]:
    """Where an answer's text refers to its citations, in reading order. Code blocks don't count."""
    by_number = {citation.number: citation for citation in citations}
    return [
        Marker(match.start(), match.end(), by_number[int(match[1])])
        for match in _outside_code(text)
        if int(match[1]) in by_number
    ]


def _outside_code(text: str) -> Iterator[regex.Match[str]]:
    position = 0
    for start, end in chain(_code(text), [(len(text), len(text))]):
        yield from _BRACKETED_NUMBER.finditer(text, position, start)
        position = end


# --- What code is, for markers() and for the filter that writes them ------------------------------


def _code(text: str) -> Iterator[Span]:
    """Fenced lines, to the text's end where the fence stays open, and code within a line."""
    position = 0
    for line, fence in _fences(text):
        for start, end in [(0, len(line))] if fence else _inline(line):
            yield position + start, position + end
        position += len(line) + 1


def _fences(text: str) -> Iterator[tuple[str, str]]:
    """The lines, each with the fence that makes it code, or nothing. Fences themselves are code."""
    fence = ""
    for line in text.split("\n"):
        is_open = bool(fence)
        fence = fence or opened_fence(line)
        yield line, fence
        if is_open and closes_fence(line, fence):
            fence = ""


def opened_fence(line: str) -> str:
    """The fence that starts code at this line; "" where none does."""
    match = _FENCE_START.match(line)
    return match[1] if match else ""


def closes_fence(line: str, fence: str) -> bool:
    match = _FENCE_END.fullmatch(line)
    return match is not None and match[1].startswith(fence)


def _inline(line: str) -> Iterator[Span]:
    position = 0
    while ticks := _TICKS.search(line, position):
        end = end_of_inline(ticks[0], line, ticks.end(), len(line))
        if end:
            yield ticks.start(), end
        position = end or ticks.end()


def end_of_inline(ticks: str, text: str, start: int, end: int) -> int:
    """Where code within a line ends that `ticks` opened before `start`; 0 where nothing closes it.

    The first run of as many ticks does. Those never closed all differ, so there are few of them.
    """
    runs = _TICKS.finditer(text, start, end)
    return next((run.end() for run in runs if run[0] == ticks), 0)
