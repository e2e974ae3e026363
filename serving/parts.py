"""Names the adapters that documents are indexed and searched with: all that an executor of Spark opens.

The rest of a process is wired in `serving/bootstrap.py`.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from ingestion.chunking import CHUNKER_VERSION
from ingestion.indexing import InProcessEngine
from ingestion.parsing import FILES_AT_HAND, ProcessParser
from kb.errors import ConfigError, IndexSchemaMismatch
from kb.ports import ChunkIndex, Embedder, IndexStore, Parser
from kb.settings import EmbedderSettings, Settings
from kb.snapshots import Snapshots
from kb.types import Generation, IndexSchema
from retrieval.elasticsearch_store import ElasticsearchStore
from retrieval.embedders.e5_onnx import E5OnnxEmbedder
from retrieval.embedders.language_neutral import LanguageNeutralEmbedder
from retrieval.embedders.micro_batches import MicroBatchingEmbedder
from retrieval.embedders.open_inference import OpenInferenceEmbedder
from retrieval.embedders.remembered import RememberingEmbedder
from retrieval.embedders.sentence_transformers import SentenceTransformersEmbedder
from retrieval.lance_store import LanceStore
from retrieval.mapping import MAPPING_VERSION

BUILT_IN_EMBEDDER: Final = "e5-onnx"
TORCH_QUERY_BATCH: Final = 32
"""As many questions in one call as passages by default."""


@dataclass(frozen=True, slots=True)
class Live:
    """A collection's live index generation, and the embedder it was built with: they go together."""

    generation: Generation
    index: ChunkIndex
    embedder: Embedder


class Parts:
    """Index store, embedders and parsing processes. Costly ones start when first used, and are kept."""

    def __init__(
        self,
        settings: Settings,
        store: IndexStore,
        open_embedder: Callable[[Settings], Awaitable[Embedder]],
    ) -> None:
        self.settings = settings
        self.store = store
        self._open_embedder = open_embedder
        self._embedders: dict[str, Embedder] = {}
        self._parsers: dict[str, Parser] = {}
        self._opening = asyncio.Lock()

    async def embedder(self, identity: Mapping[str, Any] | None = None) -> Embedder:
        """The settings' embedder, or the one that a generation was built with."""
        section = self.settings.embedder.model_copy(update=dict(identity or {}))
        key = repr(embedder_identity(section))
        async with self._opening:
            if key not in self._embedders:
                chosen = self.settings.model_copy(update={"embedder": section})
                self._embedders[key] = await self._open_embedder(chosen)
            return self._embedders[key]

    async def open(self, generation: Generation) -> Live:
        """Opened anew for each use (1 ms): another process may have switched the generation."""
        embedder = await self.embedder(generation.embedder)
        # How its chunks were cut matters to no search: an older cut is read and written like ours.
        schema = replace(schema_of(embedder), chunker_version=generation.schema.chunker_version)
        if generation.schema != schema:
            raise IndexSchemaMismatch(schema_mismatch(generation, schema))
        return Live(generation, await self.store.open(generation.index_name, schema), embedder)

    async def snapshots(self) -> Snapshots | None:
        """Where backups keep indexes, where not in their own folder. Raises ConfigError."""
        repository = self.settings.backup.repository
        if not repository:
            return None
        if not isinstance(self.store, ElasticsearchStore):
            raise ConfigError(
                "backup.repository is one of Elasticsearch's, but the index is the embedded one. Take"
                " KB_BACKUP__REPOSITORY away, or set KB_INDEX__URL."
            )
        return await self.store.snapshots(repository)

    def engine(self, live: Live, *, refresh: bool = True) -> InProcessEngine:
        """What indexes documents into it in this process."""
        parsers = parse_processes(self.settings) * FILES_AT_HAND + 1
        parser = self._parser_for(live.embedder)
        return InProcessEngine(live.index, live.embedder, parser, parsers, refresh)

    async def close(self) -> None:
        for parser in self._parsers.values():
            await parser.close()
        await self.store.close()
        for embedder in self._embedders.values():
            await embedder.close()

    def _parser_for(self, embedder: Embedder) -> Parser:
        if embedder.fingerprint not in self._parsers:
            budget = min(self.settings.chunking.max_tokens, embedder.max_tokens)
            ingest = self.settings.ingest.model_copy(
                update={"parse_processes": parse_processes(self.settings)}
            )
            parser = ProcessParser(ingest, budget, embedder.tokenizer_file)
            self._parsers[embedder.fingerprint] = parser
        return self._parsers[embedder.fingerprint]


def schema_of(embedder: Embedder) -> IndexSchema:
    """What an index that this program builds with this embedder is built with."""
    return IndexSchema(embedder.fingerprint, embedder.dimensions, MAPPING_VERSION, CHUNKER_VERSION)


def embedder_identity(section: EmbedderSettings) -> dict[str, Any]:
    """The settings that decide which vectors an embedder makes; the others only how fast."""
    return section.model_dump(include={"kind", "model", "query_prefix", "passage_prefix"})


def embedder_named(name: str) -> EmbedderSettings | None:
    """The built-in one, or a folder or name of a sentence-transformers model; none: the settings' own."""
    if not name:
        return None
    if name == BUILT_IN_EMBEDDER:
        return EmbedderSettings(kind="e5-onnx")
    return EmbedderSettings(kind="sentence-transformers", model=name)


def schema_mismatch(generation: Generation, schema: IndexSchema) -> str:
    return (
        f"The index of collection {generation.collection} was built with {generation.schema}, "
        f"this program builds {schema}. Build it anew: "
        f"`kb reindex --collection {generation.collection}`."
    )


def parse_processes(settings: Settings) -> int:
    return settings.ingest.parse_processes or max(1, (os.cpu_count() or 1) // 2)


def index_kind(settings: Settings) -> Literal["embedded", "elasticsearch"]:
    section = settings.index
    if section.kind == "auto":
        return "elasticsearch" if section.url.get_secret_value() else "embedded"
    return section.kind


def open_store(settings: Settings) -> IndexStore:
    """The index store that the settings name. Nothing is connected to yet."""
    if index_kind(settings) == "elasticsearch":
        return ElasticsearchStore(settings.index)
    return LanceStore(settings.data_dir / "index")


async def open_embedder(settings: Settings) -> Embedder:
    """The embedder that the settings name, its vectors made comparable across languages.

    The first call on a machine builds the model (10 s).
    """
    return RememberingEmbedder(await open_plain_embedder(settings))


async def open_plain_embedder(settings: Settings) -> Embedder:
    """Which embeds a question again each time: measurements that ask twice would measure a dictionary."""
    models = settings.data_dir / "models"
    model = await _open_model(settings, models)
    together = MicroBatchingEmbedder.over(model, _query_batch(settings.embedder))
    return await LanguageNeutralEmbedder.over(together, models)


def _query_batch(section: EmbedderSettings) -> int:
    """The built-in model gains a tenth by batches of eight, and all wait for the last (decision 16)."""
    return section.query_batch or (1 if section.kind == "e5-onnx" else TORCH_QUERY_BATCH)


async def _open_model(settings: Settings, models: Path) -> Embedder:
    section = settings.embedder
    threads = section.threads or os.cpu_count() or 1
    if section.kind == "e5-onnx":
        folder = models / "multilingual-e5-small"
        return await E5OnnxEmbedder.open(folder, threads, section.batch_size)
    if section.kind == "open-inference":
        return await _open_remote(section)
    if not section.model:
        raise ConfigError(
            "embedder.kind is sentence-transformers, but embedder.model names no model. "
            "Set KB_EMBEDDER__MODEL to a folder or a name."
        )
    return await SentenceTransformersEmbedder.open(
        section.model,
        models,
        device=section.device,
        query_prefix=section.query_prefix,
        passage_prefix=section.passage_prefix,
        batch_size=section.batch_size,
    )


async def _open_remote(section: EmbedderSettings) -> Embedder:
    url = section.url.get_secret_value()
    if not url or not section.model or section.tokenizer is None:
        raise ConfigError(
            "embedder.kind is open-inference: set embedder.url, embedder.model (its name there) and "
            "embedder.tokenizer (its tokenizer.json here; `kb model export` writes one)."
        )
    return await OpenInferenceEmbedder.open(
        url,
        section.model,
        section.tokenizer,
        query_prefix=section.query_prefix,
        passage_prefix=section.passage_prefix,
        batch_size=section.batch_size,
        timeout_s=section.timeout_s,
    )
