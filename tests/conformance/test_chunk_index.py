"""What every ChunkIndex must do. Another adapter joins by one more branch of the fixture `store`."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kb.ports import ChunkIndex, IndexStore
from kb.types import (
    Access,
    Candidate,
    Chunk,
    IndexCount,
    IndexedContent,
    IndexedDocument,
    IndexQuery,
)
from retrieval.elasticsearch_store import ElasticsearchStore
from retrieval.lance_index import LanceIndex
from retrieval.lance_store import LanceStore
from retrieval.memory_index import MemoryStore
from retrieval.terms import terms
from tests.conformance.indexed_documents import (
    DIMENSIONS,
    SCHEMA,
    document,
    random_vectors,
    unit,
)

WORDS = ["c++", "http/2", "kb_ingest", "v1.2.3", "知识库", "AND", "OR", "not", "don't", "the", "C#"]


ELASTICSEARCH = pytest.param("elasticsearch", marks=pytest.mark.elasticsearch)


class HeldIndex(LanceIndex):
    """Reads all rows into memory before each search, as others do when nobody has written for a while."""

    async def search(self, query: IndexQuery) -> list[Candidate]:
        await self.hold()
        return await super().search(query)


@pytest.fixture(params=["memory", "lance", "lance-approximate", "lance-resident", ELASTICSEARCH])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[IndexStore]:
    """`lance-approximate` builds the vector index that large tables have, at 300 rows."""
    if request.param == "lance-resident":
        monkeypatch.setattr("retrieval.lance_store.LanceIndex", HeldIndex)
    stores: dict[str, Callable[[], IndexStore]] = {
        "memory": MemoryStore,
        "lance": lambda: LanceStore(tmp_path / "index"),
        "lance-resident": lambda: LanceStore(tmp_path / "index"),
        "lance-approximate": lambda: LanceStore(tmp_path / "index", exact_rows=300),
        "elasticsearch": lambda: ElasticsearchStore(
            request.getfixturevalue("elasticsearch_settings")
        ),
    }
    made = stores[request.param]()
    yield made
    await made.close()


@pytest.fixture
async def index(store: IndexStore) -> AsyncIterator[ChunkIndex]:
    made = await store.create("kb-test-1", SCHEMA)
    yield made
    await made.close()


@pytest.fixture
def bm25_tolerance(request: pytest.FixtureRequest) -> float:
    """Elasticsearch counts deleted chunks until it merges segments, and rounds lengths beyond 40 terms.

    tests/integration/test_elasticsearch_index.py holds it to the reference where neither matters.
    """
    return 0.2 if "elasticsearch" in request.node.name else 1e-4


def texts(candidates: list[Candidate]) -> set[str]:
    return {candidate.chunk.text for candidate in candidates}


async def test_an_empty_index_answers_everything(index: ChunkIndex) -> None:
    assert await index.search(IndexQuery(unit(1), ("a",), 5)) == []
    assert await index.count() == IndexCount(0, 0)
    assert await index.contents() == {}
    assert await index.chunks("d") == []
    assert await index.vectors(["h"]) == {}
    await index.delete(["d"])
    await index.optimise()
    await index.replace([])


async def test_chunks_come_back_as_they_went_in(index: ChunkIndex) -> None:
    plain = document("d", ["one 'quoted' \\ \"text\"", "二\n三 😀"])
    chunks = tuple(
        replace(chunk, title="T", heading_path=("T", "第一章"), page=number)
        for chunk, number in zip(plain.chunks, (None, 7), strict=True)
    )
    written = replace(plain, chunks=chunks)
    await index.replace([written])
    assert await index.chunks("d") == list(chunks)
    ids = frozenset(chunk.id for chunk in chunks)
    assert await index.contents() == {"d": IndexedContent(ids, frozenset({"1"}))}
    found = await index.search(IndexQuery(written.vectors[0], (), 1))
    assert [(each.chunk, each.uri) for each in found] == [(chunks[0], "file:///d")]


async def test_replace_leaves_only_the_new_chunks(index: ChunkIndex) -> None:
    other = document("other", ["stays"])
    await index.replace([document("d", ["old", "kept"]), other])
    new = document("d", ["kept", "new", "new"])
    for _ in range(2):
        await index.replace([new])
        assert await index.chunks("d") == list(new.chunks)
        assert await index.count() == IndexCount(2, 4)
    assert await index.chunks("other") == list(other.chunks)


async def test_a_new_revision_of_the_same_text_replaces_the_old_one(index: ChunkIndex) -> None:
    await index.replace([document("d", ["same"], groups=("staff",))])
    await index.replace([document("d", ["same"], revision="2")])
    assert (await index.contents())["d"].revisions == {"2"}
    assert len(await index.search(IndexQuery(None, ("same",), 5, Access(frozenset())))) == 1


async def test_writes_without_refresh_are_seen_after_one(index: ChunkIndex) -> None:
    await index.replace([document("a", ["x"]), document("b", ["x"])])
    assert await index.replace([document("c", ["x"])], refresh=False) == {}
    await index.delete(["a"], refresh=False)
    for _ in range(2):
        await index.refresh()
        assert set(await index.contents()) == {"b", "c"}


async def test_documents_without_chunks_and_deleted_ones_are_gone(index: ChunkIndex) -> None:
    await index.replace([document(name, ["text " + name]) for name in ("a", "b", "c")])
    await index.replace([document("a", []), document("d", ["text d"])])
    await index.delete(["b", "unknown"])
    await index.delete([])
    assert set(await index.contents()) == {"c", "d"}
    assert texts(await index.search(IndexQuery(unit(1), ("text",), 9))) == {"text c", "text d"}


def _foreign_chunk() -> list[IndexedDocument]:
    return [replace(document("a", ["x"]), id="b")]


def _not_finite() -> list[IndexedDocument]:
    vectors = random_vectors(1)
    vectors[0, 3] = np.nan
    return [document("a", ["x"], vectors)]


@pytest.mark.parametrize(
    "documents",
    [
        [document("a", ["x"]), document("a", ["y"])],
        [replace(document("a", ["x"]), chunks=document("a", ["x"]).chunks * 2)],
        _foreign_chunk(),
        _not_finite(),
        [document("a", ["x"], random_vectors(2))],
        [document("a", ["x"], np.zeros((1, DIMENSIONS + 1), np.float32))],
        [document("a", ["x"], np.zeros(DIMENSIONS, np.float32))],
        [replace(document("a", ["x"]), uri="file:///\udce4")],
    ],
    ids=["document twice", "chunk twice", "foreign", "nan", "rows", "columns", "flat", "surrogate"],
)
async def test_wrong_input_is_refused_before_anything_is_written(
    index: ChunkIndex, documents: list[IndexedDocument]
) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is the adapter's own
        await index.replace([document("good", ["good"]), *documents])
    assert await index.count() == IndexCount(0, 0)


async def test_a_query_vector_of_another_length_is_refused(index: ChunkIndex) -> None:
    with pytest.raises(ValueError, match="16"):
        await index.search(IndexQuery(np.ones(3, np.float32), (), 5))


async def test_both_sides_bring_their_best_and_every_candidate_has_its_cosine(
    index: ChunkIndex,
) -> None:
    far = unit(0.6, -0.8)
    await index.replace(
        [
            document("near", ["apples"], np.stack([unit(1)])),
            document("far", ["pears"], np.stack([far])),
            document("none", ["plums"], np.stack([unit(0.5, 1)])),
        ]
    )
    await index.optimise()
    found = await index.search(IndexQuery(unit(1), tuple(terms("pears")), 1))
    by_text = {candidate.chunk.text: candidate for candidate in found}
    assert set(by_text) == {"apples", "pears"}
    assert by_text["apples"].similarity == pytest.approx(1, abs=1e-6)
    assert by_text["apples"].bm25 == 0
    assert by_text["pears"].similarity == pytest.approx(0.6, abs=1e-6)
    assert by_text["pears"].bm25 > 0
    assert by_text["pears"].terms.split() == terms("pears")


async def test_each_side_works_alone(index: ChunkIndex) -> None:
    await index.replace([document("d", ["apples", "pears"])])
    lexical = await index.search(IndexQuery(None, tuple(terms("apples")), 5))
    assert [(each.chunk.text, each.similarity) for each in lexical] == [("apples", None)]
    assert await index.search(IndexQuery(None, ("absent",), 5)) == []
    assert await index.search(IndexQuery(None, (), 5)) == []
    assert len(await index.search(IndexQuery(unit(1), (), 1))) == 1


async def test_the_best_thousand_are_forbidden(index: ChunkIndex) -> None:
    secret = [f"treasure treasure {number}" for number in range(1000)]
    vectors = np.tile(unit(1), (1000, 1))
    await index.replace(
        [
            document("secret", secret, vectors, groups=("board",)),
            document("ours", ["one treasure among words"], np.stack([unit(0, 1)]), ("a'b", "c")),
            document("public", ["a treasure for all who ask"], np.stack([unit(0, 0, 1)])),
        ]
    )
    await index.optimise()

    async def seen(access: Access, documents: tuple[str, ...] | None = None) -> set[str]:
        wanted = tuple(terms("treasure"))
        dense = await index.search(IndexQuery(unit(1), (), 2, access, documents))
        lexical = await index.search(IndexQuery(None, wanted, 2, access, documents))
        ids = {candidate.chunk.document_id for candidate in dense}
        assert ids == {candidate.chunk.document_id for candidate in lexical}
        return ids

    assert await seen(Access(frozenset())) == {"public"}
    assert await seen(Access(frozenset(["a'b", "') OR TRUE --"]))) == {"ours", "public"}
    assert await seen(Access(frozenset(["board"]))) == {"secret"}
    assert await seen(Access()) == {"secret"}
    assert await seen(Access(), ("ours",)) == {"ours"}
    assert await seen(Access(frozenset()), ("ours",)) == set()
    assert await seen(Access(), ()) == set()
    many = tuple(f"document-{number}" for number in range(5000))
    assert await seen(Access(), (*many, "public")) == {"public"}


async def test_vectors_by_text_hash(index: ChunkIndex) -> None:
    written = document("d", [f"text {number}" for number in range(50)])
    await index.replace([written, document("copy", ["text 1"], written.vectors[1:2])])
    unknown = [f"{number:032x}" for number in range(9_960)]
    known = [chunk.text_hash for chunk in written.chunks[:40]]
    found = await index.vectors([*unknown, *known, *known])
    assert set(found) == set(known)
    for chunk, vector in zip(written.chunks[:40], written.vectors, strict=False):
        np.testing.assert_array_equal(found[chunk.text_hash], vector)


def random_documents(count: int, seed: int) -> list[IndexedDocument]:
    rng = np.random.default_rng(seed)
    vocabulary = WORDS + [f"word{number}" for number in range(60)]
    return [
        document(
            f"d{seed}-{number}",
            [" ".join(rng.choice(vocabulary, rng.integers(4, 60))) for _ in range(3)],
        )
        for number in range(count)
    ]


async def test_bm25_is_the_reference_s(index: ChunkIndex, bm25_tolerance: float) -> None:
    """Also after rewriting and deleting: what is folded in must not count twice."""
    reference = await MemoryStore().create("reference", SCHEMA)
    first = random_documents(30, seed=1)
    second = random_documents(30, seed=2)
    for each in (index, reference):
        await each.replace(first)
        await each.optimise()
        await each.replace(second)
        await each.replace(first[:10])
        await each.delete([document.id for document in first[20:]])
        await each.optimise()
    queries = [[word] for word in WORDS] + [
        ["word1", "word1", "c++"],
        ["word2", "知识库", "HTTP/2"],
    ]
    for words in queries:
        query = IndexQuery(None, tuple(terms(" ".join(words))), 1000)
        found = {each.chunk.id: each.bm25 for each in await index.search(query)}
        expected = {each.chunk.id: each.bm25 for each in await reference.search(query)}
        close = pytest.approx(expected, rel=bm25_tolerance, abs=bm25_tolerance / 20)
        assert found == close, words
        assert expected, words


@pytest.mark.parametrize("term", ['"', "*", "w*", "(", "+x", "-x", "x:y", "~", "\\", "x^2", "a'b"])
async def test_a_term_is_never_syntax(index: ChunkIndex, term: str) -> None:
    await index.replace([document("d", ["word w x y a b", "other"])])
    assert await index.search(IndexQuery(None, (term,), 5)) == []


async def test_new_rows_are_found_before_they_are_folded_in(index: ChunkIndex) -> None:
    await index.replace([document("a", ["apples"])])
    await index.optimise()
    await index.replace([document("b", ["apples too"])])
    assert texts(await index.search(IndexQuery(None, tuple(terms("apples")), 5))) == {
        "apples",
        "apples too",
    }


async def test_limits_are_for_each_side(index: ChunkIndex) -> None:
    await index.replace([document("d", [f"same {number}" for number in range(30)])])
    assert len(await index.search(IndexQuery(unit(1), (), 7))) == 7
    assert len(await index.search(IndexQuery(None, ("same",), 7))) <= 7
    chunks: list[Chunk] = [
        each.chunk for each in await index.search(IndexQuery(unit(1), ("same",), 7))
    ]
    assert len({chunk.id for chunk in chunks}) == len(chunks) <= 14


async def test_a_term_said_twice_counts_once(index: ChunkIndex) -> None:
    await index.replace([document("d", ["apples and pears"])])
    await index.optimise()
    once, twice = [
        [each.bm25 for each in await index.search(IndexQuery(None, words, 5))]
        for words in (("appl",), ("appl", "appl"))
    ]
    assert once == twice != []
