"""Answers without a generator: the sentences that answer, quoted. See docs/answers.md for the figures.

The candidates of the best hits are narrowed by words, compared with the question by the embedder,
and the best are quoted. Everything but `find_quotes` is pure.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Final

import numpy as np
import regex

from kb.ports import Embedder
from kb.types import Chunk, Citation, Hit, Vector, Vectors
from serving.answering import citations
from serving.answering.question_words import content_terms, language
from serving.answering.sentences import Piece, Span, blocks, is_code, is_table, pieces

MOST_EMBEDDED: Final = 24
"""Pieces embedded for one answer: what bounds its cost (about 5 ms each on two cores)."""

MOST_COMPARED: Final = 400
"""Characters of a piece that are compared: code and text without sentences can be very long."""

# Weights of what speaks for a piece, beside its similarity (weight 1). Sentences that contain the
# answer at rank 1 / among three, mean of six sets (docs/answers.md): similarity alone .60 / .79, with
# coverage and the hit's score .62 / .82; .2 to .4 and 0 to .7 are within .01.
COVERAGE_WEIGHT: Final = 0.3
HIT_WEIGHT: Final = 0.35
MARGIN: Final = 0.15
"""A further piece is quoted only if its score is at most this much below the best one's."""

_TABLE_LINES: Final = regex.compile(r"[|\s]+|-{3,}")


@dataclass(frozen=True, slots=True)
class Quotable:
    """A piece of a hit's chunk.

    `text` is the piece itself, a table's row with its header; `in_context` has the nearest heading
    above it too, which is what is compared: sentences rarely repeat the words of their heading.
    """

    hit: Hit
    piece: Piece
    text: str
    in_context: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """`promise` is what a piece is worth before the embedder has seen it."""

    quotable: Quotable
    promise: float


@dataclass(frozen=True, slots=True)
class Quote:
    """A span of a hit's chunk text to be shown, `lead` (a table's header) above it."""

    hit: Hit
    span: Span
    lead: Span | None
    score: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """How well the hits answer: what refusals rest on.

    `score` is the best hit's, `similarity` the nearest sentence's cosine with the question,
    `coverage` the share (0 to 1, rarer words weigh more) of the question's words that one passage
    has. `same_language` says whether the nearest sentence is in the question's.
    """

    score: float
    similarity: float
    coverage: float
    same_language: bool


@dataclass(frozen=True, slots=True)
class Extract:
    """`evidence` is None, and there are no quotes, when no hit has a sentence to quote."""

    quotes: tuple[Quote, ...]
    evidence: Evidence | None


async def find_quotes(
    question: str, hits: Sequence[Hit], *, embedder: Embedder, limit: int, focus: str = ""
) -> Extract:
    """The best 1 to `limit` quotes, best first.

    `focus` is the part of the question that was asked last, where a conversation led up to it.
    """
    everything = quotables(hits)
    if not everything:
        return Extract((), None)
    found = candidates(focus or question, everything)
    # All as queries: sentences are compared with a question, not with long passages, and the
    # embedder answers queries at once, even while documents are being ingested.
    asked = [question, focus] if focus else [question]
    vectors = await embedder.queries(
        [*asked, *(candidate.quotable.in_context for candidate in found)]
    )
    meant = _middle(vectors[: len(asked)])
    similarities: Vector = vectors[len(asked) :] @ meant
    scores = [c.promise + float(s) for c, s in zip(found, similarities, strict=True)]
    nearest = int(similarities.argmax())
    weights = term_weights(question, everything)
    evidence = Evidence(
        score=hits[0].score,
        similarity=float(similarities[nearest]),
        coverage=max(covered(hit.chunk.passage, weights) for hit in hits),
        same_language=language(found[nearest].quotable.text) == language(question),
    )
    return Extract(tuple(choose(found, scores, limit)), evidence)


def _middle(vectors: Vectors) -> Vector:
    """The direction between vectors of norm 1, of norm 1."""
    total: Vector = vectors.sum(axis=0)
    return total / max(float(np.linalg.norm(total)), 1e-12)


# --- Candidates ---------------------------------------------------------------------------------


def quotables(hits: Sequence[Hit]) -> list[Quotable]:
    """All pieces of the hits but questions, which answer nothing."""
    found = [_quotable(hit, piece) for hit in hits for piece in pieces(hit.chunk.text)]
    return [quotable for quotable in found if quotable.text and quotable.text[-1] not in "?？"]


def _quotable(hit: Hit, piece: Piece) -> Quotable:
    whole = hit.chunk.text
    text = whole[slice(*piece.span)]
    if piece.lead:
        text = _TABLE_LINES.sub(" ", f"{whole[slice(*piece.lead)]} {text}").strip()
    text = text[:MOST_COMPARED]
    return Quotable(hit, piece, text, f"{_heading(hit.chunk, piece)}\n{text}".strip())


def _heading(chunk: Chunk, piece: Piece) -> str:
    """The nearest above the piece: in the chunk's text, else the last of its path, else the title."""
    if piece.heading:
        return chunk.text[slice(*piece.heading)]
    return chunk.heading_path[-1] if chunk.heading_path else chunk.title


def candidates(question: str, found: Sequence[Quotable]) -> list[Candidate]:
    """At most MOST_EMBEDDED pieces, those with the question's words in the best hits first."""
    weights = term_weights(question, found)
    ranked = [
        Candidate(
            quotable,
            HIT_WEIGHT * quotable.hit.score
            + COVERAGE_WEIGHT * covered(quotable.in_context, weights),
        )
        for quotable in found
    ]
    ranked.sort(key=lambda candidate: candidate.promise, reverse=True)
    return ranked[:MOST_EMBEDDED]


def term_weights(question: str, found: Sequence[Quotable]) -> dict[str, float]:
    """Weights of the question's terms that add up to 1: rarer among the pieces weighs more."""
    asked = set(content_terms(question))
    present = Counter(
        term
        for quotable in found
        for term in asked.intersection(content_terms(quotable.in_context))
    )
    rarity = {term: log(1 + len(found) / (1 + present[term])) for term in asked}
    total = sum(rarity.values()) or 1.0
    return {term: weight / total for term, weight in rarity.items()}


def covered(text: str, weights: Mapping[str, float]) -> float:
    """The share of the question's terms, by weight, that a text has: 0 to 1."""
    return sum(weights.get(term, 0.0) for term in set(content_terms(text)))


# --- Choosing and showing -------------------------------------------------------------------------


def choose(found: Sequence[Candidate], scores: Sequence[float], limit: int) -> list[Quote]:
    """The best pieces, best first; fewer than `limit` when the others are clearly worse.

    Spans of one chunk that touch become one quote.
    """
    ranked = sorted(zip(scores, range(len(found)), strict=True), key=lambda sr: (-sr[0], sr[1]))
    quotes: list[Quote] = []
    for score, number in ranked[: limit * 2]:
        if score < ranked[0][0] - MARGIN or len(quotes) == limit:
            break
        hit, piece = found[number].quotable.hit, found[number].quotable.piece
        _add(quotes, Quote(hit, piece.shown, piece.lead, score))
    return quotes


def _add(quotes: list[Quote], quote: Quote) -> None:
    """Adds a quote, or widens the one of the same chunk that it overlaps or follows directly.

    What another document says in the same words is left out.
    """
    text = quote.hit.chunk.text
    for number, other in enumerate(quotes):
        if other.hit.chunk.id != quote.hit.chunk.id:
            if _quoted(other) == _quoted(quote):
                return
            continue
        first, second = sorted([other.span, quote.span])
        if not text[first[1] : second[0]].strip():
            quotes[number] = replace(other, span=(first[0], max(first[1], second[1])))
            return
    quotes.append(quote)


def _quoted(quote: Quote) -> str:
    return quote.hit.chunk.text[slice(*quote.span)]


def render(quotes: Sequence[Quote]) -> tuple[str, tuple[Citation, ...]]:
    """The answer's text (Markdown; a paragraph for each quote, ending in its marker) and citations."""
    paragraphs = []
    for number, quote in enumerate(quotes, start=1):
        lead = quote.hit.chunk.text[slice(*quote.lead)] + "\n" if quote.lead else ""
        paragraphs.append(_as_markdown(lead + _quoted(quote)) + citations.marker(number))
    cited = [citations.cite(n, quote.hit, quote.span) for n, quote in enumerate(quotes, start=1)]
    return "\n\n".join(paragraphs), tuple(cited)


def _as_markdown(text: str) -> str:
    """Code in fences, and the space a marker needs: a line of its own below code and tables."""
    shown = []
    gap = " "
    for span in blocks(text):
        block = text[slice(*span)]
        coded = is_code(text, span)
        shown.append(_fenced(block) if coded else citations.escape_markers(block.strip()))
        gap = "\n\n" if coded or is_table(text, span) else " "
    return "\n\n".join(shown) + gap


def _fenced(code: str) -> str:
    longest = max((len(run) for run in regex.findall(r"`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{code}\n{fence}"
