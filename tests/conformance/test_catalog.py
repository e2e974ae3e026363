"""What every catalogue must do, on SQLite and on PostgreSQL alike."""

import asyncio
import pickle
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from kb.db.catalog import STREAM_PAGE, SQLCatalog
from kb.errors import ConfigError, InvalidQueryError, NotFoundError
from kb.ports import Catalog
from kb.types import (
    Access,
    Document,
    DocumentStatus,
    FailureCategory,
    Run,
    RunStatus,
    SourceKind,
    SourceRecord,
)
from tests.conformance.catalogued import DOCUMENT, NOON, SCHEMA, SOURCE


def many(count: int, **changes: object) -> list[Document]:
    return [replace(DOCUMENT, id=f"{number:032x}", **changes) for number in range(count)]  # type: ignore[arg-type]


# --- Collections --------------------------------------------------------------------------------


async def test_a_collection_made_twice_keeps_its_first_time(catalog: Catalog) -> None:
    before = datetime.now(UTC)
    await catalog.ensure_collection("docs")
    first = await catalog.collection("docs")
    await catalog.ensure_collection("docs")
    assert await catalog.collection("docs") == first
    assert before <= first.created_at <= datetime.now(UTC)
    assert first.created_at.tzinfo is UTC
    assert (first.documents, first.chunks) == ({}, 0)


@pytest.mark.parametrize("name", ["", "Docs", "-docs", "a_b", "文档", "a" * 64, "docs\n", "a/b"])
async def test_a_bad_collection_name_is_refused(catalog: Catalog, name: str) -> None:
    with pytest.raises(InvalidQueryError, match="can't be a collection's name"):
        await catalog.ensure_collection(name)
    assert await catalog.collections() == []


async def test_an_unknown_collection_is_an_error_that_names_those_there_are(
    catalog: Catalog,
) -> None:
    with pytest.raises(NotFoundError, match="none yet"):
        await catalog.collection("docs")
    await catalog.ensure_collection("b-1")
    await catalog.ensure_collection("a")
    with pytest.raises(NotFoundError, match=r"'docs'.*There are: a, b-1"):
        await catalog.collection("docs")


async def test_collections_count_documents_by_status_and_sum_chunks(filled: Catalog) -> None:
    await filled.ensure_collection("empty")
    await filled.ensure_collection("a")
    await filled.save_documents(
        [
            replace(DOCUMENT, id="d2", chunk_count=5),
            replace(DOCUMENT, id="d3", status=DocumentStatus.FAILED, chunk_count=2),
            replace(DOCUMENT, id="d4", status=DocumentStatus.EXCLUDED, chunk_count=0),
        ]
    )
    found = await filled.collections()
    assert [collection.name for collection in found] == ["a", "docs", "empty"]
    assert found[1].documents == {
        DocumentStatus.INDEXED: 2,
        DocumentStatus.FAILED: 1,
        DocumentStatus.EXCLUDED: 1,
    }
    assert found[1].chunks == 14
    assert (found[2].documents, found[2].chunks) == ({}, 0)
    assert await filled.collection("docs") == found[1]


async def test_deleting_a_collection_deletes_what_belongs_to_it_and_nothing_else(
    filled: Catalog,
) -> None:
    await filled.ensure_collection("other")
    await filled.ensure_source(SourceRecord("s2", "other", SourceKind.FOLDER, "/srv"))
    kept = replace(DOCUMENT, id="d2", collection="other", source_id="s2")
    await filled.save_documents([kept])
    await filled.add_generation("docs", SCHEMA)
    await filled.start_run(Run("r1", "docs", "s1", "ingest", RunStatus.RUNNING, NOON))

    await filled.delete_collection("docs")
    await filled.delete_collection("docs")

    assert [collection.name for collection in await filled.collections()] == ["other"]
    assert [source.id for source in await filled.sources()] == ["s2"]
    assert await filled.documents() == [kept]
    assert await filled.generations("docs") == []
    assert await filled.runs() == []


# --- Generations --------------------------------------------------------------------------------


async def test_generations_are_numbered_and_one_at_most_is_live(catalog: Catalog) -> None:
    await catalog.ensure_collection("docs")
    assert await catalog.live_generation("docs") is None
    first = await catalog.add_generation("docs", SCHEMA)
    second = await catalog.add_generation("docs", replace(SCHEMA, dimensions=768))
    assert (first.number, first.index_name, first.live) == (1, "kb-docs.1", False)
    assert (second.number, second.index_name, second.schema.dimensions) == (2, "kb-docs.2", 768)
    assert await catalog.live_generation("docs") is None

    await catalog.set_live("docs", 1)
    assert await catalog.live_generation("docs") == replace(first, live=True)
    await catalog.set_live("docs", 2)
    await catalog.set_live("docs", 2)
    assert await catalog.generations("docs") == [first, replace(second, live=True)]


async def test_switching_to_a_generation_that_is_not_there_changes_nothing(
    catalog: Catalog,
) -> None:
    await catalog.ensure_collection("docs")
    await catalog.add_generation("docs", SCHEMA)
    await catalog.set_live("docs", 1)
    with pytest.raises(NotFoundError, match="no index generation 2"):
        await catalog.set_live("docs", 2)
    live = await catalog.live_generation("docs")
    assert live is not None
    assert live.number == 1


async def test_generations_need_their_collection(catalog: Catalog) -> None:
    with pytest.raises(NotFoundError, match="no collection 'docs'"):
        await catalog.add_generation("docs", SCHEMA)
    with pytest.raises(NotFoundError, match="no collection 'docs'"):
        await catalog.set_live("docs", 1)


async def test_generations_added_at_once_have_different_numbers(catalog: Catalog) -> None:
    await catalog.ensure_collection("docs")
    added = await asyncio.gather(*(catalog.add_generation("docs", SCHEMA) for _ in range(8)))
    assert sorted(generation.number for generation in added) == list(range(1, 9))


# --- Sources ------------------------------------------------------------------------------------


async def test_a_source_saved_again_takes_the_new_values(filled: Catalog) -> None:
    changed = replace(SOURCE, groups=(), exclude=("*.tmp",), max_file_mb=3, paused=True)
    await filled.save_source(changed)
    assert await filled.sources() == [changed]
    assert await filled.ensure_source(SOURCE) == changed, "what is set already is kept"
    assert await filled.documents() == [DOCUMENT], "overwriting a source must not touch documents"


async def test_sources_of_one_collection_or_of_all(filled: Catalog) -> None:
    await filled.ensure_collection("other")
    other = SourceRecord("s0", "other", SourceKind.FOLDER, "/srv")
    await filled.ensure_source(other)
    assert await filled.sources() == [other, SOURCE]
    assert await filled.sources("docs") == [SOURCE]
    assert await filled.sources("nothing") == []


async def test_a_source_needs_its_collection(catalog: Catalog) -> None:
    with pytest.raises(NotFoundError, match="no longer holds the collection"):
        await catalog.ensure_source(SOURCE)


async def test_a_folder_whose_name_cannot_be_kept_is_refused(filled: Catalog) -> None:
    with pytest.raises(ConfigError, match="not valid UTF-8"):
        await filled.ensure_source(replace(SOURCE, root="/srv/\udcff"))


# --- Documents ----------------------------------------------------------------------------------


async def test_a_document_comes_back_as_it_was(filled: Catalog) -> None:
    assert await filled.document("d1") == DOCUMENT
    pickle.dumps(await filled.document("d1"))


async def test_times_come_back_in_utc_whatever_zone_they_went_in_with(filled: Catalog) -> None:
    shanghai = timezone(timedelta(hours=8))
    await filled.save_documents([replace(DOCUMENT, indexed_at=NOON.astimezone(shanghai))])
    found = (await filled.document("d1")).indexed_at
    assert found == NOON
    assert found is not None
    assert found.tzinfo is UTC


async def test_a_time_without_a_zone_is_a_mistake(filled: Catalog) -> None:
    with pytest.raises(Exception, match="no time zone"):
        await filled.save_documents([replace(DOCUMENT, indexed_at=NOON.replace(tzinfo=None))])


async def test_saving_overwrites_the_whole_row_and_the_last_of_equal_ids_wins(
    filled: Catalog,
) -> None:
    failed = replace(
        DOCUMENT,
        status=DocumentStatus.FAILED,
        error_category=FailureCategory.ENCRYPTED,
        error_message="Remove the password.",
        groups=(),
        warnings=(),
        chunk_count=0,
        indexed_at=None,
    )
    await filled.save_documents([replace(failed, title="first"), failed])
    assert await filled.documents() == [failed]
    await filled.save_documents([DOCUMENT])
    assert await filled.documents() == [DOCUMENT]


async def test_text_no_database_can_hold_is_made_readable(filled: Catalog) -> None:
    await filled.save_documents(
        [replace(DOCUMENT, title="a\x00b", uri="file:///\udcff.md", warnings=("\x00\ud800",))]
    )
    found = await filled.document("d1")
    assert found.title == "a\N{REPLACEMENT CHARACTER}b"
    assert found.uri == "file:///\N{REPLACEMENT CHARACTER}.md"
    assert found.warnings == ("\x00\ud800",)


async def test_an_unknown_document_is_an_error(filled: Catalog) -> None:
    with pytest.raises(NotFoundError, match="'d9'"):
        await filled.document("d9")


async def test_documents_need_their_source_and_none_is_saved_without(filled: Catalog) -> None:
    orphan = replace(DOCUMENT, id="d3", source_id="gone")
    with pytest.raises(NotFoundError, match="deleted meanwhile"):
        await filled.save_documents([replace(DOCUMENT, id="d2"), orphan])
    assert await filled.documents() == [DOCUMENT]


async def test_documents_are_filtered_and_come_by_id(filled: Catalog) -> None:
    await filled.ensure_collection("other")
    await filled.ensure_source(SourceRecord("s2", "other", SourceKind.FOLDER, "/srv"))
    failed = replace(DOCUMENT, id="d3", status=DocumentStatus.FAILED)
    second = replace(DOCUMENT, id="d2", collection="other", source_id="s2")
    await filled.save_documents([failed, second])
    assert await filled.documents() == [DOCUMENT, second, failed]
    assert await filled.documents(collection="docs") == [DOCUMENT, failed]
    assert await filled.documents(source_id="s2") == [second]
    assert await filled.documents(status=DocumentStatus.FAILED) == [failed]
    assert await filled.documents(collection="other", status=DocumentStatus.FAILED) == []
    assert await filled.documents(collection="nothing") == []


async def test_pages_join_without_gap_or_overlap(filled: Catalog) -> None:
    saved = many(25)
    await filled.delete_documents(["d1"])
    await filled.save_documents(saved)
    pages: list[Document] = []
    after: str | None = None
    while page := await filled.documents(limit=10, after=after):
        assert len(page) <= 10
        pages += page
        after = page[-1].id
    assert pages == saved


async def test_a_stream_brings_all_documents_of_a_source_and_lets_others_write(
    filled: Catalog,
) -> None:
    saved = many(2 * STREAM_PAGE + 1)
    await filled.save_documents(saved)
    streamed: list[Document] = []
    async for document in filled.document_stream("s1"):
        if not streamed:  # a write in the midst of the reading
            await filled.save_documents([replace(saved[-1], title="changed")])
        streamed.append(document)
    assert [document.id for document in streamed] == [*(d.id for d in saved), "d1"]
    assert streamed[-2].title == "changed"
    assert [document async for document in filled.document_stream("nothing")] == []


async def test_deleting_ignores_unknown_ids_and_takes_many(filled: Catalog) -> None:
    saved = many(3_000)
    await filled.save_documents(saved)
    await filled.delete_documents([*(document.id for document in saved), "d9", "d9"])
    assert await filled.documents() == [DOCUMENT]
    await filled.delete_documents([])
    await filled.save_documents([])
    assert await filled.documents() == [DOCUMENT]


async def test_two_thousand_documents_are_saved_in_bulk(filled: Catalog) -> None:
    """Row by row it would be 2,000 commits. The limit leaves room for a busy machine."""
    saved = many(2_000)
    started = time.perf_counter()
    await filled.save_documents(saved)
    assert time.perf_counter() - started < 3.0
    assert (await filled.collection("docs")).documents == {DocumentStatus.INDEXED: 2_001}


# --- Runs ---------------------------------------------------------------------------------------


async def test_a_run_is_watched_to_its_end(filled: Catalog) -> None:
    run = Run("r1", "docs", "s1", "ingest", RunStatus.RUNNING, NOON)
    await filled.start_run(run)
    assert await filled.runs() == [run]

    assert not await filled.update_run("r1", counts={"indexed": 3, "chunks": 12})
    (running,) = await filled.runs(source_id="s1", status=RunStatus.RUNNING)
    assert running.beat_at is not None
    assert replace(running, beat_at=None) == replace(run, counts={"indexed": 3, "chunks": 12})

    assert (await filled.cancel_run("r1")).cancel_requested
    assert await filled.update_run("r1", counts={"indexed": 3})

    await filled.update_run("r1", counts={"failed": 1}, status=RunStatus.FAILED, error="disk full")
    (ended,) = await filled.runs()
    assert (ended.status, ended.error, ended.counts) == (
        RunStatus.FAILED,
        "disk full",
        {"failed": 1},
    )
    assert ended.finished_at is not None
    assert timedelta() <= datetime.now(UTC) - ended.finished_at < timedelta(minutes=1)


async def test_runs_come_newest_first(filled: Catalog) -> None:
    await filled.ensure_collection("other")
    for number in range(4):
        collection = "docs" if number % 2 else "other"
        started_at = NOON + timedelta(seconds=number)
        await filled.start_run(
            Run(f"r{number}", collection, None, "ingest", RunStatus.DONE, started_at)
        )
    assert [run.id for run in await filled.runs()] == ["r3", "r2", "r1", "r0"]
    assert [run.id for run in await filled.runs(collection="docs", limit=1)] == ["r3"]


async def test_an_unknown_run_is_an_error(filled: Catalog) -> None:
    with pytest.raises(NotFoundError, match="no run 'r9'"):
        await filled.update_run("r9", counts={})
    with pytest.raises(NotFoundError, match="no run 'r9'"):
        await filled.run("r9")
    with pytest.raises(NotFoundError, match="no run 'r9'"):
        await filled.cancel_run("r9")


async def test_cancelling_a_finished_run_changes_nothing(filled: Catalog) -> None:
    run = Run("r1", "docs", "s1", "incremental", RunStatus.DONE, NOON)
    await filled.start_run(run)
    assert await filled.cancel_run("r1") == run


def queued(run_id: str, second: int, kind: str = "upload", collection: str | None = "docs") -> Run:
    at = NOON + timedelta(seconds=second)
    return Run(run_id, collection, None, kind, RunStatus.QUEUED, at, queued_at=at)


async def test_the_queue_gives_each_run_once_in_the_order_of_arrival(filled: Catalog) -> None:
    asked = replace(queued("r3", 3), request={"scope": "茶.md"}, requested_by="k1", source_id="s1")
    for run in (queued("r2", 2), asked, queued("r1", 1), queued("b1", 0, "backup", None)):
        await filled.start_run(run)
    assert await filled.queued_runs() == {"upload": 3, "backup": 1}
    claimed = [await filled.claim_run(["upload", "sync"]) for _ in range(4)]
    assert [run and run.id for run in claimed] == ["r1", "r2", "r3", None]
    last = claimed[2]
    assert last
    assert (last.status, last.attempts) == (RunStatus.RUNNING, 1)
    assert last.started_at > last.queued_at  # type: ignore[operator]
    assert (last.request, last.requested_by) == ({"scope": "茶.md"}, "k1")
    assert await filled.queued_runs() == {"backup": 1}
    assert {run.id for run in await filled.claimed_runs()} == {"r1", "r2", "r3"}


async def test_a_run_is_claimed_by_one_of_many(filled: Catalog) -> None:
    for number in range(5):
        await filled.start_run(queued(f"r{number}", number))
    claims = await asyncio.gather(*(filled.claim_run(["upload"]) for _ in range(20)))
    claimed = [run.id for run in claims if run]
    while run := await filled.claim_run(["upload"]):
        claimed.append(run.id)
    assert sorted(claimed) == [f"r{number}" for number in range(5)]


async def test_only_a_running_run_is_put_back(filled: Catalog) -> None:
    await filled.start_run(queued("r1", 1))
    await filled.start_run(queued("r2", 2))
    first = await filled.claim_run(["upload"])
    assert first
    later = replace(first, queued_at=NOON + timedelta(seconds=3), attempts=0, error="disk full")
    await filled.requeue_run(later)
    waiting = await filled.run("r1")
    assert (waiting.status, waiting.error, waiting.finished_at) == (
        RunStatus.QUEUED,
        "disk full",
        None,
    )
    assert [(run := await filled.claim_run(["upload"])) and run.id for _ in "12"] == ["r2", "r1"]
    await filled.update_run("r1", counts={}, status=RunStatus.DONE)
    await filled.requeue_run(later)
    assert (await filled.run("r1")).status is RunStatus.DONE


async def test_a_run_that_waits_is_cancelled_at_once(filled: Catalog) -> None:
    await filled.start_run(queued("r1", 1))
    cancelled = await filled.cancel_run("r1")
    assert (cancelled.status, cancelled.finished_at is None) == (RunStatus.CANCELLED, False)
    assert await filled.claim_run(["upload"]) is None
    with pytest.raises(NotFoundError):
        await filled.start_run(queued("r2", 1, collection="gone"))


async def test_who_may_see_some_collections_sees_their_runs_alone(filled: Catalog) -> None:
    await filled.ensure_collection("other")
    for run in (
        queued("r1", 1),
        queued("r2", 2, collection="other"),
        queued("r3", 3, "backup", None),
    ):
        await filled.start_run(run)
    limited = Access(collections=frozenset({"docs"}))
    assert [run.id for run in await filled.runs(access=limited)] == ["r1"]
    assert [run.id for run in await filled.runs()] == ["r3", "r2", "r1"]
    assert [run.id for run in await filled.runs(kinds=["upload"])] == ["r2", "r1"]


# --- Leases -------------------------------------------------------------------------------------


async def test_a_slot_is_for_the_first_who_asks(catalog: Catalog) -> None:
    taken = await asyncio.gather(
        *(catalog.take_lease("sync", "night", f"w{number}", 60) for number in range(8))
    )
    assert sum(taken) == 1
    assert await catalog.take_lease("sync", "next night", "w9", 60)
    assert await catalog.take_lease("retry", "night", "w9", 60)


async def test_a_finished_slot_is_never_taken_again(catalog: Catalog) -> None:
    assert await catalog.take_lease("sync", "night", "w1", 60)
    assert await catalog.finish_lease("sync", "night", "w1", "disk full")
    assert not await catalog.take_lease("sync", "night", "w1", 0)
    assert not await catalog.take_lease("sync", "night", "w2", 0)
    assert not await catalog.beat_lease("sync", "night", "w1")
    assert await catalog.leases(abandoned_for_s=0) == []
    (lease,) = await catalog.leases()
    assert (lease.owner, lease.error) == ("w1", "disk full")
    await catalog.forget_finished(datetime.now(UTC) + timedelta(seconds=1))
    assert await catalog.leases() == []


async def test_a_silent_owner_loses_its_slot_and_is_told(catalog: Catalog) -> None:
    assert await catalog.take_lease("sync", "night", "w1", 60)
    await asyncio.sleep(0.3)
    assert await catalog.leases(abandoned_for_s=60) == []
    (lease,) = await catalog.leases(abandoned_for_s=0.2)
    assert (lease.job, lease.slot) == ("sync", "night")
    assert await catalog.beat_lease("sync", "night", "w1")
    assert not await catalog.take_lease("sync", "night", "w2", 0.2), "it has just been heard of"
    await asyncio.sleep(0.3)
    assert await catalog.take_lease("sync", "night", "w2", 0.2)
    assert not await catalog.beat_lease("sync", "night", "w1")
    assert not await catalog.finish_lease("sync", "night", "w1")
    assert await catalog.finish_lease("sync", "night", "w2")


async def test_a_slot_that_was_let_go_is_taken_at_once(catalog: Catalog) -> None:
    assert await catalog.take_lease("sync", "night", "w1", 60)
    assert await catalog.release_lease("sync", "night", "w1")
    assert [lease.owner for lease in await catalog.leases(abandoned_for_s=60)] == [None]
    assert await catalog.take_lease("sync", "night", "w2", 60)


async def test_a_source_goes_with_its_documents(filled: Catalog) -> None:
    await filled.delete_source("s1")
    await filled.delete_source("s1")
    assert await filled.documents() == []
    with pytest.raises(NotFoundError, match="no source 's1'"):
        await filled.source("s1")


# --- Life ---------------------------------------------------------------------------------------


async def test_what_was_saved_is_there_after_closing_and_opening(
    catalog_url: str, filled: Catalog
) -> None:
    await filled.close()
    await filled.close()
    opened = await SQLCatalog.open(catalog_url)
    try:
        assert await opened.document("d1") == DOCUMENT
    finally:
        await opened.close()


async def test_many_readers_and_writers_in_one_process(filled: Catalog) -> None:
    async def work(number: int) -> None:
        await filled.save_documents([replace(DOCUMENT, id=f"w{number:02}")])
        assert (await filled.document(f"w{number:02}")).id == f"w{number:02}"

    await asyncio.gather(*(work(number) for number in range(40)))
    assert len(await filled.documents()) == 41
