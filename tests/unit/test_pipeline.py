"""The ingestion story over fakes: what is read, embedded, written and deleted, and what is not."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ingestion.parsing import InlineParser
from ingestion.planning import DeleteGuard, SyncMode
from kb.errors import (
    BackendError,
    ConfigError,
    DeletionRefused,
    IndexUnavailable,
    ModelUnavailable,
    ParseTimeout,
)
from kb.types import DocumentStatus, FailureCategory, IndexedDocument, PreparedDocument
from tests.world import World


async def test_new_documents_are_indexed(world: World) -> None:
    world.write("a.md", "# A\n\nAlpha text.")
    world.write("sub/b.txt", "Beta text.")
    progress = await world.sync()
    assert (progress.found, progress.indexed, progress.walked) == (2, 2, True)
    documents = await world.documents()
    assert {d.status for d in documents.values()} == {DocumentStatus.INDEXED}
    assert documents["a.md"].title == "A"
    assert documents["a.md"].chunk_count == 1
    assert documents["a.md"].indexed_at
    assert await world.indexed_texts() == {"Alpha text.", "Beta text."}


async def test_unchanged_documents_cost_no_embedding(world: World) -> None:
    world.write("a.md", "Alpha text.")
    await world.sync()
    before = world.embedder.embedded
    progress = await world.sync()
    assert (progress.unchanged, progress.indexed) == (1, 0)
    assert world.embedder.embedded == before


async def test_touched_file_is_hashed_but_not_read(world: World) -> None:
    path = world.write("a.md", "Alpha text.")
    await world.sync()
    os.utime(path, ns=(1, 1))
    progress = await world.sync()
    assert progress.unchanged == 1
    assert (await world.documents())["a.md"].mtime_ns == 1


async def test_edit_of_one_section_embeds_one_section(world: World) -> None:
    sections = [f"## Part {n}\n\n" + f"Words of part {n}. " * 20 for n in range(5)]
    world.write("a.md", "# A\n\n" + "\n\n".join(sections))
    first = await world.sync()
    sections[2] = "## Part 2\n\n" + "Other words now. " * 20
    world.write("a.md", "# A\n\n" + "\n\n".join(sections))
    second = await world.sync()
    assert first.embedded >= 5
    assert second.embedded == 1
    assert second.reused == first.embedded - 1
    assert not any("Words of part 2." in text for text in await world.indexed_texts())


async def test_moved_document_is_not_embedded_again(world: World) -> None:
    path = world.write("a.md", "# Title\n\nAlpha text.")
    await world.sync()
    path.rename(world.root / "b.md")
    progress = await world.sync()
    assert (progress.moved, progress.deleted, progress.embedded) == (1, 0, 0)
    assert list(await world.documents()) == ["b.md"]


async def test_deleted_document_is_gone_from_index_and_catalogue(world: World) -> None:
    world.write("a.md", "Alpha text.")
    path = world.write("b.md", "Beta text.")
    await world.sync()
    path.unlink()
    progress = await world.sync()
    assert progress.deleted == 1
    assert await world.indexed_texts() == {"Alpha text."}
    assert list(await world.documents()) == ["a.md"]


async def test_folder_that_is_suddenly_empty_deletes_nothing(world: World) -> None:
    path = world.write("a.md", "Alpha text.")
    await world.sync()
    path.unlink()
    with pytest.raises(ConfigError, match="Nothing was deleted"):
        await world.sync()
    assert await world.indexed_texts() == {"Alpha text."}


async def test_losing_too_much_at_once_deletes_nothing_until_confirmed(world: World) -> None:
    for number in range(20):
        world.write(f"{number:02}.md", f"Text number {number}.")
    await world.sync()
    for number in range(5):
        (world.root / f"{number:02}.md").unlink()
    world.write("new.md", "New text.")
    guard = DeleteGuard(share=0.2, free=4)
    with pytest.raises(DeletionRefused, match=r"5 of the 20 .*--confirm-deletes"):
        await world.sync(guard=guard)
    assert len(await world.documents()) == 21, "what is new is indexed all the same"
    assert (await world.sync(guard=None)).deleted == 5
    assert len(await world.indexed_texts()) == 16
    (world.root / "05.md").unlink()
    assert (await world.sync(guard=guard)).deleted == 1


async def test_a_folder_that_moves_is_not_a_loss(world: World) -> None:
    for number in range(20):
        world.write(f"old/{number:02}.md", f"# Title {number}\n\nText number {number}.")
    await world.sync()
    (world.root / "old").rename(world.root / "new")
    progress = await world.sync(guard=DeleteGuard(share=0, free=0))
    assert (progress.moved, progress.new, progress.deleted, progress.embedded) == (20, 0, 0, 0)
    assert (await world.backends.index.count()).documents == 20


async def test_the_lesser_of_two_copies_is_no_loss(world: World) -> None:
    world.write("a.md", "The same text.")
    path = world.write("b.md", "The same text.")
    await world.sync()
    path.unlink()
    assert (await world.sync(guard=DeleteGuard(share=0, free=0))).deleted == 1


async def test_a_document_that_the_index_does_not_let_go_is_not_forgotten(world: World) -> None:
    world.write("a.md", "Alpha text.")
    path = world.write("b.md", "Beta text.")
    await world.sync()
    path.unlink()
    index = world.backends.index

    class Deaf(type(index)):  # type: ignore[misc]
        async def delete(self, document_ids: Sequence[str], *, refresh: bool = True) -> None:
            return

    original, index.__class__ = index.__class__, Deaf
    with pytest.raises(IndexUnavailable, match="still holds"):
        await world.sync()
    assert set(await world.documents()) == {"a.md", "b.md"}
    index.__class__ = original
    assert (await world.sync()).deleted == 1


async def test_full_mode_reads_everything_and_embeds_nothing_twice(world: World) -> None:
    world.write("a.md", "Alpha text.")
    path = world.write("b.md", "Beta text.")
    await world.sync()
    stat = path.stat()
    path.write_text("Zeta text.", "utf-8")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (await world.sync()).unchanged == 2, "same size, same time"
    progress = await world.sync(mode=SyncMode.FULL)
    assert (progress.changed, progress.unchanged) == (2, 0)
    assert (progress.embedded, progress.reused) == (1, 1)
    assert await world.indexed_texts() == {"Alpha text.", "Zeta text."}


class Slow(InlineParser):
    """Never done in time with a.md."""

    async def prepare(self, path: Path, document_id: str) -> PreparedDocument:
        if path.name == "a.md":
            raise ParseTimeout("It took too long.")
        return await super().prepare(path, document_id)


class Broken(InlineParser):
    """Not a document's fault: its processes can't be started."""

    async def prepare(self, path: Path, document_id: str) -> PreparedDocument:
        raise BackendError("no process can be started")


async def test_what_breaks_while_parsing_is_raised_as_what_it_is(world: World) -> None:
    world.write("a.md", "Alpha text.")
    world.parser.__class__ = Broken
    with pytest.raises(BackendError, match="no process"):
        await world.sync()


async def test_three_failures_quarantine_until_the_file_changes(world: World) -> None:
    world.write("a.md", "Alpha text.")
    world.parser.__class__ = Slow
    for attempt in (1, 2, 3):
        assert (await world.sync()).failed == {FailureCategory.TIMEOUT: 1}
        document = (await world.documents())["a.md"]
        assert document.attempts == attempt
    assert document.status is DocumentStatus.QUARANTINED
    assert document.error_message == "It took too long."
    world.parser.__class__ = InlineParser
    for mode in SyncMode:
        assert (await world.sync(mode=mode)).unchanged == 1
    world.write("a.md", "Alpha text, changed.")
    assert (await world.sync()).indexed == 1
    assert (await world.documents())["a.md"].attempts == 0


async def test_retry_reads_only_what_failed_and_deletes_nothing(world: World) -> None:
    world.write("a.md", "Alpha text.")
    gone = world.write("b.md", "Beta text.")
    world.write("broken.md", " ")
    world.parser.__class__ = Slow
    await world.sync()
    world.parser.__class__ = InlineParser
    gone.unlink()
    world.write("c.md", "New text.")
    progress = await world.sync(mode=SyncMode.RETRY)
    assert (progress.indexed, progress.deleted, progress.failed.total()) == (1, 0, 0)
    assert await world.indexed_texts() == {"Alpha text.", "Beta text."}


async def test_scope_leaves_the_rest_alone(world: World) -> None:
    world.write("a.md", "Alpha text.")
    world.write("sub/b.md", "Beta text.")
    await world.sync()
    world.write("a.md", "Alpha changed.")
    (world.root / "sub/b.md").unlink()
    world.write("sub/c.md", "Gamma text.")
    progress = await world.sync("sub")
    assert (progress.found, progress.indexed, progress.deleted) == (1, 1, 1)
    assert await world.indexed_texts() == {"Alpha text.", "Gamma text."}


async def test_broken_document_is_an_outcome_and_its_old_text_goes(world: World) -> None:
    world.write("a.md", "Alpha text.")
    world.write("good.md", "Good text.")
    await world.sync()
    (world.root / "a.md").write_bytes(b"\x00\x01\x02" * 1000)
    progress = await world.sync()
    assert progress.failed.total() == 1
    document = (await world.documents())["a.md"]
    assert document.status is DocumentStatus.FAILED
    assert document.error_message
    assert await world.indexed_texts() == {"Good text."}


async def test_failed_document_waits_until_it_changes(world: World) -> None:
    world.write("a.md", "  \n")
    assert (await world.sync()).failed == {FailureCategory.EMPTY: 1}
    assert (await world.sync()).unchanged == 1
    world.write("a.md", "Now there is text.")
    assert (await world.sync()).indexed == 1


async def test_vanished_file_is_an_outcome(world: World) -> None:
    world.write("a.md", "Alpha text.")
    world.write("b.md", "Beta text.")

    class Vanishing(InlineParser):
        async def prepare(self, path: Path, document_id: str) -> PreparedDocument:
            if path.name == "a.md":
                raise FileNotFoundError(2, "No such file or directory")
            return await super().prepare(path, document_id)

    world.parser.__class__ = Vanishing
    progress = await world.sync()
    assert progress.failed == {FailureCategory.UNREADABLE: 1}
    assert progress.indexed == 1


async def test_failure_of_the_model_ends_the_run_and_the_next_goes_on(world: World) -> None:
    for number in range(700):
        world.write(f"{number:03}.md", f"Text number {number}.")
    # The queues hold fewer, so something must have been written before.
    world.embedder.fails_after = 560
    with pytest.raises(ModelUnavailable):
        await world.sync()
    done = await world.documents()
    indexed = await world.backends.index.contents()
    assert 0 < len(done) < 700
    assert {d.id for d in done.values()} <= indexed.keys()
    world.embedder.fails_after = None
    progress = await world.sync()
    assert progress.unchanged == len(done)
    assert (await world.backends.index.count()).chunks == 700


async def test_document_is_not_marked_indexed_before_it_is_written(world: World) -> None:
    world.write("a.md", "Alpha text.")
    index = world.backends.index

    class Failing(type(index)):  # type: ignore[misc]
        async def replace(
            self, documents: Sequence[IndexedDocument], *, refresh: bool = True
        ) -> None:
            raise IndexUnavailable("the disk is full")

    index.__class__ = Failing
    with pytest.raises(IndexUnavailable):
        await world.sync()
    assert await world.documents() == {}


async def test_equal_passages_are_embedded_once(world: World) -> None:
    same = "The very same text. " * 20
    for number in range(10):
        world.write(
            f"{number}/same.md", f"# Title\n\n## A\n\n{same}\n\n## B\n\nOf {number}. {same}"
        )
    progress = await world.sync()
    assert progress.indexed == 10
    assert progress.reused >= 9
    assert progress.chunks - progress.reused == progress.embedded == world.embedder.embedded


async def test_excluded_document_stays_out(world: World) -> None:
    world.write("a.md", "Alpha text.")
    world.write("b.md", "Beta text.")
    await world.sync()
    document = (await world.documents())["a.md"]
    await world.backends.index.delete([document.id])
    await world.catalog.save_documents([replace(document, status=DocumentStatus.EXCLUDED)])
    world.write("a.md", "Alpha changed.")
    await world.sync()
    assert await world.indexed_texts() == {"Beta text."}


async def test_file_name_that_is_no_unicode(world: World) -> None:
    world.write(os.fsdecode(b"caf\xe9 latin-1.txt"), "Text of an old disk.")
    assert (await world.sync()).indexed == 1
    (document,) = (await world.documents()).values()
    document.title.encode()
    assert document.title.endswith("latin-1")
    assert await world.indexed_texts() == {"Text of an old disk."}
    assert (await world.sync()).unchanged == 1
