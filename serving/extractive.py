"""Answers without a generator: the sentences that answer, quoted. See docs/answers.md for the figures.

The candidates of the best hits are narrowed by words, compared with the question by the embedder,
and the best are quoted. Everything but `find_quotes` is pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log
from re import findall
from typing import Final

import numpy as np

from kb.ports import Embedder
from kb.types import Citation, Hit, Vector, Vectors
from serving import citations
from serving.question_words import content_terms, expects, language
from serving.sentences import Piece, Span, blocks, is_code, is_table, pieces
from serving.yardstick import unrelated_similarity

MOST_EMBEDDED: Final = 24
"""Pieces embedded for one answer: what bounds its cost (about 5 ms each on two cores)."""

# Weights of what speaks for a piece, beside its similarity (weight 1): see docs/answers.md.
COVERAGE_WEIGHT: Final = 0.15
HIT_WEIGHT: Final = 0.35
TYPE_WEIGHT: Final = 0.03
MARGIN: Final = 0.06
"""A further piece is quoted only if its score is at most this much below the best one's."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A piece of a hit's chunk. `coverage` is the share of the question's terms in it, 0 to 1."""

    hit: Hit
    piece: Piece
    coverage: float
    fits_type: bool

    @property
    def text(self) -> str:
        return self.hit.chunk.text[slice(*self.piece.span)]


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

    `score` is the best hit's, `similarity` the best sentence's cosine with the question, `margin`
    how much that is above the cosine of unrelated sentences (see `serving.yardstick`), `coverage`
    the share (0 to 1, rarer words weigh more) of the question's words that one passage has.
    """

    score: float
    similarity: float
    margin: float
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
    found = candidates(focus or question, hits)
    if not found:
        return Extract((), None)
    # All as queries: sentences are compared with a question, not with long passages, and the
    # embedder answers queries at once, even while documents are being ingested.
    asked = [question, focus] if focus else [question]
    vectors = await embedder.queries([*asked, *(candidate.text for candidate in found)])
    meant = _middle(vectors[: len(asked)])
    similarities: Vector = vectors[len(asked) :] @ meant
    scores = [_promise(c) + float(s) for c, s in zip(found, similarities, strict=True)]
    nearest = int(similarities.argmax())
    quoted_language = language(found[nearest].text)
    unrelated = await unrelated_similarity(meant, quoted_language, embedder)
    evidence = Evidence(
        score=hits[0].score,
        similarity=float(similarities[nearest]),
        margin=float(similarities[nearest]) - unrelated,
        coverage=max(passage_coverage(question, hits)),
        same_language=quoted_language == language(question),
    )
    return Extract(tuple(choose(found, scores, limit)), evidence)


def _middle(vectors: Vectors) -> Vector:
    """The direction between vectors of norm 1, of norm 1."""
    total: Vector = vectors.sum(axis=0)
    return total / max(float(np.linalg.norm(total)), 1e-12)


# --- Candidates ---------------------------------------------------------------------------------


def candidates(question: str, hits: Sequence[Hit]) -> list[Candidate]:
    """At most MOST_EMBEDDED pieces: those with the question's words in the best hits first."""
    weights = _term_weights(question, hits)
    expected = expects(question)
    found = []
    for hit in hits:
        for piece in pieces(hit.chunk.text):
            text = hit.chunk.text[slice(*piece.span)]
            if text[-1] in "?？":
                continue  # a question answers nothing
            fits = expected is not None and expected.fits(text)
            found.append(Candidate(hit, piece, _coverage(text, weights), fits))
    found.sort(key=_promise, reverse=True)
    return found[:MOST_EMBEDDED]


def _promise(candidate: Candidate) -> float:
    """What a candidate is worth before the embedder has seen it."""
    return (
        HIT_WEIGHT * candidate.hit.score
        + COVERAGE_WEIGHT * candidate.coverage
        + TYPE_WEIGHT * candidate.fits_type
    )


def _term_weights(question: str, hits: Sequence[Hit]) -> dict[str, float]:
    """Weights of the question's terms that add up to 1: rarer among the pieces weighs more."""
    asked = set(content_terms(question))
    texts = [hit.chunk.text[slice(*p.span)] for hit in hits for p in pieces(hit.chunk.text)]
    present = [asked.intersection(content_terms(text)) for text in texts]
    rarity = {
        term: log(1 + len(texts) / (1 + sum(term in terms for terms in present))) for term in asked
    }
    total = sum(rarity.values()) or 1.0
    return {term: weight / total for term, weight in rarity.items()}


def _coverage(text: str, weights: dict[str, float]) -> float:
    return sum(weights.get(term, 0.0) for term in set(content_terms(text)))


def passage_coverage(question: str, hits: Sequence[Hit]) -> list[float]:
    weights = _term_weights(question, hits)
    return [_coverage(hit.chunk.passage, weights) for hit in hits]


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
        candidate = found[number]
        quote = Quote(candidate.hit, candidate.piece.shown, candidate.piece.lead, score)
        _add(quotes, quote)
    return quotes


def _add(quotes: list[Quote], quote: Quote) -> None:
    """Adds a quote, or widens the one of the same chunk that it overlaps or follows directly."""
    for number, other in enumerate(quotes):
        if other.hit.chunk.id != quote.hit.chunk.id:
            continue
        first, second = sorted([other.span, quote.span])
        between = quote.hit.chunk.text[first[1] : second[0]]
        if second[0] <= first[1] or not between.strip():
            span = (first[0], max(first[1], second[1]))
            quotes[number] = replace(other, span=span)
            return
    quotes.append(quote)


def render(quotes: Sequence[Quote]) -> tuple[str, tuple[Citation, ...]]:
    """The answer's text (Markdown; a paragraph for each quote, ending in its marker) and citations."""
    paragraphs = []
    cited = []
    for number, quote in enumerate(quotes, start=1):
        cited.append(citations.cite(number, quote.hit, quote.span))
        text = quote.hit.chunk.text
        lead = text[slice(*quote.lead)] + "\n" if quote.lead else ""
        shown, ends_in_block = _as_markdown(lead + text[slice(*quote.span)])
        paragraphs.append(
            f"{shown}{chr(10) * 2 if ends_in_block else ' '}{citations.marker(number)}"
        )
    return "\n\n".join(paragraphs), tuple(cited)


def _as_markdown(text: str) -> tuple[str, bool]:
    """Code in fences; whether a marker must stand below it (after code, a table or a list)."""
    shown = []
    ends_in_block = False
    for span in blocks(text):
        block = text[slice(*span)]
        ends_in_block = is_code(text, span) or is_table(text, span)
        if is_code(text, span):
            fence = "`" * max(3, 1 + max((len(run) for run in findall(r"`+", block)), default=0))
            shown.append(f"{fence}\n{block}\n{fence}")
        else:
            shown.append(citations.escape_markers(block.strip()))
    return "\n\n".join(shown), ends_in_block
