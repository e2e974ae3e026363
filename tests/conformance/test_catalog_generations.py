"""What every catalogue must do when a collection changes to another index generation."""

import asyncio
from dataclasses import replace

import pytest

from kb.errors import GenerationSwitched, NotFoundError
from kb.ports import Catalog
from kb.types import Generation
from tests.conformance.catalogued import SCHEMA


@pytest.fixture
async def generation(filled: Catalog) -> Generation:
    made = await filled.add_generation("docs", SCHEMA, {"kind": "e5-onnx", "model": ""})
    await filled.set_live("docs", made.number)
    return replace(made, live=True)


async def test_a_generation_keeps_its_embedder(filled: Catalog, generation: Generation) -> None:
    assert generation.embedder == {"kind": "e5-onnx", "model": ""}
    assert await filled.live_generation("docs") == generation


async def test_writes_for_another_generation_are_refused_whole(
    filled: Catalog, generation: Generation
) -> None:
    before = await filled.documents(collection="docs")
    await filled.save_documents(before, generation)
    newer = await filled.add_generation("docs", SCHEMA)
    await filled.set_live("docs", newer.number)
    changed = [replace(document, title="changed") for document in before]
    with pytest.raises(GenerationSwitched):
        await filled.save_documents(changed, generation)
    with pytest.raises(GenerationSwitched):
        await filled.delete_documents([document.id for document in before], generation)
    assert await filled.documents(collection="docs") == before
    await filled.save_documents(changed, newer)
    assert await filled.documents(collection="docs") == changed


async def test_who_holds_a_collection_keeps_writers_out_until_the_switch(
    filled: Catalog, generation: Generation
) -> None:
    documents = await filled.documents(collection="docs")
    for _ in range(2):
        await filled.hold("docs", "me", 60)
    with pytest.raises(GenerationSwitched):
        await filled.hold("docs", "another", 60)
    with pytest.raises(GenerationSwitched):
        await filled.save_documents(documents, generation)
    newer = await filled.add_generation("docs", SCHEMA)
    with pytest.raises(GenerationSwitched):
        await filled.set_live("docs", newer.number)
    await filled.set_live("docs", newer.number, "me")
    await filled.save_documents(documents, newer)
    await filled.hold("docs", "another", 60)


async def test_a_hold_ends_by_release_or_by_itself(filled: Catalog, generation: Generation) -> None:
    documents = await filled.documents(collection="docs")
    await filled.hold("docs", "me", 60)
    await filled.release("docs", "another")
    with pytest.raises(GenerationSwitched):
        await filled.save_documents(documents, generation)
    for _ in range(2):
        await filled.release("docs", "me")
    await filled.save_documents(documents, generation)
    await filled.hold("docs", "me", 0.05)
    await asyncio.sleep(0.1)
    await filled.save_documents(documents, generation)
    with pytest.raises(GenerationSwitched):
        await filled.set_live("docs", generation.number, "me")
    with pytest.raises(NotFoundError):
        await filled.hold("nowhere", "me", 60)


async def test_only_generations_that_are_not_live_are_deleted(
    filled: Catalog, generation: Generation
) -> None:
    newer = await filled.add_generation("docs", SCHEMA)
    for number in (generation.number, newer.number, newer.number, 99):
        await filled.delete_generation("docs", number)
    assert await filled.generations("docs") == [generation]


async def test_every_change_of_what_may_be_found_gives_the_live_index_another_stamp(
    filled: Catalog, generation: Generation
) -> None:
    (document, *_) = await filled.documents(collection="docs")
    seen = [generation.stamp]

    async def is_new() -> bool:
        live = await filled.live_generation("docs")
        assert live is not None
        seen.append(live.stamp)
        return live.stamp not in seen[:-1]

    assert await is_new()
    await filled.documents(collection="docs")
    await filled.save_documents([])
    await filled.delete_documents([])
    assert not await is_new()
    await filled.save_documents([document])
    assert await is_new()
    await filled.delete_documents([document.id], generation)
    assert await is_new()
    await filled.touch("docs")
    assert await is_new()
    newer = await filled.add_generation("docs", SCHEMA)
    assert not await is_new()
    await filled.set_live("docs", newer.number)
    assert await is_new()
    await filled.set_live("docs", generation.number)
    assert await is_new(), "what was found before it was live the first time may have changed"
    await filled.delete_source(document.source_id)
    assert await is_new()
    with pytest.raises(NotFoundError):
        await filled.touch("nowhere")


async def test_a_change_of_one_collection_leaves_the_stamps_of_others(
    filled: Catalog, generation: Generation
) -> None:
    await filled.ensure_collection("others")
    other = await filled.add_generation("others", SCHEMA)
    await filled.set_live("others", other.number)
    before = await filled.live_generation("others")
    await filled.save_documents(await filled.documents(collection="docs"), generation)
    after = await filled.live_generation("others")
    assert before is not None
    assert after is not None
    assert before.stamp == after.stamp
