"""Ingest throughput beside the bare embedder's on the same chunks, in one run; and peak memory.

    python -m benchmarks.ingest FOLDER [--rounds N]

FOLDER holds documents, or is a question set, of which the passages are taken. Each round measures the
bare embedder and then an ingest into an empty data folder; shares are taken within a round, since the
machine may be noisy between rounds. `share` is of wall time; `of CPU` is of the processor time that both
took, parsing processes included: what others do on the machine at that moment changes it little.
"""

import argparse
import asyncio
import tempfile
from pathlib import Path

from benchmarks.costs import Cost, PeakMemory
from ingestion.progress import SyncProgress
from kb.ports import Embedder
from kb.settings import load_settings
from kb.types import Chunk
from serving.bootstrap import DEFAULT_COLLECTION, Services, open_services
from serving.evaluation import throw_away, write_passages
from serving.question_sets import load_question_set
from serving.sync import ingest_path


async def bare_embedding(embedder: Embedder, chunks: list[Chunk]) -> Cost:
    """What the embedder alone takes, at its best: all distinct passages sorted by length."""
    passages = sorted({chunk.passage for chunk in chunks}, key=len)
    with Cost() as cost:
        await embedder.passages(passages)
    return cost


async def warm_up(services: Services, folder: Path) -> None:
    """Starts the parsing processes, as loading the model starts the embedder: neither is throughput."""
    note = folder / "warm-up" / "note.txt"
    note.parent.mkdir()
    note.write_text("Nothing much.")
    await ingest_path(note.parent, "warm-up", services, SyncProgress())


async def ingest(services: Services, folder: Path) -> tuple[Cost, SyncProgress]:
    progress = SyncProgress()
    with Cost() as cost:
        await ingest_path(folder, DEFAULT_COLLECTION, services, progress)
    return cost, progress


async def indexed_chunks(services: Services) -> list[Chunk]:
    index = await services.index(DEFAULT_COLLECTION)
    return [c for document in await index.contents() for c in await index.chunks(document)]


async def measure(folder: Path, rounds: int) -> None:
    print(f"{'round':>5} {'documents':>9} {'chunks':>7} {'bare s':>8} {'ingest s':>8} {'share':>6} {'of CPU':>6} "
          f"{'again s':>8} {'embedded again':>14} {'peak MiB':>9} {'with children':>13}")  # fmt: skip
    for number in range(1, rounds + 1):
        with tempfile.TemporaryDirectory() as temporary:
            settings = throw_away(load_settings(), Path(temporary) / "data")
            async with open_services(settings) as services:
                embedder = await services.embedder()
                await warm_up(services, Path(temporary))
                with PeakMemory() as peak:
                    cost, first = await ingest(services, folder)
                bare = await bare_embedding(embedder, await indexed_chunks(services))
                again_cost, again = await ingest(services, folder)
        print(f"{number:5} {first.indexed:9} {first.chunks:7} {bare.wall_s:8.1f} {cost.wall_s:8.1f} "
              f"{bare.wall_s / cost.wall_s:6.2f} {bare.cpu_s / cost.cpu_s:6.2f} {again_cost.wall_s:8.1f} "
              f"{again.embedded:14} {peak.own:9.0f} {peak.with_children:13.0f}")  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--rounds", type=int, default=2)
    given = arguments.parse_args()
    if not (given.folder / "corpus.jsonl").is_file():
        asyncio.run(measure(given.folder, given.rounds))
        return
    with tempfile.TemporaryDirectory() as temporary:
        passages = Path(temporary) / "passages"
        write_passages(load_question_set(given.folder, given.folder), passages)
        asyncio.run(measure(passages, given.rounds))


if __name__ == "__main__":
    main()
