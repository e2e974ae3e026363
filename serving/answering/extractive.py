"""Answers without a generator: the sentences that answer, quoted. See docs/answers.md for the figures.

The pieces of the best hits are ranked by words and by their passages, the foremost compared with the
question by the embedder, and the best are quoted. Everything but `find_quotes` is pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import regex

from kb.ports import Embedder
from kb.types import Citation, Hit, Vector, Vectors
from serving.answering import citations
from serving.answering.candidates import (
    MOST_COMPARED,
    Candidate,
    candidates,
    covered,
    quotables,
    term_weights,
)
from serving.answering.question_words import language
from serving.answering.sentences import Span, blocks, is_code, is_table

# Weights of what speaks for a piece, beside its similarity (weight 1). Sentences that contain the
# answer at rank 1 / among three, mean of six sets (docs/answers.md): similarity alone .60 / .79, with
# coverage and the hit's score .62 / .82; .2 to .4 and 0 to .7 are within .01.
COVERAGE_WEIGHT: Final = 0.3
HIT_WEIGHT: Final = 0.35
MARGIN: Final = 0.15
"""A further piece is quoted only if its score is at most this much below the best one's."""
EXPECTED_MARGIN: Final = 0.18
"""The same between expected scores, which lie further apart: it quotes as many."""


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
    ranked = candidates(focus or question, everything)
    by_words = are_chosen_by_words(question, ranked, focus)
    compared = to_compare(ranked, by_words=by_words)
    # All as queries: sentences are compared with a question, not with long passages, and the
    # embedder answers queries at once, even while documents are being ingested.
    asked = [question, focus] if focus else [question]
    vectors = await embedder.queries([*asked, *(each.quotable.in_context for each in compared)])
    similarities: Vector = vectors[len(asked) :] @ _middle(vectors[: len(asked)])
    nearest = int(similarities.argmax())
    weights = term_weights(question, everything)
    evidence = Evidence(
        score=hits[0].score,
        similarity=float(similarities[nearest]),
        coverage=max(covered(hit.chunk.passage, weights) for hit in hits),
        same_language=language(compared[nearest].quotable.text) == language(question),
    )
    scores = [candidate.expected for candidate in ranked]
    if not by_words:
        scores[: len(compared)] = map(score, compared, similarities.tolist())
    margin = EXPECTED_MARGIN if by_words else MARGIN
    return Extract(tuple(choose(ranked, scores, limit, margin)), evidence)


def are_chosen_by_words(question: str, ranked: Sequence[Candidate], focus: str = "") -> bool:
    """A follow-up means more than its words, and words say little in another language."""
    return not focus and language(ranked[0].quotable.text) == language(question)


def to_compare(ranked: Sequence[Candidate], *, by_words: bool) -> Sequence[Candidate]:
    """Those that the embedder is given; chosen by words, the foremost alone, as evidence."""
    return ranked[: 1 if by_words else MOST_COMPARED]


def score(candidate: Candidate, similarity: float) -> float:
    """What a piece is worth to which the embedder has given this similarity with the question."""
    hit = HIT_WEIGHT * candidate.quotable.hit.score
    return similarity + COVERAGE_WEIGHT * candidate.coverage + hit


def _middle(vectors: Vectors) -> Vector:
    """The direction between vectors of norm 1, of norm 1."""
    total: Vector = vectors.sum(axis=0)
    return total / max(float(np.linalg.norm(total)), 1e-12)


# --- Choosing and showing -------------------------------------------------------------------------


def choose(
    found: Sequence[Candidate], scores: Sequence[float], limit: int, margin: float = MARGIN
) -> list[Quote]:
    """The best pieces, best first; fewer than `limit` when the others are worse by more than `margin`.

    Spans of one chunk that touch become one quote.
    """
    ranked = sorted(zip(scores, range(len(found)), strict=True), key=lambda sr: (-sr[0], sr[1]))
    quotes: list[Quote] = []
    for worth, number in ranked[: limit * 2]:
        if worth < ranked[0][0] - margin or len(quotes) == limit:
            break
        hit, piece = found[number].quotable.hit, found[number].quotable.piece
        _add(quotes, Quote(hit, piece.shown, piece.lead, worth))
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
