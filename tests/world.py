"""A small world to synchronise in: folders, a real catalogue, an index in memory, a countable embedder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ingestion.backends import Backends
from ingestion.chunking import Chunker, token_counter
from ingestion.indexing import InProcessEngine
from ingestion.parsing import InlineParser
from ingestion.pipeline import sync_source
from ingestion.planning import DeleteGuard, SyncMode, SyncRequest
from ingestion.progress import SyncProgress
from ingestion.sources import FolderSource, folder_record
from kb.db.catalog import SQLCatalog
from kb.db.migrate import migrate
from kb.errors import ModelUnavailable
from kb.settings import IngestSettings
from kb.types import Document, IndexSchema, Vectors
from retrieval.embedders.hashing import HashingEmbedder
from retrieval.memory_index import MemoryStore

DEFAULT_GUARD = DeleteGuard()


class CountingEmbedder(HashingEmbedder):
    """Counts passages, and can fail after so many."""

    embedded = 0
    fails_after: int | None = None

    async def passages(self, texts: Sequence[str]) -> Vectors:
        if self.fails_after is not None and self.embedded >= self.fails_after:
            raise ModelUnavailable("the model is gone")
        self.embedded += len(texts)
        return await super().passages(texts)


@dataclass
class World:
    root: Path
    backends: Backends
    embedder: CountingEmbedder
    parser: InlineParser
    catalog: SQLCatalog

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    def source(self, folder: str = "", groups: tuple[str, ...] = ()) -> FolderSource:
        return FolderSource(folder_record("default", self.root / folder, groups))

    async def sync(
        self,
        scope: str = "",
        mode: SyncMode = SyncMode.INCREMENTAL,
        guard: DeleteGuard | None = DEFAULT_GUARD,
        source: FolderSource | None = None,
    ) -> SyncProgress:
        """The root itself, unless another source is named."""
        progress = SyncProgress()
        source = source or self.source()
        await self.catalog.save_source(source.record)
        await sync_source(source, self.backends, progress, SyncRequest(mode, scope, guard))
        return progress

    async def documents(self) -> dict[str, Document]:
        return {Path(d.uri).name: d for d in await self.catalog.documents(collection="default")}

    async def indexed_texts(self) -> set[str]:
        chunks = [
            chunk
            for document_id in await self.backends.index.contents()
            for chunk in await self.backends.index.chunks(document_id)
        ]
        return {chunk.text for chunk in chunks}


async def open_world(folder: Path) -> World:
    """Close its catalogue in the end."""
    root = folder / "docs"
    root.mkdir()
    url = f"sqlite:///{folder / 'catalog.db'}"
    await migrate(url)
    catalog = await SQLCatalog.open(url)
    await catalog.ensure_collection("default")
    embedder = CountingEmbedder(folder)
    schema = IndexSchema(embedder.fingerprint, embedder.dimensions, 1, 1)
    generation = await catalog.add_generation("default", schema)
    await catalog.set_live("default", generation.number)
    index = await MemoryStore().create(generation.index_name, schema)
    chunker = Chunker(token_counter(embedder.tokenizer_file), max_tokens=128)
    parser = InlineParser(IngestSettings(), chunker)
    engine = InProcessEngine(index, embedder, parser, parsers=2)
    backends = Backends(catalog, generation, index, embedder, engine)
    return World(root, backends, embedder, parser, catalog)
