"""The two ways in which a backup keeps indexes: copied into its folder, or as a snapshot of their own store.

Either does most of the work while writers go on, and the rest while these are held. Documents that the
catalogue calls indexed and the index does not hold are told, and read again after restoring.
"""

from collections.abc import AsyncIterator, Mapping, Sequence, Set
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Protocol

from kb.errors import NotFoundError
from kb.ports import Catalog, ChunkIndex, IndexStore, Snapshots
from kb.types import Generation
from retrieval.differences import differences
from retrieval.generations import Copy, CopyProgress
from serving.backup.kept import BackupDamaged
from serving.reindexing import FEW_DOCUMENTS, MOST_ROUNDS, verify

AHEAD: Final = "-ahead"
"""The snapshot that holds most of what the next one needs, which takes no time then."""
CHECKED: Final = "check-"
"""Before the name of an index that is brought back only to be looked at."""


class Keeping(Protocol):
    """How live indexes come into a backup."""

    async def most(self) -> None:
        """What takes long, while writers go on."""
        ...

    async def rest(self) -> Mapping[str, Set[str]]:
        """While writers are held; gives the documents that are not there, by collection."""
        ...


class Copying:
    """Round by round into the embedded index of a backup."""

    def __init__(
        self,
        generations: Sequence[Generation],
        catalog: Catalog,
        source: IndexStore,
        target: IndexStore,
        progress: CopyProgress,
    ) -> None:
        self._generations = generations
        self._catalog = catalog
        self._source = source
        self._target = target
        self._progress = progress
        self._copies: list[Copy] = []

    async def most(self) -> None:
        for generation in self._generations:
            source = await self._source.open(generation.index_name, generation.schema)
            copy = await _copy(self._catalog, source, generation, self._target)
            for _ in range(MOST_ROUNDS):
                if await copy.round(self._progress, _at_once) <= FEW_DOCUMENTS:
                    break
            self._copies.append(copy)

    async def rest(self) -> Mapping[str, Set[str]]:
        for copy in self._copies:
            while await copy.round(self._progress, _at_once):
                pass
            await verify(copy, self._progress)
        return {copy.collection: self._progress.missing for copy in self._copies}


class Snapping:
    """As one snapshot of the store that has the indexes."""

    def __init__(
        self,
        generations: Sequence[Generation],
        catalog: Catalog,
        source: IndexStore,
        snapshots: Snapshots,
        name: str,
    ) -> None:
        self._generations = generations
        self._catalog = catalog
        self._source = source
        self._snapshots = snapshots
        self._name = name

    async def most(self) -> None:
        await self._snapshots.take(self._name + AHEAD, self._indexes())

    async def rest(self) -> Mapping[str, Set[str]]:
        await self._snapshots.take(self._name, self._indexes())
        lost = {}
        for generation in self._generations:
            index = await self._source.open(generation.index_name, generation.schema)
            found = await differences(self._catalog, generation.collection, index)
            lost[generation.collection] = found.to_read
        return lost

    def _indexes(self) -> list[str]:
        return [generation.index_name for generation in self._generations]


async def forget_ahead(name: str, snapshots: Snapshots) -> None:
    await snapshots.delete(name + AHEAD)


async def forget(name: str, snapshots: Snapshots) -> None:
    """Deletes what `Snapping` may have taken under this name."""
    await forget_ahead(name, snapshots)
    await snapshots.delete(name)


# --- Bringing back ------------------------------------------------------------------------------


class Kept(Protocol):
    """The indexes of a finished backup. Raises BackupDamaged where they are not as its catalogue says."""

    def opened(self, generation: Generation) -> AbstractAsyncContextManager[ChunkIndex]:
        """One of them, to be looked at."""
        ...

    async def bring(self, generation: Generation, target: IndexStore) -> None:
        """Makes it an index of the store. Stopped half-way, it is begun anew."""
        ...


class InFolder:
    """What `Copying` has made."""

    def __init__(self, catalog: Catalog, store: IndexStore, progress: CopyProgress) -> None:
        self._catalog = catalog
        self._store = store
        self._progress = progress

    @asynccontextmanager
    async def opened(self, generation: Generation) -> AsyncIterator[ChunkIndex]:
        yield await self._store.open(generation.index_name, generation.schema)

    async def bring(self, generation: Generation, target: IndexStore) -> None:
        async with self.opened(generation) as source:
            await check_agrees(self._catalog, generation, source)
            copy = await _copy(self._catalog, source, generation, target)
            await copy.round(self._progress, _at_once)
            await verify(copy, self._progress)
            await copy.new.optimise()


class InSnapshot:
    """What `Snapping` has made. It holds all that was in the index at that moment, also what nobody wants."""

    def __init__(
        self, catalog: Catalog, snapshots: Snapshots, name: str, store: IndexStore
    ) -> None:
        self._catalog = catalog
        self._snapshots = snapshots
        self._name = name
        self._store = store

    @asynccontextmanager
    async def opened(self, generation: Generation) -> AsyncIterator[ChunkIndex]:
        looked_at = CHECKED + generation.index_name
        try:
            await self._restore(generation, looked_at)
            yield await self._store.open(looked_at, generation.schema)
        finally:
            await self._store.drop(looked_at)

    async def bring(self, generation: Generation, target: IndexStore) -> None:
        await self._restore(generation, generation.index_name)
        index = await target.open(generation.index_name, generation.schema)
        await check_agrees(self._catalog, generation, index)
        found = await differences(self._catalog, generation.collection, index)
        await index.delete(sorted(found.orphaned))

    async def _restore(self, generation: Generation, name: str) -> None:
        try:
            await self._snapshots.restore(self._name, generation.index_name, name)
        except NotFoundError as error:
            raise BackupDamaged(error.message) from error


async def check_agrees(catalog: Catalog, generation: Generation, index: ChunkIndex) -> None:
    """Raises BackupDamaged unless the index holds all that the catalogue says."""
    found = await differences(catalog, generation.collection, index)
    if found.to_read:
        raise BackupDamaged(
            f"The backup's index of {generation.collection} differs from its catalogue in"
            f" {len(found.to_read)} documents."
        )


async def _copy(
    catalog: Catalog, source: ChunkIndex, generation: Generation, store: IndexStore
) -> Copy:
    new = await store.create(generation.index_name, generation.schema)
    return Copy(catalog, generation.collection, source, new, None)


async def _at_once(_: int) -> None:
    """Without a pause between batches."""
