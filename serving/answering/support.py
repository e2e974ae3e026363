"""How far what an answer says is in the passages it cites: words, numbers and names compared. Pure.

It finds a wrong number, a name from elsewhere, a sentence about something else. It does not
understand: a negation passes it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import regex

from kb.types import Citation, Hit
from retrieval.terms import terms
from serving.answering import citations
from serving.answering.question_words import content_terms, language
from serving.answering.sentences import Span, pieces

LEAST_SUPPORT: Final = 0.5
"""A statement with less of its words, numbers and names in its passages is not supported by them."""

_NUMBER: Final = regex.compile(r"\d+(?:[.,:]\d+)*")
_CHINESE_NUMBER: Final = regex.compile(r"[零〇一二两三四五六七八九十百千万亿]{2,}|十")
_CHINESE_DIGITS: Final = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_CHINESE_UNITS: Final = {"十": 10, "百": 100, "千": 1000}
_NAME: Final = regex.compile(r"(?<!^)(?<![.!?。！？]\s)\b(?:\p{Lu}[\w-]+|\w+[_./-]\w[\w./-]*)")


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence of an answer (`start:end` are characters of its text) and what it cites.

    `score` is the share of its words, numbers and names that its passages have, 0 to 1; None where
    it cites nothing, or is in another language than they and has neither number nor name.
    `missing` are the numbers and names that they do not have.
    """

    start: int
    end: int
    citations: tuple[int, ...]
    score: float | None
    missing: tuple[str, ...]

    @property
    def is_supported(self) -> bool:
        return self.score is None or (self.score >= LEAST_SUPPORT and not self.missing)


@dataclass(frozen=True, slots=True)
class Support:
    """The statements of an answer. `score` is the mean of those that can be compared."""

    statements: tuple[Statement, ...]

    @property
    def score(self) -> float | None:
        scores = [s.score for s in self.statements if s.score is not None]
        return sum(scores) / len(scores) if scores else None

    @property
    def is_supported(self) -> bool:
        """Something is cited, and no cited statement lacks what it needs."""
        cited = [s for s in self.statements if s.citations]
        return bool(cited) and all(s.is_supported for s in cited)


def check(text: str, cited: Sequence[Citation], sources: Mapping[int, Sequence[Hit]]) -> Support:
    """Compares each sentence of an answer with the passages behind its markers.

    `sources` are the chunks that the answer's author saw behind each citation number.
    """
    return Support(
        tuple(
            _compared(text, span, numbers, [h for n in numbers for h in sources[n]])
            for span, numbers in statements(text, cited)
        )
    )


def statements(text: str, cited: Sequence[Citation]) -> list[tuple[Span, tuple[int, ...]]]:
    """The sentences of an answer with the numbers they cite: in them, or right after them."""
    marks = citations.markers(text, cited)
    plain = list(text)
    for mark in marks:
        plain[mark.start : mark.end] = " " * (mark.end - mark.start)
    spans = [piece.span for piece in pieces("".join(plain))]
    numbers: list[list[int]] = [[] for _ in spans]
    for mark in marks:
        before = [place for place, span in enumerate(spans) if span[0] <= mark.start]
        if before and mark.citation.number not in numbers[before[-1]]:
            numbers[before[-1]].append(mark.citation.number)
    return [(span, tuple(found)) for span, found in zip(spans, numbers, strict=True)]


def _compared(text: str, span: Span, numbers: tuple[int, ...], hits: Sequence[Hit]) -> Statement:
    if not numbers:
        return Statement(*span, numbers, None, ())
    statement = citations.without_markers(text[slice(*span)])
    source = "\n".join(hit.chunk.passage for hit in hits)
    score, missing = compare(statement, source)
    return Statement(*span, numbers, score, missing)


def compare(statement: str, source: str) -> tuple[float | None, tuple[str, ...]]:
    """The score of a statement (see `Statement`) and the numbers and names that the source lacks."""
    known = set(terms(source))
    shares = []
    missing: list[str] = []
    if language(statement) == language(source):
        words = {term for term in content_terms(statement) if not term[0].isdigit()}
        shares += [len(words & known) / len(words)] if words else []
    if wanted := numbers_in(statement):
        lacking = wanted - numbers_in(source)
        missing += sorted(lacking)
        shares.append(1 - len(lacking) / len(wanted))
    if names := set(_NAME.findall(statement)):
        unknown = sorted(name for name in names if not known.intersection(terms(name)))
        missing += unknown
        shares.append(1 - len(unknown) / len(names))
    return (sum(shares) / len(shares) if shares else None), tuple(missing)


def numbers_in(text: str) -> set[str]:
    """The numbers of a text as plain digits: 1,200 and 一千二百 are "1200"."""
    latin = {found.replace(",", "").rstrip(".") for found in _NUMBER.findall(text)}
    return latin | {str(_chinese_number(found)) for found in _CHINESE_NUMBER.findall(text)}


def _chinese_number(text: str) -> int:
    """ "六百五" is not handled as 650; dates such as 二〇二四 are read digit by digit."""
    if not set(text) & set("十百千万亿"):
        return int("".join(str(_CHINESE_DIGITS[character]) for character in text))
    total = section = digit = 0
    for character in text:
        if character in _CHINESE_DIGITS:
            digit = _CHINESE_DIGITS[character]
        elif character in _CHINESE_UNITS:
            section += (digit or 1) * _CHINESE_UNITS[character]
            digit = 0
        else:
            scale = 10_000 if character == "万" else 100_000_000
            total = (total + section + digit or 1) * scale
            section = digit = 0
    return total + section + digit


def best_span(said: str, hits: Sequence[Hit]) -> tuple[Hit, Span]:
    """The piece of the passages that has most of what was said; a whole chunk where none has any of it."""
    wanted = set(content_terms(said)) | numbers_in(said)

    def shared(found: tuple[Hit, Span]) -> float:
        piece = found[0].chunk.text[slice(*found[1])]
        have = set(content_terms(piece)) | numbers_in(piece)
        return len(wanted & have) / (1 + len(have)) ** 0.25 if wanted else 0.0

    candidates = [(hit, piece.span) for hit in hits for piece in pieces(hit.chunk.text)]
    best = max(candidates, key=shared, default=None)
    if best is None or not shared(best):
        return hits[0], (0, len(hits[0].chunk.text))
    return best
