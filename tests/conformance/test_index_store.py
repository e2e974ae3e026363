"""What every IndexStore must do."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kb.errors import IndexSchemaMismatch, NotFoundError
from kb.ports import IndexStore
from kb.types import IndexCount
from retrieval.elasticsearch_store import ElasticsearchStore
from retrieval.lance_store import LanceStore
from retrieval.memory_index import MemoryStore
from tests.conformance.indexed_documents import SCHEMA, document

ELASTICSEARCH = pytest.param("elasticsearch", marks=pytest.mark.elasticsearch)


@pytest.fixture(params=["memory", "lance", ELASTICSEARCH])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[IndexStore]:
    stores: dict[str, Callable[[], IndexStore]] = {
        "memory": MemoryStore,
        "lance": lambda: LanceStore(tmp_path / "index"),
        "elasticsearch": lambda: ElasticsearchStore(
            request.getfixturevalue("elasticsearch_settings")
        ),
    }
    made = stores[request.param]()
    yield made
    await made.close()


async def test_creating_twice_gives_the_same_index(store: IndexStore) -> None:
    index = await store.create("kb-a-1", SCHEMA)
    await index.replace([document("d", ["x"])])
    again = await store.create("kb-a-1", SCHEMA)
    opened = await store.open("kb-a-1", SCHEMA)
    assert await again.count() == await opened.count() == IndexCount(1, 1)


async def test_what_is_not_there_cannot_be_opened(store: IndexStore) -> None:
    with pytest.raises(NotFoundError, match="kb-a-1"):
        await store.open("kb-a-1", SCHEMA)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"fingerprint": "other"}, r"fingerprint test-embedder \(now other\)"),
        ({"dimensions": 8}, r"dimensions 16 \(now 8\)"),
        ({"mapping_version": 2}, r"mapping version 1 \(now 2\)"),
        ({"chunker_version": 2}, r"chunker version 1 \(now 2\)"),
    ],
)
async def test_another_schema_is_refused_with_the_remedy(
    store: IndexStore, change: dict[str, Any], named: str
) -> None:
    index = await store.create("kb-a-1", SCHEMA)
    await index.replace([document("d", ["x"])])
    await index.optimise()
    other = replace(SCHEMA, **change)
    for attempt in (store.create, store.open):
        with pytest.raises(IndexSchemaMismatch, match=named) as raised:
            await attempt("kb-a-1", other)
        assert "kb reindex --collection NAME" in raised.value.message


async def test_names_and_dropping(store: IndexStore) -> None:
    names = [f"kb-a-{number}" for number in range(12)]
    for name in names:
        await store.create(name, SCHEMA)
    assert sorted(await store.names()) == sorted(names)
    await store.drop(names[0])
    await store.drop(names[0])
    assert sorted(await store.names()) == sorted(names[1:])
    with pytest.raises(NotFoundError):
        await store.open(names[0], SCHEMA)


async def test_a_dropped_name_starts_empty(store: IndexStore) -> None:
    index = await store.create("kb-a-1", SCHEMA)
    await index.replace([document("d", ["x"])])
    await store.drop("kb-a-1")
    fresh = await store.create("kb-a-1", replace(SCHEMA, fingerprint="other"))
    assert await fresh.count() == IndexCount(0, 0)


async def test_an_alias_moves_from_one_index_to_another(store: IndexStore) -> None:
    assert await store.aliased("kb-a") is None
    for name in ("kb-a-1", "kb-a-2", "kb-b-1"):
        await store.create(name, SCHEMA)
    await store.alias("kb-b", "kb-b-1")
    for name in ("kb-a-1", "kb-a-2", "kb-a-2"):
        await store.alias("kb-a", name)
        assert await store.aliased("kb-a") == name
    assert await store.aliased("kb-b") == "kb-b-1"
    assert sorted(await store.names()) == ["kb-a-1", "kb-a-2", "kb-b-1"]


async def test_an_alias_needs_its_index_and_goes_with_it(store: IndexStore) -> None:
    await store.create("kb-a-1", SCHEMA)
    await store.alias("kb-a", "kb-a-1")
    with pytest.raises(NotFoundError, match="kb-a-2"):
        await store.alias("kb-a", "kb-a-2")
    assert await store.aliased("kb-a") == "kb-a-1"
    await store.drop("kb-a-1")
    assert await store.aliased("kb-a") is None


async def test_a_sound_store_has_no_problems(store: IndexStore) -> None:
    await store.create("kb-a-1", SCHEMA)
    assert await store.problems() == []
