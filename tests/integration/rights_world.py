"""A made-up world of documents, groups and keys, and eyes to look at it with.

Every name and text is a word that occurs nowhere else, so that a leak can be seen in any answer.
"""

import shutil
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from hypothesis import strategies as st

from ingestion.backends import Backends
from ingestion.chunking import Chunker, token_counter
from ingestion.indexing import InProcessEngine
from ingestion.parsing import InlineParser
from ingestion.pipeline import sync_source
from ingestion.planning import SyncRequest
from ingestion.progress import SyncProgress
from ingestion.sources import FolderSource, folder_record
from kb.db.catalog import SQLCatalog
from kb.ids import document_id
from kb.settings import IngestSettings, LimitsSettings, Settings
from kb.types import Access, Run, RunStatus, Scope
from retrieval.embedders.hashing import HashingEmbedder
from retrieval.memory_index import MemoryStore
from serving.app.application import create_app
from serving.bootstrap import DEFAULT_COLLECTION, Services
from serving.keys import create_key

COLLECTIONS = ("default", "amberfield", "cobaltmine")
GROUPS = ("heron", "otter", "lynx")
TEXTS = 4
NO_COLLECTION = "nosuchplace"
NO_ID = "0" * 32


@dataclass(frozen=True)
class Planned:
    """A document to be; those with the same `text` are duplicates where collection and groups agree."""

    collection: str
    groups: tuple[str, ...]
    text: int


@dataclass(frozen=True)
class PlannedKey:
    scopes: tuple[Scope, ...]
    collections: tuple[str, ...]
    groups: tuple[str, ...]

    @property
    def access(self) -> Access:
        """Worked out here anew, from what docs/security.md says."""
        groups = None if Scope.ADMIN in self.scopes else frozenset(self.groups)
        return Access(groups, frozenset(self.collections) or None)

    def may(self, scope: Scope) -> bool:
        if scope is Scope.METRICS and self.collections:
            return False
        return scope in self.scopes or Scope.ADMIN in self.scopes

    @property
    def runs_the_server(self) -> bool:
        return Scope.ADMIN in self.scopes and not self.collections


_groups = st.sets(st.sampled_from(GROUPS), max_size=2).map(lambda s: tuple(sorted(s)))
plans = st.lists(
    st.builds(Planned, st.sampled_from(COLLECTIONS), _groups, st.integers(0, TEXTS - 1)),
    min_size=2,
    max_size=8,
)
planned_keys = st.builds(
    PlannedKey,
    st.sets(st.sampled_from(list(Scope)), min_size=1, max_size=2).map(lambda s: tuple(sorted(s))),
    st.sets(st.sampled_from(COLLECTIONS), max_size=2).map(lambda s: tuple(sorted(s))),
    _groups,
)


@dataclass(frozen=True)
class Placed:
    """A document that is there; `word` is in its text, `name` in its URI and title."""

    id: str
    plan: Planned
    name: str
    word: str


class Counted:
    """A part that notes which of its methods are called."""

    def __init__(self, part: Any, calls: Counter[str]) -> None:
        self._part = part
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        self._calls[name] += 1
        return getattr(self._part, name)


class CountedStore(MemoryStore):
    def __init__(self, calls: Counter[str]) -> None:
        super().__init__()
        self._calls = calls

    async def open(self, name: str, schema: Any) -> Any:
        return Counted(await super().open(name, schema), self._calls)


@dataclass
class RightsWorld:
    app: FastAPI
    services: Services
    http: httpx.AsyncClient
    calls: Counter[str]
    placed: list[Placed]
    run_id: str = ""

    def collections(self) -> set[str]:
        return {placed.plan.collection for placed in self.placed}

    async def reader(self, key: PlannedKey) -> "Reader":
        _, text = await create_key(
            self.services.catalog.keys,
            "someone",
            scopes=key.scopes,
            collections=key.collections,
            groups=key.groups,
        )
        return Reader(self, key, {"Authorization": f"Bearer {text}"})


@dataclass
class Reader:
    """One key in the world: asks, and sees to it that no answer tells what the key may not know."""

    world: RightsWorld
    key: PlannedKey
    headers: dict[str, str]

    def sees(self, placed: Placed) -> bool:
        access, plan = self.key.access, placed.plan
        has_group = access.groups is None or not plan.groups or access.groups & set(plan.groups)
        return bool(access.may_read(plan.collection) and has_group)

    def readable(self) -> list[Placed]:
        return [placed for placed in self.world.placed if self.sees(placed)]

    def hidden(self) -> list[Placed]:
        return [placed for placed in self.world.placed if not self.sees(placed)]

    def hidden_collections(self) -> set[str]:
        return {name for name in self.world.collections() if not self.key.access.may_read(name)}

    def secrets(self) -> set[str]:
        known = {word for p in self.readable() for word in (p.id, p.name, p.word)}
        unknown = {word for p in self.hidden() for word in (p.id, p.name, p.word)}
        # The name `default` is no secret: it is in the API's description.
        return (unknown | self.hidden_collections()) - known - {DEFAULT_COLLECTION}

    async def ask(self, method: str, path: str, *, asked: str = "", **given: Any) -> httpx.Response:
        """`asked` is what the question names itself, and an answer may therefore repeat."""
        response = await self.world.http.request(method, path, headers=self.headers, **given)
        assert response.status_code < 500, response.text
        told = f"{response.text} {response.headers}"
        leaked = {secret for secret in self.secrets() - {asked} if secret in told}
        assert not leaked, f"{method} {path} tells {leaked}"
        return response

    async def same(self, method: str, path: str, hidden: str, missing: str, **given: Any) -> None:
        """What is hidden and what is not there: the same answer, for the same work. `{}` is the name."""
        answers = []
        for name in (hidden, missing):
            self.world.calls.clear()
            response = await self.ask(method, path.format(name), asked=name, **_named(given, name))
            told = response.text.replace(name, "NAME")
            answers.append((response.status_code, told, Counter(self.world.calls)))
        assert answers[0] == answers[1], f"{method} {path} tells whether it is there"


async def refused(reader: Reader, method: str, path: str, **given: Any) -> None:
    """The key has not the scope, and is told that alone."""
    response = await reader.ask(method, path, **given)
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "access_denied"


def _named(given: Any, name: str) -> Any:
    if isinstance(given, Mapping):
        return {key: _named(value, name) for key, value in given.items()}
    return given.replace("{}", name) if isinstance(given, str) else given


@asynccontextmanager
async def rights_world(
    plans: list[Planned], folder: Path, migrated: Path
) -> AsyncIterator[RightsWorld]:
    """Indexed as any folder is. `migrated` is an empty catalogue, copied since migrating takes long."""
    _copied(migrated, folder)
    calls: Counter[str] = Counter()
    settings = Settings(data_dir=folder, limits=LimitsSettings(requests_per_minute=1_000_000))
    catalog = await SQLCatalog.open(f"sqlite:///{folder / 'catalog.db'}")
    embedder = HashingEmbedder(folder / "models")

    async def hashing(_: Settings) -> HashingEmbedder:
        return embedder

    services = Services(settings, catalog, CountedStore(calls), hashing)
    try:
        placed = await _placed(plans, folder, services, embedder)
        run = await _finished_run(services, placed[0].plan.collection)
        services.catalog = Counted(catalog, calls)
        app = create_app(services)
        # Its lifespan is not entered: the queue is not started, and nothing is indexed meanwhile.
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            yield RightsWorld(app, services, http, calls, placed, run)
    finally:
        await services.close()


def _copied(migrated: Path, folder: Path) -> None:
    folder.mkdir()
    shutil.copy(migrated, folder / "catalog.db")


async def _placed(
    plans: list[Planned], folder: Path, services: Services, embedder: HashingEmbedder
) -> list[Placed]:
    parser = InlineParser(IngestSettings(), Chunker(token_counter(embedder.tokenizer_file), 128))
    places = {_place(plan) for plan in plans}
    placed: list[Placed] = []
    for number, (collection, groups) in enumerate(sorted(places)):
        record = folder_record(collection, folder / f"place{number}", groups)
        here = {
            f"quill{i}quill": p for i, p in enumerate(plans) if _place(p) == (collection, groups)
        }
        words = {name: f"vesper{plan.text}" for name, plan in here.items()}
        _write(Path(record.root), words)
        placed += [
            Placed(document_id(record.id, f"{name}.txt"), plan, name, words[name])
            for name, plan in here.items()
        ]
        live = await services.ensure_collection(collection)
        await services.catalog.save_source(record)
        engine = InProcessEngine(live.index, embedder, parser, parsers=1)
        backends = Backends(services.catalog, live.generation, live.index, embedder, engine)
        await sync_source(FolderSource(record), backends, SyncProgress(), SyncRequest())
    return placed


def _place(plan: Planned) -> tuple[str, tuple[str, ...]]:
    return plan.collection, plan.groups


def _write(root: Path, words: Mapping[str, str]) -> None:
    root.mkdir()
    for name, word in words.items():
        (root / f"{name}.txt").write_text(f"The code of the vault is {word}.", "utf-8")


async def _finished_run(services: Services, collection: str) -> str:
    now = datetime.now(UTC)
    run = Run(
        id="f" * 32,
        collection=collection,
        source_id=None,
        kind="incremental",
        status=RunStatus.DONE,
        started_at=now,
        finished_at=now,
    )
    await services.catalog.start_run(run)
    return run.id
