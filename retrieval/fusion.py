"""One score from what the vector side and the lexical side say of a chunk. Pure.

    score = (cosine + 0.4 * coverage ** 2) / 1.4

A score is 0 to 1 and depends on the question and the chunk alone. BM25 brings candidates but isn't
in the score: it changes with whatever else is indexed (a term's rarity, the average length), and
coverage ranks as well. docs/decisions/0002-fusion.md tells how the form and the weights were chosen.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Final, Literal

from kb.types import Candidate
from retrieval.terms import terms

Mode = Literal["hybrid", "dense", "lexical"]
"""What ranks: the score, the cosine alone or BM25 alone (the latter two for evaluation)."""

COVERAGE_WEIGHT: Final = 0.4
"""Weight of the squared coverage beside the cosine's 1. A plateau from .3 to .5: see the record."""


def rank(
    candidates: Iterable[Candidate], question_terms: Collection[str], mode: Mode = "hybrid"
) -> list[tuple[Candidate, float]]:
    """Candidates with their scores, best first; equal ones in the order of their chunk ids.

    `question_terms` are distinct. The mode decides the order, and leaves out what its side did not
    find; a score is the same in every mode.
    """
    strength = _STRENGTHS[mode]
    scored = [(candidate, score(candidate, question_terms)) for candidate in candidates]
    ordered = [
        (-value, candidate.chunk.id, candidate, fused)
        for candidate, fused in scored
        if (value := strength(candidate, fused)) is not None
    ]
    ordered.sort(key=lambda row: row[:2])
    return [(candidate, fused) for _, _, candidate, fused in ordered]


def score(candidate: Candidate, question_terms: Collection[str]) -> float:
    """0 (unrelated) to 1 (the same text). Without a cosine only the lexical part counts."""
    cosine = max(0.0, candidate.similarity or 0.0)
    words = coverage(question_terms, chunk_terms(candidate)) ** 2
    return min(1.0, (cosine + COVERAGE_WEIGHT * words) / (1 + COVERAGE_WEIGHT))


def coverage(question_terms: Collection[str], found: str) -> float:
    """Share of the question's terms that are among those found, which have a space on either side.

    No term holds white space, so looking for one in the string finds it whole: splitting the terms of
    200 candidates (240 terms each) takes 7 ms, this 3. A question without terms gives 0.
    """
    if not question_terms:
        return 0.0
    whole = [f" {term} " for term in question_terms]
    return sum(map(found.__contains__, whole)) / len(whole)


def chunk_terms(candidate: Candidate) -> str:
    """The chunk's terms, each with a space before and after it."""
    return f" {candidate.terms or ' '.join(terms(candidate.chunk.passage))} "


_STRENGTHS: Final[dict[Mode, Callable[[Candidate, float], float | None]]] = {
    "hybrid": lambda _, fused: fused,
    "dense": lambda candidate, _: candidate.similarity,
    "lexical": lambda candidate, _: candidate.bm25 or None,
}
