"""From a question to hits: embed, one round trip to the index, fuse, cut."""

from typing import Final

from kb.errors import InvalidQueryError
from kb.metrics import STAGES
from kb.ports import ChunkIndex, Embedder
from kb.types import UNRESTRICTED, Access, Candidate, Hit, IndexQuery
from retrieval.fusion import Mode, rank
from retrieval.terms import question_terms

MAX_QUESTION_CHARACTERS: Final = 8_000
"""Models read about 512 tokens of a question; far beyond that something else was pasted in."""


async def search(
    question: str,
    *,
    collection: str,
    index: ChunkIndex,
    embedder: Embedder,
    limit: int,
    candidates: int,
    access: Access = UNRESTRICTED,
    document_ids: tuple[str, ...] | None = None,
    mode: Mode = "hybrid",
) -> list[Hit]:
    """The best `limit` hits, best first; equal scores in the order of chunk ids.

    `candidates` is the number each side brings to the fusion. Nothing is left out for a low score:
    whether the evidence is good enough is the answer's to judge.
    Raises InvalidQueryError, ModelUnavailable, IndexUnavailable.
    """
    if limit < 1:
        raise InvalidQueryError("Ask for at least one hit.")
    found = await find_candidates(
        question,
        index=index,
        embedder=embedder,
        limit=max(candidates, limit),
        access=access,
        document_ids=document_ids,
    )
    return hits(question, found, collection=collection, limit=limit, mode=mode)


async def find_candidates(
    question: str,
    *,
    index: ChunkIndex,
    embedder: Embedder,
    limit: int,
    access: Access = UNRESTRICTED,
    document_ids: tuple[str, ...] | None = None,
) -> list[Candidate]:
    """What both sides find, unranked: an evaluation ranks the same candidates in each mode."""
    question = checked_question(question)
    with STAGES.labels("embed").time():
        vectors = await embedder.queries([question])
    query = IndexQuery(
        vector=vectors[0],
        terms=tuple(question_terms(question)),
        limit=limit,
        access=access,
        document_ids=document_ids,
    )
    with STAGES.labels("index").time():
        return await index.search(query)


def hits(
    question: str,
    candidates: list[Candidate],
    *,
    collection: str,
    limit: int,
    mode: Mode = "hybrid",
) -> list[Hit]:
    """Ranks candidates for a question and keeps the best `limit`."""
    with STAGES.labels("rank").time():
        ranked = rank(candidates, question_terms(question), mode)
    return [
        Hit(
            chunk=candidate.chunk,
            uri=candidate.uri,
            collection=collection,
            score=score,
            similarity=candidate.similarity,
            bm25=candidate.bm25,
        )
        for candidate, score in ranked[:limit]
    ]


def checked_question(question: str) -> str:
    """The question without surrounding white space. Raises InvalidQueryError when it can't be asked."""
    question = question.strip()
    if not question:
        raise InvalidQueryError("The question is empty.")
    if len(question) > MAX_QUESTION_CHARACTERS:
        raise InvalidQueryError(
            f"The question has {len(question):,} characters; at most {MAX_QUESTION_CHARACTERS:,} "
            "can be searched for. Ask about one thing, or shorten what was pasted in."
        )
    return question
