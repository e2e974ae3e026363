"""From a question to hits: embed, one round trip to the index, fuse, cut."""

from dataclasses import replace
from typing import Final

from kb.errors import InvalidQueryError
from kb.metrics import stage
from kb.ports import Catalog, ChunkIndex, Embedder
from kb.types import UNRESTRICTED, Access, Candidate, Hit, IndexQuery
from retrieval.fusion import Mode, rank
from retrieval.terms import question_terms

MAX_QUESTION_CHARACTERS: Final = 8_000
"""Models read about 512 tokens of a question; far beyond that something else was pasted in."""

SPARE: Final = 3
"""Times the wanted hits that are looked at, as copies drop out: with more than so many sets of rights on
everything that was found, hits would be fewer. Looking at all candidates costs 2 ms more."""


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
    catalog: Catalog | None = None,
) -> list[Hit]:
    """The best `limit` hits, best first; equal scores in the order of chunk ids.

    With a catalogue each hit tells where else its text is, and is not there again from a copy.
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
    if catalog is None:
        return hits(question, found, collection=collection, limit=limit, mode=mode)
    ranked = hits(question, found, collection=collection, limit=SPARE * limit, mode=mode)
    return await placed(ranked, catalog, access, limit)


async def placed(ranked: list[Hit], catalog: Catalog, access: Access, limit: int) -> list[Hit]:
    """The best `limit` hits with the other places of their texts, of those that may be read.

    Copies that differ in rights are each in the index: of those only the one ranked first is kept.
    """
    if not ranked:
        return []
    documents = list(dict.fromkeys(hit.chunk.document_id for hit in ranked))
    places = await catalog.places(documents, access)
    shown: set[str] = set()
    kept: list[Hit] = []
    for hit in ranked:
        document = hit.chunk.document_id
        others = places.get(document, [])
        if document not in shown and any(place.document_id in shown for place in others):
            continue
        shown.add(document)
        kept.append(replace(hit, also_at=tuple(place.uri for place in others)))
        if len(kept) == limit:
            break
    return kept


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
    with stage("embed"):
        vectors = await embedder.queries([question])
    query = IndexQuery(
        vector=vectors[0],
        terms=tuple(question_terms(question)),
        limit=limit,
        access=access,
        document_ids=document_ids,
    )
    with stage("index"):
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
    with stage("rank"):
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
