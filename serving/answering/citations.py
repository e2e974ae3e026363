"""Citations: from a hit and a span to the shape every answer carries, and where its markers stand. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import regex

from kb.types import Citation, Hit
from serving.answering.sentences import Span

_FENCED: Final = regex.compile(r"^(`{3,}).*?^\1\s*?$", regex.MULTILINE | regex.DOTALL)
_INLINE_CODE: Final = regex.compile(r"(?<!`)(`{1,2})(?!`)[^`\n]+\1(?!`)")
_BRACKETED_NUMBER: Final = regex.compile(r"(?<!\\)\[(\d{1,3})\]")

_SPACED_MARKER: Final = regex.compile(r"[ \t]*(?<!\\)\[\d{1,3}\]")


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
    """Quoted text whose own "[12]" can't be taken for a marker: Markdown shows it unchanged."""
    return _BRACKETED_NUMBER.sub(r"\\[\1\\]", text)


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
    code = [match.span() for kind in (_FENCED, _INLINE_CODE) for match in kind.finditer(text)]
    for match in _BRACKETED_NUMBER.finditer(text):
        if not any(start <= match.start() < end for start, end in code):
            yield match
