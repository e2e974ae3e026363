"""Wires the product together: with `serving/parts.py`, the only file that names concrete adapters."""

import asyncio
import importlib.util
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from filelock import AsyncFileLock

from ingestion.backends import Backends
from ingestion.parsing import start_fork_server
from ingestion.planning import EngineKind
from kb.db.catalog import SQLCatalog
from kb.db.migrate import migrate
from kb.errors import ConfigError, ModelUnavailable, NotFoundError
from kb.ids import check_collection_name
from kb.ports import Catalog, ChunkIndex, Embedder, Generator, IndexStore
from kb.settings import GenerationSettings, Settings
from kb.types import Generation
from retrieval.lance_store import LanceStore
from serving.answering.answer import Answering, quoting_steps
from serving.answering.breaker import Breaker
from serving.answering.generated import GeneratedRung
from serving.answering.ladder import Guarded, Ladder
from serving.answering.prompting import load_prompts
from serving.answering.rewriting import Rewriter
from serving.generators.openai_compatible import OpenAICompatibleGenerator
from serving.generators.transformers_generator import TransformersGenerator
from serving.parts import Live, Parts, embedder_identity, open_embedder, open_store, schema_of

if TYPE_CHECKING:
    from ingestion.spark import SparkCluster

DEFAULT_COLLECTION = "default"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Embedded:
    """A catalogue and an index that are files."""

    url: str
    catalog: Catalog
    store: IndexStore


class Services(Parts):
    """The parts of a running process. Costly ones (model, parsing processes) start when first used."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        store: IndexStore,
        open_embedder: Callable[[Settings], Awaitable[Embedder]],
    ) -> None:
        super().__init__(settings, store, open_embedder)
        self.catalog = catalog
        self._answering: Answering | None = None
        self._spark: SparkCluster | None = None

    async def load_embedders(self) -> None:
        """Opens the settings' embedder and those of all live indexes. Raises ModelUnavailable."""
        await self.embedder()
        for collection in await self.catalog.collections():
            if generation := await self.catalog.live_generation(collection.name):
                await self.embedder(generation.embedder)

    async def live(self, collection: str) -> Live:
        """The live index of a collection with the embedder that fits it.

        Raises NotFoundError, or IndexSchemaMismatch when this program would build it differently.
        """
        generation = await self.catalog.live_generation(collection)
        if generation is None:
            await self.catalog.collection(
                collection
            )  # A better message where there is no such name.
            raise NotFoundError(
                f"The collection {collection} has no index yet. Ingest into it first."
            )
        return await self.open(generation)

    async def index(self, collection: str) -> ChunkIndex:
        """As `live`."""
        return (await self.live(collection)).index

    async def ensure_collection(self, name: str) -> Live:
        """Creates the collection and its first index generation where they are missing."""
        check_collection_name(name)
        async with self.lock(f"collection-{name}"):
            await self.catalog.ensure_collection(name)
            generation = await self.catalog.live_generation(name)
            if generation is None:
                generation = await self._first_generation(name)
            return await self.open(generation)

    async def delete_collection(self, name: str) -> None:
        """Removes the collection's indexes, all the catalogue knows of it, and its uploaded files."""
        async with self.lock(f"collection-{name}"):
            for generation in await self.catalog.generations(name):
                await self.store.drop(generation.index_name)
            await self.catalog.delete_collection(name)
            folder = self.upload_folder(name)
            for uploads in (folder, *folder.parent.glob(f"{name}.*")):
                await asyncio.to_thread(shutil.rmtree, uploads, ignore_errors=True)

    async def backends(
        self, collection: str, engine: EngineKind = EngineKind.IN_PROCESS
    ) -> Backends:
        """What a synchronisation of one collection works with.

        Raises InvalidQueryError for its name, ConfigError where the engine is not to be had.
        """
        check_collection_name(collection)  # Before the model is loaded.
        if engine is EngineKind.IN_PROCESS:
            start_fork_server()
        live = await self.ensure_collection(collection)
        return Backends(
            catalog=self.catalog,
            generation=live.generation,
            index=live.index,
            embedder=live.embedder,
            engine=(
                self.spark().engine(live.generation, live.index)
                if engine is EngineKind.SPARK
                else self.engine(live)
            ),
        )

    def spark(self) -> "SparkCluster":
        """The cluster by the settings; it starts with the first document. Raises ConfigError."""
        from serving.spark import open_spark  # Importing Arrow takes a while.

        if self._spark is None:
            self._spark = open_spark(self.settings)
        return self._spark

    def answering(self) -> Answering:
        """What questions are answered with. Nothing is connected to or loaded yet. Raises ConfigError."""
        if self._answering is None:
            self._answering = open_answering(self.settings)
        return self._answering

    async def warm_fallback(self) -> None:
        """Loads the fallback where the settings want it warm; that it can't be is logged, no more."""
        if not self.settings.generation.fallback.warm:
            return
        for guarded in self.answering().ladder.rungs():
            if guarded.rung.name == "fallback":
                try:
                    await guarded.rung.ready()
                except ModelUnavailable as error:
                    log.warning("fallback_not_warm", code=error.code, reason=error.message)

    def lock(self, name: str) -> AsyncFileLock:
        """A lock between the processes of this data folder; a killed holder lets go of it."""
        folder = self.settings.data_dir / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return AsyncFileLock(folder / f"{name}.lock")

    def upload_folder(self, collection: str, area: str = "") -> Path:
        """Further areas lie beside the collection's own; no collection's name has a dot."""
        name = f"{collection}.{area}" if area else collection
        return self.settings.data_dir / "uploads" / name

    async def close(self) -> None:
        if self._answering:
            await self._answering.ladder.close()
        if self._spark:
            await self._spark.close()
        await super().close()
        await self.catalog.close()

    async def _first_generation(self, collection: str) -> Generation:
        schema = schema_of(await self.embedder())
        unused = [g for g in await self.catalog.generations(collection) if g.schema == schema]
        generation = (
            unused[-1]
            if unused
            else await self.catalog.add_generation(
                collection, schema, embedder_identity(self.settings.embedder)
            )
        )
        await self.store.create(generation.index_name, schema)
        await self.store.alias(alias_of(collection), generation.index_name)
        await self.catalog.set_live(collection, generation.number)
        return generation


def alias_of(collection: str) -> str:
    """What people and other tools call a collection's live index. No index has such a name."""
    return f"kb-{collection}"


def catalog_url(settings: Settings) -> str:
    url = settings.catalog.url.get_secret_value()
    return url or sqlite_url(settings.data_dir / "catalog.db")


def sqlite_url(file: Path) -> str:
    return f"sqlite:///{file.resolve()}"


def open_answering(settings: Settings) -> Answering:
    """The ladder that the settings describe: generator, fallback, then what needs no model."""
    section = settings.generation
    prompts = load_prompts(section.prompts)

    def guarded(name: str, generator: Generator, honours: frozenset[str]) -> Guarded:
        rung = GeneratedRung(name, generator, prompts, section, honours)
        return Guarded(rung, Breaker(section.failures, section.pause_s))

    everything = GeneratedRung.honours
    servers = [
        OpenAICompatibleGenerator(
            url,
            model=section.model,
            api_key=section.api_key.get_secret_value(),
            context_tokens=section.context_tokens,
            tokenizer=section.tokenizer,
            connect_s=section.connect_s,
            begins_thinking=section.begins_thinking,
        )
        for url in section.url.get_secret_value().replace(",", " ").split()
    ]
    first = [guarded("generator", server, everything) for server in servers]
    steps = [first] if first else []
    if fallback := open_fallback(section):
        steps.append([guarded("fallback", *fallback)])
    rewriter = None
    if section.rewrite and first:
        pairs = [(server, g.breaker) for server, g in zip(servers, first, strict=True)]
        rewriter = Rewriter(pairs, prompts, section.first_token_s)
    ladder = Ladder([*steps, *quoting_steps()])
    return Answering(settings.answers, ladder, rewriter, section.total_s)


def open_fallback(section: GenerationSettings) -> tuple[Generator, frozenset[str]] | None:
    """The fallback that the settings name, with the demands it can meet."""
    fallback = section.fallback
    if url := fallback.url.get_secret_value():
        key = fallback.api_key.get_secret_value()
        server = OpenAICompatibleGenerator(
            url, model=fallback.model, api_key=key, connect_s=section.connect_s
        )
        return server, GeneratedRung.honours
    if not fallback.model:
        return None
    if importlib.util.find_spec("transformers") is None:
        raise ConfigError("generation.fallback.model needs: pip install 'kb-server[torch]'")
    local = TransformersGenerator(
        fallback.model, device=fallback.device, idle_s=fallback.idle_s, keep=fallback.warm
    )
    return local, frozenset({"stop"})


@asynccontextmanager
async def open_services(
    settings: Settings, embedder: Callable[[Settings], Awaitable[Embedder]] = open_embedder
) -> AsyncIterator[Services]:
    """Opens catalogue and index store, migrating the catalogue first; closes all at the end.

    `embedder` is called when a model is first needed.
    """
    create_data_folder(settings.data_dir)
    url = catalog_url(settings)
    await migrate(url)
    catalog = await SQLCatalog.open(url)
    services = Services(settings, catalog, open_store(settings), embedder)
    try:
        yield services
    finally:
        await services.close()


@asynccontextmanager
async def open_embedded(catalog: Path, index: Path) -> AsyncIterator[Embedded]:
    """A catalogue in a file, made or migrated first, and an embedded index, whatever the settings say."""
    url = sqlite_url(catalog)
    await migrate(url)
    opened = Embedded(url, await SQLCatalog.open(url), LanceStore(index))
    try:
        yield opened
    finally:
        await opened.store.close()
        await opened.catalog.close()


def create_data_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"The data folder {folder} can't be made: {error.strerror}. Set KB_DATA_DIR to another."
        ) from error
