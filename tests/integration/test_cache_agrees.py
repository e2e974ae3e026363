"""Whatever is written, moved, deleted, re-righted or switched: with a cache as without one."""

import asyncio
import copy
import shutil
import tempfile
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from ingestion.indexing import InProcessEngine
from kb.generation import Message, Sampling
from kb.ports import ChunkIndex
from kb.settings import AnswerSettings
from kb.types import UNRESTRICTED, Access, Hit
from retrieval.search import search
from serving.answering.answer import answer_events, last_answer, quoting
from serving.answering.events import Event
from serving.caching.cache import Cache, View
from serving.caching.stores import MemoryStore
from tests.world import World, open_world

pytestmark = pytest.mark.slow

FOLDERS: Final = ("everybody", "staff", "board")
FILES: Final = ("a.md", "b.md")
TEXTS: Final = (
    "The kettle is descaled every month.",
    "The kettle is descaled every week.",
    "Expenses are paid on the tenth.",
)
QUESTIONS: Final = ("When is the kettle descaled?", "When are expenses paid?")
READERS: Final = (
    UNRESTRICTED,
    Access(groups=frozenset()),
    Access(groups=frozenset({"staff"})),
    Access(groups=frozenset({"staff", "board"})),
)
folders = st.sampled_from(FOLDERS)
files = st.sampled_from(FILES)


class CachedWorld(RuleBasedStateMachine):
    """One process writes; another one, with a cache, answers questions in between."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="kb-cache-"))
        self.runner = asyncio.Runner()
        self.world: World = self.runner.run(open_world(self.folder))
        backends = self.world.backends
        self.built: list[tuple[int, ChunkIndex]] = [(backends.generation.number, backends.index)]
        self.groups: dict[str, tuple[str, ...]] = dict.fromkeys(FOLDERS, ())
        self.cache = Cache(MemoryStore(1 << 24, 3600), "settings")
        self.answering = quoting(AnswerSettings(passages=4))

    def teardown(self) -> None:
        self.runner.run(self.world.catalog.close())
        self.runner.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- What is changed

    @rule(folder=folders, file=files, text=st.sampled_from(TEXTS))
    def write(self, folder: str, file: str, text: str) -> None:
        self.world.write(f"{folder}/{file}", text)
        self.sync(folder)

    @rule(folder=folders, file=files)
    def delete(self, folder: str, file: str) -> None:
        (self.world.root / folder / file).unlink(missing_ok=True)
        self.sync(folder)

    @rule(folder=folders, groups=st.sampled_from([(), ("staff",), ("board",)]))
    def give_rights(self, folder: str, groups: tuple[str, ...]) -> None:
        self.groups[folder] = groups
        self.sync(folder)

    @rule(file=files)
    def switch_to_a_new_generation(self, file: str) -> None:
        """Which lacks a document, so that it can be told from the old one."""
        backends = self.world.backends

        async def build() -> None:
            new = copy.deepcopy(backends.index)
            await new.delete(sorted(await new.contents())[:1])
            made = await self.world.catalog.add_generation("default", backends.generation.schema)
            self.built.append((made.number, new))

        self.runner.run(build())
        self.switch(-1)

    @rule(number=st.integers(0, 3))
    def switch_back(self, number: int) -> None:
        self.switch(number % len(self.built))

    def switch(self, place: int) -> None:
        number, index = self.built[place]
        backends = self.world.backends
        in_process = backends.engine
        assert isinstance(in_process, InProcessEngine)

        async def go_live() -> None:
            await self.world.catalog.set_live("default", number)
            live = await self.world.catalog.live_generation("default")
            assert live is not None
            engine = replace(in_process, index=index)
            self.world.backends = replace(backends, generation=live, index=index, engine=engine)

        self.runner.run(go_live())

    def sync(self, folder: str) -> None:
        (self.world.root / folder).mkdir(exist_ok=True)
        source = self.world.source(folder, self.groups[folder])
        self.runner.run(self.world.sync(source=source, guard=None))

    # --- What is asked

    @invariant()
    def everybody_finds_what_is_there(self) -> None:
        self.runner.run(self._compare())

    async def _compare(self) -> None:
        generation = await self.world.catalog.live_generation("default")
        assert generation is not None
        for access in READERS:
            for question in QUESTIONS:
                await self._compare_one(question, access, View(generation, access))

    async def _compare_one(self, question: str, access: Access, view: View) -> None:
        async def find(question: str) -> list[Hit]:
            return await self._search(question, access)

        def made() -> AsyncGenerator[Event, None]:
            return answer_events(
                asked,
                search=find,
                embedder=self.world.backends.embedder,
                answering=self.answering,
            )

        asked = [Message("user", question)]
        assert (await self.cache.search(question, 4, view, find)).hits == await find(question)
        cached = await last_answer(self.cache.answer_events(asked, Sampling(), view, made))
        assert replace(cached, cached=False) == await last_answer(made())

    async def _search(self, question: str, access: Access) -> list[Hit]:
        backends = self.world.backends
        return await search(
            question,
            collection="default",
            index=backends.index,
            embedder=backends.embedder,
            limit=4,
            candidates=10,
            access=access,
            catalog=self.world.catalog,
        )


def test_the_cache_agrees_with_what_is_there() -> None:
    run_state_machine_as_test(
        CachedWorld,
        settings=settings(
            max_examples=10,
            stateful_step_count=12,
            deadline=None,
            derandomize=True,  # The same steps each time: a failure can be gone after.
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
