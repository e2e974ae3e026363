"""kb: what `kb ingest` does, in an empty data folder that borrows the model; the embedded index."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from benchmarks.rivals.contest import FOUND, Job, main
from ingestion.progress import SyncProgress
from kb.settings import load_settings
from retrieval.fusion import Mode
from retrieval.search import find_candidates, hits
from serving.bootstrap import DEFAULT_COLLECTION, open_services
from serving.evaluation import throw_away
from serving.parts import open_plain_embedder
from serving.sync import ingest_path


class Ours:
    """`mode` is which side of the search ranks: the others have vectors alone."""

    mode: Mode = "hybrid"

    def __init__(self, job: Job) -> None:
        self._runner = asyncio.Runner()
        self._temporary = tempfile.TemporaryDirectory(prefix="kb-rivals-")
        folder = Path(self._temporary.name)
        settings = load_settings()
        chunking = settings.chunking.model_copy(update={"max_tokens": job.chunk_tokens})
        embedder = settings.embedder.model_copy(update={"batch_size": job.batch})
        settings = settings.model_copy(update={"chunking": chunking, "embedder": embedder})
        self._opened = open_services(throw_away(settings, folder / "data"), open_plain_embedder)
        self._services = self._runner.run(self._opened.__aenter__())

    def ingest(self, folder: Path) -> None:
        self._runner.run(self._replace(folder))

    async def _replace(self, folder: Path) -> None:
        for collection in await self._services.catalog.collections():
            await self._services.delete_collection(collection.name)
        await ingest_path(folder, DEFAULT_COLLECTION, self._services, SyncProgress())

    def chunks(self) -> Sequence[str]:
        return self._runner.run(self._all_chunks())

    async def _all_chunks(self) -> list[str]:
        index = await self._services.index(DEFAULT_COLLECTION)
        return [
            c.passage for document in await index.contents() for c in await index.chunks(document)
        ]

    def search(self, question: str) -> Sequence[str]:
        return self._runner.run(self._search(question))

    async def _search(self, question: str) -> list[str]:
        live = await self._services.live(DEFAULT_COLLECTION)
        candidates = await find_candidates(
            question, index=live.index, embedder=live.embedder, limit=FOUND
        )
        found = hits(
            question, candidates, collection=DEFAULT_COLLECTION, limit=FOUND, mode=self.mode
        )
        return [unquote(Path(hit.uri).name) for hit in found]

    def close(self) -> None:
        self._runner.run(self._opened.__aexit__(None, None, None))
        self._runner.close()
        self._temporary.cleanup()


if __name__ == "__main__":
    main(Ours)
