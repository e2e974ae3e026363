"""The two ways in which a backup keeps indexes: copied into its folder, or as a snapshot of their own store.

Either does most of the work while writers go on, and the rest while these are held. Documents that the
catalogue calls indexed and the index does not hold are told, and read again after restoring.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Final, Protocol

from kb.errors import NotFoundError
from kb.ports import Catalog, ChunkIndex, IndexStore
from kb.snapshots import Snapshots
from kb.types import Generation
from retrieval.differences import differences
from retrieval.generations import Copy, CopyProgress
from serving.backup.kept import BackupDamaged
from serving.reindexing import FEW_DOCUMENTS, MOST_ROUNDS, verify

AHEAD: Final = "-ahead"
"""The snapshot that holds most of what the next one needs, which then takes little time."""
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


@dataclass(frozen=True, slots=True)
class Copying:
    """Round by round into the embedded index of a backup."""

    generations: Sequence[Generation]
    catalog: Catalog
    source: IndexStore
    target: IndexStore
    progress: CopyProgress
    _copies: list[Copy] = field(default_factory=list, init=False)

    async def most(self) -> None:
        for generation in self.generations:
            source = await self.source.open(generation.index_name, generation.schema)
            copy = await _copy(self.catalog, source, generation, self.target)
            for _ in range(MOST_ROUNDS):
                if await copy.round(self.progress, _at_once) <= FEW_DOCUMENTS:
                    break
            self._copies.append(copy)

    async def rest(self) -> Mapping[str, Set[str]]:
        for copy in self._copies:
            while await copy.round(self.progress, _at_once):
                pass
            await verify(copy, self.progress)
        return {copy.collection: self.progress.missing for copy in self._copies}


@dataclass(frozen=True, slots=True)
class Snapping:
    """As one snapshot of the store that has the indexes."""

    generations: Sequence[Generation]
    catalog: Catalog
    source: IndexStore
    snapshots: Snapshots
    name: str

    async def most(self) -> None:
        await self.snapshots.take(self.name + AHEAD, self._indexes())

    async def rest(self) -> Mapping[str, Set[str]]:
        await self.snapshots.take(self.name, self._indexes())
        lost = {}
        for generation in self.generations:
            index = await self.source.open(generation.index_name, generation.schema)
            found = await differences(self.catalog, generation.collection, index)
            lost[generation.collection] = found.to_read
        return lost

    def _indexes(self) -> list[str]:
        return [generation.index_name for generation in self.generations]


async def forget_ahead(name: str, snapshots: Snapshots) -> None:
    await snapshots.delete(name + AHEAD)


async def forget(name: str, snapshots: Snapshots) -> None:
    """Deletes what `Snapping` may have taken under this name."""
    await forget_ahead(name, snapshots)
    await snapshots.delete(name)


# --- Bringing back ------------------------------------------------------------------------------


class Kept(Protocol):
    """The indexes of a finished backup. Raises BackupDamaged where they are not as its catalogue says."""

    async def check(self, generation: Generation) -> None:
        """Reads one of them, and leaves everything as it is."""
        ...

    async def bring(self, generation: Generation, target: IndexStore) -> None:
        """Makes a checked one an index of the store. Stopped half-way, it is begun anew."""
        ...


@dataclass(frozen=True, slots=True)
class InFolder:
    """What `Copying` has made."""

    catalog: Catalog
    store: IndexStore
    progress: CopyProgress

    async def check(self, generation: Generation) -> None:
        index = await self.store.open(generation.index_name, generation.schema)
        found = await differences(self.catalog, generation.collection, index)
        _check_none(found.documents, generation)

    async def bring(self, generation: Generation, target: IndexStore) -> None:
        source = await self.store.open(generation.index_name, generation.schema)
        copy = await _copy(self.catalog, source, generation, target)
        await copy.round(self.progress, _at_once)
        await verify(copy, self.progress)
        await copy.new.optimise()


@dataclass(frozen=True, slots=True)
class InSnapshot:
    """What `Snapping` has made. It holds all that was in the index at that moment, also what nobody wants."""

    catalog: Catalog
    snapshots: Snapshots
    name: str
    store: IndexStore

    async def check(self, generation: Generation) -> None:
        looked_at = CHECKED + generation.index_name
        try:
            index = await self._restored(generation, looked_at, self.store)
            found = await differences(self.catalog, generation.collection, index)
        finally:
            await self.store.drop(looked_at)
        _check_none(found.to_read, generation)

    async def bring(self, generation: Generation, target: IndexStore) -> None:
        index = await self._restored(generation, generation.index_name, target)
        found = await differences(self.catalog, generation.collection, index)
        _check_none(found.to_read, generation)
        await index.delete(sorted(found.orphaned))

    async def _restored(self, generation: Generation, name: str, store: IndexStore) -> ChunkIndex:
        try:
            await self.snapshots.restore(self.name, generation.index_name, name)
        except NotFoundError as error:
            raise BackupDamaged(error.message) from error
        return await store.open(name, generation.schema)


def _check_none(different: Set[str], generation: Generation) -> None:
    if different:
        raise BackupDamaged(
            f"The backup's index of {generation.collection} differs from its catalogue in"
            f" {len(different)} documents."
        )


async def _copy(
    catalog: Catalog, source: ChunkIndex, generation: Generation, store: IndexStore
) -> Copy:
    new = await store.create(generation.index_name, generation.schema)
    return Copy(catalog, generation.collection, source, new, None)


async def _at_once(_: int) -> None:
    """Without a pause between batches."""
