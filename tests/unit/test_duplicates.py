"""Documents with the same text: indexed once, found with all their places, and never lost."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ingestion.duplicates import inherited
from ingestion.indexing import indexable, passage_vectors
from ingestion.planning import SyncMode
from ingestion.progress import SyncProgress
from kb.errors import OriginalGone
from kb.ids import document_text_hash
from kb.types import UNRESTRICTED, Access, Document, DocumentStatus, Hit, IndexedDocument
from retrieval.differences import differences
from retrieval.search import search
from tests.world import World

TEXT = "# Leave\n\nEverybody has thirty days of leave."
OTHER = "# Travel\n\nTrains are taken before planes."


async def original_and_duplicates(world: World) -> tuple[Document, list[Document]]:
    """Of a world in which all documents have one text."""
    documents = list((await world.documents()).values())
    (original,) = [d for d in documents if d.duplicate_of is None]
    duplicates = [d for d in documents if d.duplicate_of]
    assert {d.duplicate_of for d in duplicates} <= {original.id}
    return original, duplicates


async def find(world: World, question: str, access: Access = UNRESTRICTED) -> list[Hit]:
    return await search(
        question,
        collection="default",
        index=world.backends.index,
        embedder=world.embedder,
        limit=5,
        candidates=20,
        access=access,
        catalog=world.catalog,
    )


async def healthy(world: World) -> bool:
    found = await differences(world.catalog, "default", world.backends.index)
    return not found.documents


def places(hit: Hit) -> list[str]:
    return [Path(uri).name for uri in (hit.uri, *hit.also_at)]


@pytest.mark.parametrize(
    "other",
    [
        "ＦＵＬＬ width, half width",
        "Full  width,\n\nhalf\twidth ",
        "full width, half\u00a0width",
        unicodedata.normalize("NFD", "Full width, half width"),
    ],
)
def test_form_case_and_white_space_make_no_other_text(other: str) -> None:
    assert document_text_hash(other) == document_text_hash("Full width, half width")


@pytest.mark.parametrize("other", ["Full width half width", "Fullwidth, half width", ""])
def test_anything_else_makes_another_text(other: str) -> None:
    assert document_text_hash(other) != document_text_hash("Full width, half width")


async def test_a_text_is_indexed_once_and_found_with_all_its_places(world: World) -> None:
    for name in ("a.md", "b.md", "sub/c.md"):
        world.write(name, TEXT)
    world.write("other.md", OTHER)
    progress = await world.sync()
    assert (progress.new, progress.duplicates, progress.embedded) == (4, 2, 2)
    assert (await world.backends.index.count()).documents == 2
    best, *rest = await find(world, "days of leave")
    assert sorted(places(best)) == ["a.md", "b.md", "c.md"]
    assert [places(hit) for hit in rest] == [["other.md"]]
    assert await healthy(world)


async def test_near_duplicates_are_duplicates_whatever_their_format_and_name(world: World) -> None:
    world.write("leave.txt", "Everybody has thirty days of leave.")
    await world.sync()
    world.write("leave (1).md", "EVERYBODY has\nthirty  days of leave.")
    progress = await world.sync()
    assert (progress.duplicates, progress.embedded) == (1, 0)


async def test_nothing_happens_when_nothing_changed(world: World) -> None:
    for name in ("a.md", "b.md"):
        world.write(name, TEXT)
    await world.sync()
    before = await world.documents()
    assert (await world.sync()).unchanged == 2
    progress = await world.sync(mode=SyncMode.FULL)
    assert (progress.changed, progress.duplicates, progress.embedded) == (2, 1, 0)
    after = await world.documents()
    assert {n: d.duplicate_of for n, d in after.items()} == {
        n: d.duplicate_of for n, d in before.items()
    }
    assert await healthy(world)


async def test_when_the_original_is_deleted_a_duplicate_takes_over(world: World) -> None:
    for name in ("a.md", "b.md", "c.md"):
        world.write(name, TEXT)
    await world.sync()
    for left in (2, 1):
        original, _ = await original_and_duplicates(world)
        (world.root / Path(original.uri).name).unlink()
        progress = await world.sync()
        assert (progress.deleted, progress.embedded) == (1, 0)
        heir, duplicates = await original_and_duplicates(world)
        assert (heir.id != original.id, len(duplicates)) == (True, left - 1)
        (hit,) = await find(world, "days of leave")
        assert (hit.uri, len(hit.also_at)) == (heir.uri, left - 1)
        assert await healthy(world)
    assert world.embedder.embedded == 1


async def test_an_heir_whose_name_is_its_title_is_found_under_that(world: World) -> None:
    world.write("a.txt", "Everybody has thirty days of leave.")
    await world.sync()
    world.write("holidays.txt", "Everybody has thirty days of leave.")
    await world.sync()
    (world.root / "a.txt").unlink()
    progress = await world.sync()
    assert (progress.deleted, progress.embedded) == (1, 1)
    (chunk,) = await world.backends.index.chunks((await world.documents())["holidays.txt"].id)
    assert chunk.passage == "holidays\nEverybody has thirty days of leave."
    read_again = await world.sync(mode=SyncMode.FULL)
    assert read_again.embedded == 0
    documents = await world.documents()
    assert await world.backends.index.chunks(documents["holidays.txt"].id) == [chunk]


async def test_when_the_duplicate_is_deleted_nothing_else_happens(world: World) -> None:
    for name in ("a.md", "b.md"):
        world.write(name, TEXT)
    await world.sync()
    original, (duplicate,) = await original_and_duplicates(world)
    (world.root / Path(duplicate.uri).name).unlink()
    assert (await world.sync()).deleted == 1
    assert await original_and_duplicates(world) == (original, [])
    assert await healthy(world)


@pytest.mark.parametrize("changes", ["original", "duplicate"])
async def test_when_one_copy_changes_the_text_stays_with_the_other(
    world: World, changes: str
) -> None:
    for name in ("a.md", "b.md"):
        world.write(name, TEXT)
    await world.sync()
    original, (duplicate,) = await original_and_duplicates(world)
    changed, stays = (original, duplicate) if changes == "original" else (duplicate, original)
    world.write(Path(changed.uri).name, OTHER)
    progress = await world.sync()
    assert (progress.changed, progress.embedded) == (1, 1)
    assert {d.duplicate_of for d in (await world.documents()).values()} == {None}
    assert places((await find(world, "days of leave"))[0]) == [Path(stays.uri).name]
    assert places((await find(world, "trains before planes"))[0]) == [Path(changed.uri).name]
    assert await healthy(world)
    world.write(Path(changed.uri).name, TEXT)
    progress = await world.sync()
    assert (progress.changed, progress.duplicates, progress.embedded) == (1, 1, 0)
    assert await healthy(world)


async def test_a_copy_that_can_no_longer_be_read_gives_way_too(world: World) -> None:
    for name in ("a.md", "b.md"):
        world.write(name, TEXT)
    await world.sync()
    original, (duplicate,) = await original_and_duplicates(world)
    (world.root / Path(original.uri).name).write_bytes(b"\x00\x01\x02" * 1000)
    progress = await world.sync()
    assert (progress.failed.total(), progress.embedded) == (1, 0)
    assert places((await find(world, "days of leave"))[0]) == [Path(duplicate.uri).name]
    assert await healthy(world)


async def test_moved_copies_stay_what_they_are(world: World) -> None:
    for name in ("old/a.md", "old/b.md"):
        world.write(name, TEXT)
    world.write("c.md", OTHER)
    await world.sync()
    (world.root / "old").rename(world.root / "new")
    progress = await world.sync()
    assert (progress.moved, progress.new, progress.deleted, progress.embedded) == (2, 0, 0, 0)
    (hit, *_) = await find(world, "days of leave")
    assert sorted(places(hit)) == ["a.md", "b.md"]
    assert all("/new/" in uri for uri in (hit.uri, *hit.also_at))
    assert await healthy(world)


async def test_each_set_of_rights_has_a_copy_and_sees_only_its_own_places(world: World) -> None:
    for name in ("hr/a.md", "hr/b.md", "board/c.md", "all/d.md"):
        world.write(name, TEXT)
    hr, board = world.source("hr", ("hr",)), world.source("board", ("board",))
    for source in (hr, board, world.source("all")):
        await world.sync(source=source)
    assert (await world.backends.index.count()).documents == 3

    async def seen(access: Access) -> list[list[str]]:
        return [sorted(places(hit)) for hit in await find(world, "days of leave", access)]

    assert await seen(Access(frozenset({"hr"}))) == [["a.md", "b.md", "d.md"]]
    assert await seen(Access(frozenset({"board"}))) == [["c.md", "d.md"]]
    assert await seen(Access(frozenset({"hr", "board"}))) == [["a.md", "b.md", "c.md", "d.md"]]
    assert await seen(Access(frozenset())) == [["d.md"]]
    assert await seen(UNRESTRICTED) == [["a.md", "b.md", "c.md", "d.md"]]


async def test_rights_that_change_part_the_copies_and_join_them(world: World) -> None:
    world.write("hr/a.md", TEXT)
    world.write("all/b.md", TEXT)
    everybody = world.source("all")
    await world.sync(source=world.source("hr"))
    await world.sync(source=everybody)
    assert (await world.backends.index.count()).documents == 1
    progress = await world.sync(source=world.source("hr", ("hr",)))
    assert (progress.changed, progress.embedded) == (1, 0)
    assert (await world.backends.index.count()).documents == 2
    assert places((await find(world, "days of leave", Access(frozenset())))[0]) == ["b.md"]
    assert await healthy(world)
    progress = await world.sync(source=world.source("hr"))
    assert (progress.changed, progress.duplicates, progress.embedded) == (1, 1, 0)
    assert (await world.backends.index.count()).documents == 1
    assert await healthy(world)


async def test_documents_of_before_are_compared_when_they_are_read_again(world: World) -> None:
    for name in ("a.md", "b.md"):
        world.write(name, TEXT)
    await world.sync()
    # As migration 0005 leaves them: indexed twice, of unknown text.
    original, (duplicate,) = await original_and_duplicates(world)
    held = await world.backends.index.chunks(original.id)
    chunks = inherited(held, duplicate, world.embedder)
    vectors = await passage_vectors(chunks, world.backends.index, world.embedder, SyncProgress())
    dimensions = world.embedder.dimensions
    await world.backends.index.replace([indexable(duplicate, chunks, vectors, dimensions)])
    old = [
        replace(d, text_hash="", duplicate_of=None, chunk_count=1) for d in (original, duplicate)
    ]
    await world.catalog.save_documents(old)
    assert await healthy(world)
    assert (await world.sync()).unchanged == 2
    progress = await world.sync(mode=SyncMode.FULL)
    assert (progress.duplicates, progress.embedded) == (1, 0)
    assert (await world.backends.index.count()).documents == 1
    assert await healthy(world)


async def test_a_duplicate_without_its_original_is_missing_and_read_again(world: World) -> None:
    for name in ("a.md", "b.md"):
        world.write(name, TEXT)
    await world.sync()
    original, (duplicate,) = await original_and_duplicates(world)
    # As a process leaves it that is killed between giving the text up and handing it over.
    assert [d.id for d in await world.catalog.give_up([original.id])] == [duplicate.id]
    await world.backends.index.delete([original.id])
    found = await differences(world.catalog, "default", world.backends.index)
    assert found.missing == {original.id}
    assert (await world.sync()).duplicates == 1
    assert await healthy(world)
    assert len(await find(world, "days of leave")) == 1


async def test_a_text_that_was_given_up_meanwhile_has_no_duplicates(world: World) -> None:
    for name in ("a.md", "b.md"):
        world.write(name, TEXT)
    await world.sync()
    original, (duplicate,) = await original_and_duplicates(world)
    await world.catalog.give_up([original.id])
    with pytest.raises(OriginalGone):
        await world.catalog.save_documents([duplicate])
    assert (await world.documents())[Path(original.uri).name].status is DocumentStatus.PENDING


async def test_a_refused_original_leaves_its_text_to_the_others(world: World) -> None:
    """What is decided while another document is on its way holds only if that one arrives."""
    for name in ("a.md", "b.md"):
        world.write(name, TEXT)
    index = world.backends.index

    class Choosy(type(index)):  # type: ignore[misc]
        async def replace(
            self, documents: Sequence[IndexedDocument], *, refresh: bool = True
        ) -> Mapping[str, str]:
            taken = [d for d in documents if not d.uri.endswith("a.md") or not d.chunks]
            await super().replace(taken, refresh=refresh)
            return {d.id: "not this one" for d in documents if d not in taken}

    index.__class__ = Choosy
    try:
        await world.sync()
    except OriginalGone:
        await world.sync()
    assert places((await find(world, "days of leave"))[0]) == ["b.md"]
    assert await healthy(world)
