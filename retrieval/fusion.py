"""One score from what the vector side and the lexical side say of a chunk. Pure.

A score is 0 to 1 and depends on the question and the chunk alone: nothing is scaled by what else
was found. docs/decisions/0002-fusion.md tells how the form and the constants were chosen.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from kb.types import Candidate

Mode = Literal["hybrid", "dense", "lexical"]
"""Both sides fused, or one of them alone (for evaluation)."""

COSINE_RANGE: Final = (0.70, 1.0)
"""Cosines of multilingual-e5 between unrelated and identical texts."""
DENSE_WEIGHT: Final = 0.7
BM25_PER_TERM: Final = 1.5
"""BM25 per question term at which the lexical score reaches 1 - 1/e."""


def rank(
    candidates: Iterable[Candidate], terms: Sequence[str], mode: Mode = "hybrid"
) -> list[tuple[Candidate, float]]:
    """Candidates with their scores, best first; equal scores are ordered by chunk id.

    `terms` are the question's. A mode of one side leaves out what that side did not find.
    """
    scored = [(candidate, score(candidate, terms, mode)) for candidate in candidates]
    found = [(candidate, value) for candidate, value in scored if value is not None]
    return sorted(found, key=lambda pair: (-pair[1], pair[0].chunk.id))


def score(candidate: Candidate, terms: Sequence[str], mode: Mode = "hybrid") -> float | None:
    """0 to 1; None where the asked side does not know the candidate."""
    lexical = lexical_score(candidate.bm25, len(terms))
    if mode == "lexical":
        return lexical if candidate.bm25 > 0 else None
    if candidate.similarity is None:
        return lexical if mode == "hybrid" else None
    dense = dense_score(candidate.similarity)
    if mode == "dense":
        return dense
    return DENSE_WEIGHT * dense + (1 - DENSE_WEIGHT) * lexical


def dense_score(similarity: float) -> float:
    """The cosine on the scale from unrelated (0) to identical (1)."""
    low, high = COSINE_RANGE
    return min(1.0, max(0.0, (similarity - low) / (high - low)))


def lexical_score(bm25: float, term_count: int) -> float:
    """BM25 per question term, squashed: 0 for no common term, towards 1 for all of them, often."""
    if term_count == 0:
        return 0.0
    return 1 - math.exp(-max(0.0, bm25) / (BM25_PER_TERM * term_count))
