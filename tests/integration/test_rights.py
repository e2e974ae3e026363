"""Rights over every route: random documents, groups, collections and keys, and no leak anywhere.

Results, citations, counts, error texts, and whether a thing is there at all. Where a clock would be too
noisy, the calls of catalogue and index are counted: what is hidden costs what is not there costs.
"""

import asyncio
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from starlette.routing import BaseRoute

from kb.db.migrate import migrate
from kb.types import Scope
from tests.integration.rights_rules import RULES
from tests.integration.rights_world import (
    Planned,
    PlannedKey,
    planned_keys,
    plans,
    rights_world,
)

EXAMPLES = 20
"""Worlds; three random keys look at each."""
folders = count()

tried = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
A_WORLD = [
    Planned("default", (), 0),
    Planned("default", ("heron",), 1),
    Planned("default", ("heron",), 1),
    Planned("default", ("heron", "lynx"), 1),
    Planned("default", ("otter",), 0),
    Planned("amberfield", (), 0),
    Planned("amberfield", ("otter",), 2),
]
SOME_KEYS = [
    PlannedKey((Scope.QUERY,), (), ()),
    PlannedKey((Scope.INGEST, Scope.QUERY), (), ("heron",)),
    PlannedKey((Scope.INGEST, Scope.QUERY), ("default",), ("otter",)),
    PlannedKey((Scope.QUERY,), ("cobaltmine",), ("heron",)),
    PlannedKey((Scope.ADMIN,), (), ()),
    PlannedKey((Scope.ADMIN,), ("amberfield",), ()),
]


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty catalogue, in one file."""
    file = tmp_path_factory.mktemp("migrated") / "catalog.db"
    asyncio.run(migrate(f"sqlite:///{file}"))
    return file


@pytest.mark.parametrize("key", SOME_KEYS, ids=lambda key: "-".join(key.scopes))
async def test_nothing_leaks_in_a_small_world(
    key: PlannedKey, migrated: Path, tmp_path: Path
) -> None:
    async with rights_world(A_WORLD, tmp_path / "world", migrated) as world:
        reader = await world.reader(key)
        for rule in RULES.values():
            await rule(reader)


@pytest.mark.slow
@tried
@given(planned=plans, keys=st.lists(planned_keys, min_size=3, max_size=3))
async def test_nothing_leaks_in_any_world(
    planned: list[Planned], keys: list[PlannedKey], migrated: Path, tmp_path: Path
) -> None:
    async with rights_world(planned, tmp_path / f"world{next(folders)}", migrated) as world:
        for key in keys:
            reader = await world.reader(key)
            for rule in RULES.values():
                await rule(reader)


async def test_every_route_has_a_rule(migrated: Path, tmp_path: Path) -> None:
    async with rights_world(A_WORLD[:1], tmp_path / "world", migrated) as world:
        assert set(routes(world.app.routes)) == RULES.keys()


def routes(found: Iterable[BaseRoute]) -> Iterator[tuple[str, str]]:
    for route in found:
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from routes(included.routes)
            continue
        for method in getattr(route, "methods", None) or {"GET"}:
            if method != "HEAD":
                yield method, route.path  # type: ignore[attr-defined]
