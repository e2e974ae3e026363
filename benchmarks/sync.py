"""Synchronising a folder: all of it, then unchanged, then a little changed; seconds and embedding calls.

    python -m benchmarks.sync SET... [--documents N]

Each SET is a question set, of which the passages are taken: one a document, and again with a number behind
the title and the text when they run out. Then one document in a hundred gets another last sentence, one in
two hundred is deleted and one in two hundred is moved to another folder. At the end `kb doctor` must find
nothing, and what was deleted must not be found by either side of the search.
"""

import argparse
import asyncio
import itertools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ingestion.planning import SyncMode
from ingestion.progress import SyncProgress
from ingestion.sources import folder_record
from kb.settings import Settings, load_settings
from kb.types import IndexQuery, SourceRecord, Vectors
from retrieval.embedders.language_neutral import LanguageNeutralEmbedder
from retrieval.terms import terms
from serving.bootstrap import DEFAULT_COLLECTION, Services, open_embedder, open_services
from serving.evaluation import throw_away
from serving.health import examine
from serving.question_sets import load_question_set
from serving.sync import request_of, run_sync

FOLDERS = 50
CHANGED_OF, DELETED_OF, MOVED_OF = 100, 200, 200
LOOKED_AT = 200
"""Candidates of each side of a search for what was deleted."""


class Calls:
    """Of the model, for passages."""

    number = 0

    async def counted(self, settings: Settings) -> Any:
        embedder = await open_embedder(settings)
        calls = self

        class Counted(LanguageNeutralEmbedder):
            async def passages(self, texts: Sequence[str]) -> Vectors:
                calls.number += 1
                return await super().passages(texts)

        embedder.__class__ = Counted
        return embedder


def write_documents(sets: Sequence[Path], root: Path, number: int) -> list[Path]:
    passages = [p for folder in sets for p in load_question_set(folder, folder).passages]
    written = []
    for n, passage in zip(range(number), itertools.cycle(passages)):
        again = f" ({n // len(passages) + 1})" if n >= len(passages) else ""
        path = root / f"{n % FOLDERS:02}" / f"{n:05}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"# {passage.title or 'Untitled'}{again}\n\n{passage.text}{again}\n", "utf-8"
        )
        written.append(path)
    return written


def change_a_little(paths: Sequence[Path], root: Path) -> list[str]:
    """Changes, moves and deletes; gives the deleted texts."""
    for path in paths[1::CHANGED_OF]:
        path.write_text(path.read_text("utf-8") + "\nThis was added later.\n", "utf-8")
    (root / "moved").mkdir()
    for path in paths[2::MOVED_OF]:
        path.rename(root / "moved" / path.name)
    deleted = [path.read_text("utf-8") for path in paths[3::DELETED_OF]]
    for path in paths[3::DELETED_OF]:
        path.unlink()
    return deleted


async def still_found(texts: Sequence[str], services: Services) -> int:
    """Deleted documents that a search for their own words, or for their own meaning, still brings.

    The same passage under another title is another document: a hit counts when title and text agree.
    """
    live = await services.live(DEFAULT_COLLECTION)
    found = 0
    for text in texts:
        title, _, body = text.removeprefix("# ").partition("\n\n")
        (vector,) = await live.embedder.queries([body])
        query = IndexQuery(vector, tuple(terms(body)), LOOKED_AT)
        candidates = await live.index.search(query)
        found += any(
            candidate.chunk.title == title and candidate.chunk.text in body
            for candidate in candidates
        )
    return found


async def measure(sets: Sequence[Path], number: int) -> None:
    calls = Calls()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "documents"
        paths = write_documents(sets, root, number)
        settings = throw_away(load_settings(), Path(temporary) / "data")
        async with open_services(settings, calls.counted) as services:
            await warm_up(services, Path(temporary))
            record = folder_record(DEFAULT_COLLECTION, root)
            first_s = await step("full", record, services, calls)
            await step("unchanged", record, services, calls, first_s)
            deleted = change_a_little(paths, root)
            await step("a little changed", record, services, calls, first_s)
            await step("unchanged", record, services, calls, first_s)
            print(
                f"deleted documents still found: {await still_found(deleted, services)} of {len(deleted)}"
            )
            problems = [found.problem async for found in examine(services) if found.problem]
            print(f"kb doctor: {problems or 'nothing wrong'}")
            await step("--mode full", record, services, calls, first_s, SyncMode.FULL)


async def warm_up(services: Services, folder: Path) -> None:
    """Loads the model and starts the parsing processes: neither is synchronising."""
    (folder / "warm-up").mkdir()
    (folder / "warm-up" / "note.txt").write_text("Nothing much.")
    record = folder_record("warm-up", folder / "warm-up")
    await run_sync(record, services, SyncProgress(), request_of(services))


async def step(
    name: str,
    record: SourceRecord,
    services: Services,
    calls: Calls,
    first_s: float = 0.0,
    mode: SyncMode = SyncMode.INCREMENTAL,
) -> float:
    progress, before = SyncProgress(), calls.number
    started = time.perf_counter()
    await run_sync(record, services, progress, request_of(services, mode))
    seconds = time.perf_counter() - started
    if not first_s:
        print(f"{'':17} {'seconds':>8} {'of full':>8} {'calls':>6} {'chunks':>7} {'embedded':>8} {'new':>6} "
              f"{'changed':>7} {'moved':>6} {'deleted':>7} {'unchanged':>9}")  # fmt: skip
    print(f"{name:17} {seconds:8.2f} {seconds / (first_s or seconds):8.2%} {calls.number - before:6} "
          f"{progress.chunks:7} {progress.embedded:8} {progress.new:6} {progress.changed:7} {progress.moved:6} "
          f"{progress.deleted:7} {progress.unchanged:9}", flush=True)  # fmt: skip
    return seconds


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("sets", type=Path, nargs="+")
    arguments.add_argument("--documents", type=int, default=2_000)
    given = arguments.parse_args()
    asyncio.run(measure(given.sets, given.documents))


if __name__ == "__main__":
    main()
