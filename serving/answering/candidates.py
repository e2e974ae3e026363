"""What may be quoted of the hits, and how well each piece is expected to answer. Pure.

What a sentence has of the question's words, and how near its passage is, tell most of how near the
sentence itself is: so few need be embedded (docs/decisions/0007-extractive-answers.md).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Final

import regex

from kb.types import Chunk, Hit
from serving.answering.question_words import content_terms
from serving.answering.sentences import Piece, pieces

MOST_COMPARED: Final = 8
"""Pieces embedded for a follow-up, and where the foremost is in another language than the question."""

LONGEST_COMPARED: Final = 400
"""Characters of a piece that are compared: code and text without sentences can be very long."""

# What a piece is expected to score (`extractive.score`): least squares over 14,600 pieces of 612 questions,
# rounded; it explains .79 of the similarity's variance within a language, .65 across. The hit's own
# score drops out: what it is given there is what it takes from the expected similarity.
EXPECTED_SIMILARITY: Final = 0.95
EXPECTED_COVERAGE: Final = 0.65

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
    """`coverage` (0 to 1) is the share of the question's words that the piece has, by weight.

    `expected` is the score it is given as long as no embedder has seen it.
    """

    quotable: Quotable
    coverage: float
    expected: float


def candidates(question: str, found: Sequence[Quotable]) -> list[Candidate]:
    """All pieces, those that are expected to answer best first."""
    weights = term_weights(question, found)
    ranked = [_candidate(quotable, weights) for quotable in found]
    return sorted(ranked, key=lambda candidate: candidate.expected, reverse=True)


def _candidate(quotable: Quotable, weights: Mapping[str, float]) -> Candidate:
    coverage = covered(quotable.in_context, weights)
    near = EXPECTED_SIMILARITY * (quotable.hit.similarity or 0.0)
    return Candidate(quotable, coverage, near + EXPECTED_COVERAGE * coverage)


def quotables(hits: Sequence[Hit]) -> list[Quotable]:
    """All pieces of the hits but questions, which answer nothing."""
    found = [_quotable(hit, piece) for hit in hits for piece in pieces(hit.chunk.text)]
    return [quotable for quotable in found if quotable.text and quotable.text[-1] not in "?？"]


def _quotable(hit: Hit, piece: Piece) -> Quotable:
    whole = hit.chunk.text
    text = whole[slice(*piece.span)]
    if piece.lead:
        text = _TABLE_LINES.sub(" ", f"{whole[slice(*piece.lead)]} {text}").strip()
    text = text[:LONGEST_COMPARED]
    return Quotable(hit, piece, text, f"{_heading(hit.chunk, piece)}\n{text}".strip())


def _heading(chunk: Chunk, piece: Piece) -> str:
    """The nearest above the piece: in the chunk's text, else the last of its path, else the title."""
    if piece.heading:
        return chunk.text[slice(*piece.heading)]
    return chunk.heading_path[-1] if chunk.heading_path else chunk.title


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
