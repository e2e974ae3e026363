from pathlib import Path
from typing import cast

import numpy as np
import pytest

from kb.errors import InvalidQueryError
from kb.ports import ChunkIndex
from kb.types import Access, Candidate, Chunk, IndexedDocument, IndexQuery, IndexSchema
from retrieval.embedders.hashing import HashingEmbedder
from retrieval.memory_index import MemoryIndex
from retrieval.search import MAX_QUESTION_CHARACTERS, find_candidates, hits, search


def chunk(name: str, text: str) -> Chunk:
    return Chunk(name, f"doc-{name}", 0, "Guide", (), None, 0, len(text), text, name, 1)


class OneAnswerIndex:
    """Answers every search alike and remembers what it was asked."""

    def __init__(self, found: list[Candidate]) -> None:
        self.found = found
        self.asked: list[IndexQuery] = []

    async def search(self, query: IndexQuery) -> list[Candidate]:
        self.asked.append(query)
        return self.found


@pytest.fixture
def index() -> OneAnswerIndex:
    return OneAnswerIndex(
        [
            Candidate(chunk("weak", "Something else."), "file:///weak", 0.1, 0.0),
            Candidate(chunk("best", "The default port is 9180."), "file:///best", 0.6, 5.0),
            Candidate(chunk("good", "The port of the admin API."), "file:///good", 0.5, 2.0),
        ]
    )


@pytest.fixture
def embedder(tmp_path: Path) -> HashingEmbedder:
    return HashingEmbedder(tmp_path)


async def test_hits_are_the_best_candidates_in_order(
    index: OneAnswerIndex, embedder: HashingEmbedder
) -> None:
    found = await search(
        "Which default port?",
        collection="docs",
        index=cast(ChunkIndex, index),
        embedder=embedder,
        limit=2,
        candidates=50,
    )
    assert [hit.chunk.id for hit in found] == ["best", "good"]
    best = found[0]
    assert (best.uri, best.collection) == ("file:///best", "docs")
    assert (best.similarity, best.bm25) == (0.6, 5.0)
    assert best.score == pytest.approx((0.6 + 0.4) / 1.4)


async def test_one_round_trip_with_vector_terms_and_rights(
    index: OneAnswerIndex, embedder: HashingEmbedder
) -> None:
    access = Access(groups=frozenset({"staff"}))
    await search(
        "  What are the default ports?\n",
        collection="docs",
        index=cast(ChunkIndex, index),
        embedder=embedder,
        limit=10,
        candidates=50,
        access=access,
        document_ids=("d1",),
    )
    (query,) = index.asked
    assert query.terms == ("default", "port")
    assert query.limit == 50
    assert query.access is access
    assert query.document_ids == ("d1",)
    assert query.vector is not None
    expected = (await embedder.queries(["What are the default ports?"]))[0]
    assert np.array_equal(query.vector, expected)


async def test_as_many_candidates_as_hits_are_asked_for(
    index: OneAnswerIndex, embedder: HashingEmbedder
) -> None:
    await search(
        "port",
        collection="docs",
        index=cast(ChunkIndex, index),
        embedder=embedder,
        limit=80,
        candidates=50,
    )
    assert index.asked[0].limit == 80


async def test_the_same_candidates_can_be_ranked_in_each_mode(
    index: OneAnswerIndex, embedder: HashingEmbedder
) -> None:
    question = "Which default port?"
    found = await find_candidates(
        question, index=cast(ChunkIndex, index), embedder=embedder, limit=50
    )
    lexical = hits(question, found, collection="docs", limit=10, mode="lexical")
    assert [hit.chunk.id for hit in lexical] == ["best", "good"]
    assert len(hits(question, found, collection="docs", limit=10, mode="dense")) == 3
    assert len(index.asked) == 1


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("", "empty"),
        (" \n\t　", "empty"),
        ("x" * (MAX_QUESTION_CHARACTERS + 1), "8,001 characters"),
    ],
)
async def test_questions_that_cannot_be_asked(
    index: OneAnswerIndex, embedder: HashingEmbedder, question: str, message: str
) -> None:
    with pytest.raises(InvalidQueryError, match=message):
        await find_candidates(question, index=cast(ChunkIndex, index), embedder=embedder, limit=10)
    assert index.asked == []


@pytest.mark.parametrize("question", ["???", "🦊", "x" * MAX_QUESTION_CHARACTERS, "\0"])
async def test_odd_questions_are_searched_all_the_same(
    index: OneAnswerIndex, embedder: HashingEmbedder, question: str
) -> None:
    assert await search(
        question,
        collection="docs",
        index=cast(ChunkIndex, index),
        embedder=embedder,
        limit=3,
        candidates=3,
    )


async def test_no_hits_is_not_a_question_to_ask(
    index: OneAnswerIndex, embedder: HashingEmbedder
) -> None:
    with pytest.raises(InvalidQueryError, match="at least one"):
        await search(
            "port",
            collection="docs",
            index=cast(ChunkIndex, index),
            embedder=embedder,
            limit=0,
            candidates=50,
        )


async def test_a_score_stays_the_same_whatever_else_is_indexed(embedder: HashingEmbedder) -> None:
    index = MemoryIndex(IndexSchema(embedder.fingerprint, embedder.dimensions, 1, 1))

    async def add(name: str, text: str) -> None:
        added = chunk(name, text)
        vectors = await embedder.passages([added.passage])
        await index.replace(
            [IndexedDocument(added.document_id, f"file:///{name}", (), "1", (added,), vectors)]
        )

    async def best() -> tuple[str, float]:
        found = await search(
            "What is the default port?",
            collection="docs",
            index=index,
            embedder=embedder,
            limit=1,
            candidates=20,
        )
        return found[0].chunk.id, found[0].score

    await add("port", "The default port of the admin API is 9180.")
    alone = await best()
    for number in range(40):
        await add(f"other{number}", f"Default page {number}: cats sleep on warm mats, ports rest.")
    name, score = await best()
    assert name == alone[0] == "port"
    assert score == pytest.approx(alone[1])
