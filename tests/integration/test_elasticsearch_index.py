"""What only a real Elasticsearch can show: its rejections, ranking, blocks and watermarks."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from kb.errors import IndexMisconfigured, IndexSchemaMismatch, IndexUnavailable, NotFoundError
from kb.ports import ChunkIndex, IndexStore
from kb.settings import IndexSettings
from kb.types import Access, IndexCount, IndexedDocument, IndexQuery, IndexSchema
from retrieval import elasticsearch_health, elasticsearch_index
from retrieval.elasticsearch_health import WATERMARKS
from retrieval.elasticsearch_index import ElasticsearchIndex
from retrieval.elasticsearch_mapping import index_body
from retrieval.elasticsearch_store import ElasticsearchStore
from retrieval.fusion import rank
from retrieval.lance_store import LanceStore
from retrieval.memory_index import MemoryStore
from retrieval.terms import terms
from tests.conformance.indexed_documents import SCHEMA, document, random_vectors, unit

pytestmark = pytest.mark.elasticsearch
NAME = "kb-test-1"


@pytest.fixture
async def store(elasticsearch_settings: IndexSettings) -> AsyncIterator[ElasticsearchStore]:
    made = ElasticsearchStore(elasticsearch_settings)
    yield made
    await made.close()


@pytest.fixture
async def index(store: ElasticsearchStore) -> ElasticsearchIndex:
    return await store.create(NAME, SCHEMA)


@pytest.fixture
async def admin(elasticsearch_server: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=elasticsearch_server, trust_env=False) as client:
        yield client


# --- Writing ------------------------------------------------------------------------------------


async def test_a_rejected_chunk_refuses_its_document_and_no_other(
    index: ElasticsearchIndex,
) -> None:
    """Elasticsearch takes unit vectors only."""
    await index.replace([document("bad", ["before", "kept"])])
    vectors = random_vectors(2)
    vectors[1] *= 2
    refused = await index.replace(
        [document("good", ["x"]), document("bad", ["kept", "too long"], vectors)]
    )
    assert list(refused) == ["bad"]
    assert "unit-length" in refused["bad"]
    assert set(await index.contents()) == {"good"}


async def test_two_writers_of_the_same_document_leave_it_once(
    index: ElasticsearchIndex, elasticsearch_settings: IndexSettings
) -> None:
    other = ElasticsearchStore(elasticsearch_settings)
    beside = await other.open(NAME, SCHEMA)
    written = [document(f"d{number}", [f"text {number}", "same"]) for number in range(20)]
    await asyncio.gather(*(each.replace(written) for each in (index, beside, index, beside)))
    assert await index.count() == IndexCount(20, 40)
    await other.close()


async def test_more_chunks_than_one_page_holds(
    index: ElasticsearchIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PAGE", "WHOLE_PAGE", "HASHES_PER_QUERY", "BULK_ACTIONS"):
        monkeypatch.setattr(elasticsearch_index, name, 7)
    written = document("d", [f"text {number}" for number in range(21)])
    await index.replace([written, document("e", ["x"])])
    assert await index.chunks("d") == list(written.chunks)
    assert len((await index.contents())["d"].chunk_ids) == 21
    assert len(await index.vectors([chunk.text_hash for chunk in written.chunks])) == 21
    await index.replace([document(f"f{number}", ["x"]) for number in range(13)])
    assert await index.count() == IndexCount(15, 35)
    await index.replace([document("d", ["only"])])
    assert await index.count() == IndexCount(15, 15)


async def test_an_index_that_is_gone_is_not_made_by_writing(
    index: ElasticsearchIndex, store: ElasticsearchStore
) -> None:
    await store.drop(NAME)
    with pytest.raises(NotFoundError, match=NAME):
        await index.replace([document("d", ["x"])])
    with pytest.raises(NotFoundError, match=NAME):
        await index.search(IndexQuery(unit(1), ("x",), 5))
    assert await store.names() == []


# --- Ranking ------------------------------------------------------------------------------------


def _words(count: int, seed: int, longest: int) -> list[IndexedDocument]:
    rng = np.random.default_rng(seed)
    vocabulary = ["c++", "http/2", "知识库", *(f"word{number}" for number in range(200))]
    lengths = rng.integers(4, longest, count)
    return [
        document(
            f"d{number}", [" ".join(rng.choice(vocabulary, length))], random_vectors(1, number)
        )
        for number, length in enumerate(lengths)
    ]


@pytest.mark.parametrize(("longest", "tolerance"), [(13, 1e-5), (120, 0.07)])
async def test_bm25_is_the_reference_s_where_nothing_was_deleted(
    index: ElasticsearchIndex, longest: int, tolerance: float
) -> None:
    """Lucene keeps a chunk's length in one byte: exact to 40 terms (a word here is up to three).

    Longer ones are rounded by up to a sixteenth (SmallFloat.intToByte4).
    """
    reference = await MemoryStore().create(NAME, SCHEMA)
    written = _words(200, 1, longest)
    await reference.replace(written)
    await index.replace(written)
    for words in ("word1 c++", "知识库 word2 word3", "http/2"):
        query = IndexQuery(None, tuple(terms(words)), 1000)
        found = {each.chunk.id: each.bm25 for each in await index.search(query)}
        expected = {each.chunk.id: each.bm25 for each in await reference.search(query)}
        assert found == pytest.approx(expected, rel=tolerance)
        assert expected


async def test_the_top_ten_are_those_of_the_other_indexes(
    index: ElasticsearchIndex, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """By the product's own fusion, over 400 chunks of words and random vectors."""
    memory = await MemoryStore().create(NAME, SCHEMA)
    lance_store = LanceStore(tmp_path_factory.mktemp("lance"))
    lance = await lance_store.create(NAME, SCHEMA)
    written = _words(400, 2, 60)
    for each in (index, memory, lance):
        await each.replace(written)
        await each.optimise()
    same: list[float] = []
    for number, vector in enumerate(random_vectors(20, seed=3)):
        query = IndexQuery(vector, tuple(terms(f"word{number} word{number + 40} c++")), 100)
        best = await asyncio.gather(*(_top_ten(each, query) for each in (index, memory, lance)))
        same += [len(set(best[0]) & set(other)) / 10 for other in best[1:]]
    assert sum(same) / len(same) >= 0.98
    await lance_store.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bbq_hnsw", "int8_hnsw"])
async def test_approximate_search_finds_what_the_exact_one_does(
    elasticsearch_settings: IndexSettings, tmp_path: Path, kind: str
) -> None:
    """2,000 vectors as wide as the embedder's, in 200 clusters; LanceDB compares all. Its own index, too."""
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((200, 384)).astype(np.float32)
    vectors = np.repeat(centres, 10, axis=0) + rng.standard_normal((2000, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    written = [
        document(f"d{n}", [f"word{n % 97} word{n % 7}"], vectors[n : n + 1]) for n in range(2000)
    ]
    store = ElasticsearchStore(elasticsearch_settings.model_copy(update={"vector_index": kind}))
    stores: list[IndexStore] = [
        LanceStore(tmp_path / "exact"),
        LanceStore(tmp_path / "hnsw", exact_rows=1000),
        store,
    ]
    indexes = [await each.create(NAME, IndexSchema("wide", 384, 1, 1)) for each in stores]
    for each in indexes:
        for start in range(0, 2000, 100):
            await each.replace(written[start : start + 100], refresh=False)
        await each.optimise()
    for question_terms, least in ((("word3", "word5"), 0.98), ((), 0.95)):
        same = []
        for number in range(0, 2000, 50):
            vector = vectors[number] + vectors[number + 1]
            query = IndexQuery(vector / np.linalg.norm(vector), question_terms, 100)
            exact, *others = [set(await _top_ten(each, query)) for each in indexes]
            same.append([len(exact & other) / 10 for other in others])
        assert min(np.mean(same, axis=0)) >= least, np.mean(same, axis=0)
    for opened in stores:
        await opened.close()


async def _top_ten(index: ChunkIndex, query: IndexQuery) -> list[str]:
    ranked = rank(await index.search(query), query.terms)
    return [candidate.chunk.id for candidate, _ in ranked[:10]]


@pytest.mark.parametrize("kind", ["bbq_hnsw", "int8_hnsw", "hnsw"])
@pytest.mark.parametrize("oversample", [0.0, 3.0])
async def test_each_kind_of_vector_index_finds_and_gives_exact_cosines(
    elasticsearch_settings: IndexSettings, kind: str, oversample: float
) -> None:
    """Also under a filter that one in ten chunks passes: the limit is filled with those."""
    update = {"vector_index": kind, "rescore_oversample": oversample, "shards": 2}
    store = ElasticsearchStore(elasticsearch_settings.model_copy(update=update))
    index = await store.create(NAME, IndexSchema("wide", 64, 1, 1))
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((500, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    await index.replace(
        [
            document(
                f"d{n}", [f"text {n}"], vectors[n : n + 1], ("few",) if n % 10 == 0 else ("many",)
            )
            for n in range(500)
        ]
    )
    access = Access(frozenset({"few"}))
    found = await index.search(IndexQuery(vectors[3], ("text",), 20, access))
    assert {int(each.chunk.document_id[1:]) % 10 for each in found} == {0}
    dense = await index.search(IndexQuery(vectors[3], (), 20, access))
    assert len(dense) == 20
    for each in (*found, *dense):
        row = vectors[int(each.chunk.document_id[1:])]
        assert each.similarity == pytest.approx(float(row @ vectors[3]), abs=1e-6)
    await store.close()


# --- What goes wrong -----------------------------------------------------------------------------


async def test_a_wrong_password_names_the_setting(elasticsearch_settings: IndexSettings) -> None:
    url = httpx.URL(elasticsearch_settings.url.get_secret_value()).copy_with(password="wrong")
    store = ElasticsearchStore(IndexSettings(url=str(url)))
    with pytest.raises(IndexMisconfigured, match="KB_INDEX__URL"):
        await store.names()
    (problem,) = await store.problems()
    assert "KB_INDEX__URL" in problem
    await store.close()


async def test_an_index_of_somebody_else_s_is_neither_listed_nor_opened(
    store: ElasticsearchStore, admin: httpx.AsyncClient, elasticsearch_settings: IndexSettings
) -> None:
    (await admin.put(f"/{elasticsearch_settings.prefix}kb-theirs-1")).raise_for_status()
    assert await store.names() == []
    with pytest.raises(IndexSchemaMismatch, match="not made by this program"):
        await store.create("kb-theirs-1", SCHEMA)


async def test_a_full_disk_blocks_writes_with_what_to_do(
    index: ElasticsearchIndex,
    store: ElasticsearchStore,
    admin: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    elasticsearch_settings: IndexSettings,
) -> None:
    """The block that the flood-stage watermark brings."""
    monkeypatch.setattr(elasticsearch_index, "FIRST_BACKOFF_S", 0.01)
    await index.replace([document("d", ["x"])])
    address = f"/{elasticsearch_settings.prefix}{NAME}/_settings"
    await _set(admin, address, {"index.blocks.read_only_allow_delete": True})
    with pytest.raises(IndexUnavailable, match=r"flood-stage watermark.*Free space") as raised:
        await index.replace([document("e", ["x"])])
    assert raised.value.retryable
    (problem,) = await store.problems()
    assert "read_only_allow_delete" in problem
    assert len(await index.search(IndexQuery(unit(1), ("x",), 5))) == 1
    await _set(admin, address, {"index.blocks.read_only_allow_delete": None})
    await index.replace([document("e", ["x"])])


async def test_a_read_only_index_is_named(
    index: ElasticsearchIndex,
    store: ElasticsearchStore,
    admin: httpx.AsyncClient,
    elasticsearch_settings: IndexSettings,
) -> None:
    address = f"/{elasticsearch_settings.prefix}{NAME}/_settings"
    await _set(admin, address, {"index.blocks.write": True})
    with pytest.raises(IndexUnavailable, match=f"{NAME} is blocked"):
        await index.replace([document("e", ["x"])])
    (problem,) = await store.problems()
    assert f"{NAME} is blocked: index.blocks.write" in problem


async def test_a_disk_beyond_the_high_watermark_is_a_problem(
    store: ElasticsearchStore, admin: httpx.AsyncClient
) -> None:
    sizes = {"low": "10pb", "high": "9pb", "flood_stage": "1b"}
    marks = {f"{WATERMARKS}.{stage}": size for stage, size in sizes.items()}
    await _set(admin, "/_cluster/settings", {"persistent": marks})
    try:
        (problem,) = await store.problems()
        assert "beyond the high watermark" in problem
    finally:
        await _set(admin, "/_cluster/settings", {"persistent": dict.fromkeys(marks)})


async def test_a_heap_nearly_full_is_a_problem(
    store: ElasticsearchStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node's own report, against a limit that every heap is beyond."""
    monkeypatch.setattr(elasticsearch_health, "HEAP_LIMIT", 0)
    (problem,) = await store.problems()
    assert "Java heap" in problem
    assert "-Xmx" in problem


async def test_a_red_index_is_named_and_its_searches_fail_with_what_to_do(
    store: ElasticsearchStore, admin: httpx.AsyncClient, elasticsearch_settings: IndexSettings
) -> None:
    """Its primary shard is bound to a node that is not there."""
    body = index_body(SCHEMA, elasticsearch_settings)
    body["settings"]["index"]["routing.allocation.require._name"] = "a-node-that-left"
    address = f"/{elasticsearch_settings.prefix}{NAME}"
    made = await admin.put(address, params={"wait_for_active_shards": 0}, json=body)
    made.raise_for_status()
    (problem,) = await store.problems()
    assert f"{NAME}." in problem
    assert "kb reindex" in problem
    index = await store.open(NAME, SCHEMA)
    with pytest.raises(IndexUnavailable, match="kb doctor") as raised:
        await index.search(IndexQuery(unit(1), ("x",), 5))
    assert raised.value.retryable


async def _set(admin: httpx.AsyncClient, address: str, settings: dict[str, object]) -> None:
    (await admin.put(address, json=settings)).raise_for_status()
