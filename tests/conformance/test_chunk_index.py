"""What every `ChunkIndex` and `IndexStore` promises, on the fake and on LanceDB alike."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kb import ids
from kb.errors import IndexSchemaMismatch, NotFoundError
from kb.ports import ChunkIndex, IndexStore
from kb.types import (
    UNRESTRICTED,
    Access,
    Candidate,
    Chunk,
    IndexCount,
    IndexedDocument,
    IndexQuery,
    IndexSchema,
    Vector,
    Vectors,
)
from retrieval.lance_store import LanceStore
from retrieval.memory_index import MemoryStore
from retrieval.terms import terms

DIMENSIONS = 16
SCHEMA = IndexSchema("hashing/16", DIMENSIONS, 1, 1)


@pytest.fixture(params=["memory", "lance", "lance-approximate"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[IndexStore]:
    """`lance-approximate` builds the vector index that large tables have, at 300 rows."""
    stores: dict[str, IndexStore] = {
        "memory": MemoryStore(),
        "lance": LanceStore(tmp_path / "index"),
        "lance-approximate": LanceStore(tmp_path / "index", exact_rows=300),
    }
    yield stores[request.param]
    for made in stores.values():
        await made.close()


@pytest.fixture
async def index(store: IndexStore) -> ChunkIndex:
    return await store.create("kb-test-1", SCHEMA)


def unit(*places: float) -> Vector:
    vector = np.zeros(DIMENSIONS, np.float32)
    vector[: len(places)] = places
    return vector / np.float32(np.linalg.norm(vector))


def random_vectors(count: int, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((count, DIMENSIONS)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def document(
    name: str,
    texts: Sequence[str],
    vectors: Vectors | None = None,
    groups: tuple[str, ...] = (),
) -> IndexedDocument:
    chunks = []
    for ordinal, text in enumerate(texts):
        text_hash = ids.text_hash(text)
        chunks.append(
            Chunk(
                id=ids.chunk_id(name, text_hash, ordinal),
                document_id=name,
                ordinal=ordinal,
                title="",
                heading_path=("Chapter", "Section") if ordinal else (),
                page=ordinal or None,
                start=10 * ordinal,
                end=10 * ordinal + len(text),
                text=text,
                text_hash=text_hash,
                tokens=len(text),
            )
        )
    if vectors is None:
        vectors = random_vectors(len(texts), seed=len(name))
    return IndexedDocument(name, f"file:///{name}", groups, tuple(chunks), vectors)


def query(
    text: str = "",
    vector: Vector | None = None,
    limit: int = 10,
    access: Access = UNRESTRICTED,
    document_ids: tuple[str, ...] | None = None,
) -> IndexQuery:
    return IndexQuery(vector, tuple(terms(text)), limit, access, document_ids)


def texts_of(candidates: Sequence[Candidate]) -> set[str]:
    return {candidate.chunk.text for candidate in candidates}


async def test_chunks_come_back_as_they_were_written(index: ChunkIndex) -> None:
    written = document(
        "a", ["first text", "第二段文字 with 'quotes' and \"more\"", "emoji 🐉\nlines"]
    )
    await index.replace([written])
    assert await index.chunks("a") == list(written.chunks)
    assert await index.chunk_ids() == {"a": frozenset(chunk.id for chunk in written.chunks)}
    assert await index.count() == IndexCount(1, 3)
    assert await index.chunks("unknown") == []


async def test_replace_takes_stale_chunks_out_and_twice_changes_nothing(index: ChunkIndex) -> None:
    await index.replace([document("a", ["one", "two", "three"]), document("b", ["other"])])
    changed = document("a", ["one", "four"])
    for _ in range(2):
        await index.replace([changed])
        assert await index.chunks("a") == list(changed.chunks)
        assert await index.count() == IndexCount(2, 3)
    found = await index.search(query("two three"))
    assert found == []


async def test_document_without_chunks_is_deleted(index: ChunkIndex) -> None:
    await index.replace([document("a", ["one"]), document("b", ["two"])])
    await index.replace([document("a", [])])
    assert set(await index.chunk_ids()) == {"b"}


async def test_delete_is_complete_and_ignores_unknown_ids(index: ChunkIndex) -> None:
    await index.replace(
        [document("a'b", ["gone for good"], unit(1)[None]), document("c", ["stays"])]
    )
    await index.delete(["a'b", "never there"])
    await index.delete(["a'b"])
    await index.delete([])
    assert set(await index.chunk_ids()) == {"c"}
    found = await index.search(query("gone for good", unit(1)))
    assert texts_of(found) == {"stays"}


async def test_nothing_wrong_is_written(index: ChunkIndex) -> None:
    good = document("a", ["one", "two"])
    wrong = [
        replace(good, vectors=good.vectors[:1]),
        replace(good, vectors=good.vectors[:, :8]),
        replace(good, vectors=np.full_like(good.vectors, np.nan)),
        replace(good, chunks=(good.chunks[0], good.chunks[0])),
        replace(good, id="b"),
    ]
    for document_ in wrong:
        with pytest.raises(ValueError, match=r"vector|twice|another document"):
            await index.replace([document("fine", ["fine"]), document_])
    with pytest.raises(ValueError, match="twice"):
        await index.replace([good, good])
    assert await index.count() == IndexCount(0, 0)


async def test_search_gives_the_union_of_both_sides_with_exact_cosines(index: ChunkIndex) -> None:
    await index.replace(
        [document("a", ["apples", "pears", "plums"], np.stack([unit(1), unit(1, 1), unit(0, 1)]))]
    )
    found = {c.chunk.text: c for c in await index.search(query("plums", unit(1), limit=1))}
    assert set(found) == {"apples", "plums"}
    assert found["apples"].similarity == pytest.approx(1, abs=1e-5)
    assert found["apples"].bm25 == 0
    assert found["plums"].similarity == pytest.approx(0, abs=1e-5)
    assert found["plums"].bm25 > 0
    assert "plum" in found["plums"].terms.split()
    assert found["plums"].uri == "file:///a"


async def test_one_side_alone_and_neither(index: ChunkIndex) -> None:
    await index.replace([document("a", ["apples", "pears"])])
    lexical = await index.search(query("pears"))
    assert [(c.chunk.text, c.similarity) for c in lexical] == [("pears", None)]
    dense = await index.search(query(vector=unit(1)))
    assert {c.bm25 for c in dense} == {0}
    assert len(dense) == 2
    assert await index.search(query()) == []
    assert await index.search(query("nothing of this")) == []


async def test_empty_index_can_be_asked(index: ChunkIndex) -> None:
    assert await index.search(query("anything", unit(1))) == []
    assert await index.count() == IndexCount(0, 0)
    assert await index.vectors(["unknown"]) == {}
    await index.optimise()


TEXTS = [
    "the quick brown fox and the lazy dog",
    "the dog barks, the dog sleeps, the dog eats",
    "C++ and C# over HTTP/2 with kb_ingest v1.2.3",
    "数据库的索引与查询优化",
    "倒排索引是搜索引擎的核心，索引很重要",
    'signs such as "quotes", *stars*, (brackets), AND OR NOT ~tilde ^caret [x]',
]


@pytest.mark.parametrize(
    "question",
    [
        "dog",
        "lazy dog fox",
        "索引",
        "索引优化",
        "kb_ingest HTTP/2",
        "C++",
        'AND "quotes" *',
        "dog dog dog",
    ],
)
async def test_bm25_is_the_textbooks(index: ChunkIndex, question: str) -> None:
    documents = [document(str(n), [text]) for n, text in enumerate(TEXTS)]
    reference = await MemoryStore().create("reference", SCHEMA)
    await reference.replace(documents)
    await index.replace(documents)
    await index.optimise()
    expected = {c.chunk.text: c.bm25 for c in await reference.search(query(question))}
    found = {c.chunk.text: c.bm25 for c in await index.search(query(question))}
    assert expected
    assert found == pytest.approx(expected, rel=1e-4)


async def test_rights_are_applied_before_ranking(index: ChunkIndex) -> None:
    """A thousand better passages that may not be seen leave room for the one that may."""
    secret = document("secret", [f"tea {n}" for n in range(1000)], None, ("board",))
    secret = replace(secret, vectors=np.tile(unit(1), (1000, 1)))
    public = document("public", ["something about tea in many more words"], unit(0.1, 1)[None])
    own = document("own", ["tea for 'staff' and others"], unit(0.2, 1)[None], ("st'aff", "other"))
    await index.replace([secret, public, own])
    await index.optimise()

    async def seen(access: Access) -> set[str]:
        found = await index.search(query("tea", unit(1), limit=5, access=access))
        return {candidate.chunk.document_id for candidate in found}

    assert await seen(Access(frozenset())) == {"public"}
    assert await seen(Access(frozenset({"st'aff"}))) == {"public", "own"}
    assert await seen(Access(frozenset({"nobody", "x') OR true --"}))) == {"public"}
    assert await seen(Access(frozenset({"board"}))) >= {"secret"}
    assert await seen(UNRESTRICTED) == {"secret"}


async def test_search_within_documents(index: ChunkIndex) -> None:
    await index.replace([document(name, [f"tea number {name}"]) for name in ("a", "b", "c")])
    found = await index.search(query("tea", unit(1), document_ids=("b", "unknown")))
    assert {c.chunk.document_id for c in found} == {"b"}
    assert await index.search(query("tea", unit(1), document_ids=())) == []


async def test_vectors_are_found_by_text_hash(index: ChunkIndex) -> None:
    written = document("a", ["one", "two", "three"])
    await index.replace([written])
    hashes = [chunk.text_hash for chunk in written.chunks]
    found = await index.vectors([*hashes[:2], "unknown", *(f"{n:032x}" for n in range(3000))])
    assert set(found) == set(hashes[:2])
    assert found[hashes[1]] == pytest.approx(written.vectors[1])


async def test_many_documents_in_one_call(index: ChunkIndex) -> None:
    vectors = random_vectors(900)
    documents = [document(f"d{n}", [f"text {n}"], vectors[n : n + 1]) for n in range(900)]
    await index.replace(documents)
    await index.optimise()
    await index.replace(documents[:50])
    assert await index.count() == IndexCount(900, 900)
    asked = random_vectors(20, seed=1)
    hits = 0
    for vector in asked:
        found = await index.search(query(vector=vector, limit=10))
        best = sorted(found, key=lambda c: -(c.similarity or 0))[:10]
        exact = set(np.argsort(-(vectors @ vector))[:10])
        hits += len({int(c.chunk.document_id[1:]) for c in best} & exact)
        for candidate in best:
            number = int(candidate.chunk.document_id[1:])
            assert candidate.similarity == pytest.approx(float(vectors[number] @ vector), abs=1e-4)
    assert hits / 200 >= 0.95
    await index.delete([d.id for d in documents])
    assert await index.count() == IndexCount(0, 0)


async def test_writers_of_one_process_take_turns(index: ChunkIndex) -> None:
    import asyncio

    await asyncio.gather(*(index.replace([document(f"d{n}", ["same", f"{n}"])]) for n in range(8)))
    assert await index.count() == IndexCount(8, 16)


# --- The store --------------------------------------------------------------------------------


async def test_create_twice_gives_the_same_index(store: IndexStore) -> None:
    first = await store.create("kb-a-1", SCHEMA)
    await first.replace([document("a", ["one"])])
    assert await (await store.create("kb-a-1", SCHEMA)).count() == IndexCount(1, 1)
    assert await (await store.open("kb-a-1", SCHEMA)).count() == IndexCount(1, 1)
    assert await store.names() == ["kb-a-1"]


async def test_another_schema_is_refused(store: IndexStore) -> None:
    await store.create("kb-a-1", SCHEMA)
    other = replace(SCHEMA, fingerprint="another/16")
    for call in (store.create, store.open):
        with pytest.raises(IndexSchemaMismatch, match="another/16"):
            await call("kb-a-1", other)


async def test_drop_and_unknown_names(store: IndexStore) -> None:
    await store.create("kb-a-1", SCHEMA)
    await store.drop("kb-a-1")
    await store.drop("kb-a-1")
    assert await store.names() == []
    with pytest.raises(NotFoundError, match="kb-a-1"):
        await store.open("kb-a-1", SCHEMA)
    index = await store.create("kb-a-1", SCHEMA)
    assert await index.count() == IndexCount(0, 0)
