"""What an index store that can copy its indexes by itself offers to backups."""

from collections.abc import Sequence
from typing import Protocol


class Snapshots(Protocol):
    """A place where an index store keeps copies of its own making. Raises BackendError and its kinds.

    What is there already of an index is not copied again. Raises ConfigError where there is no such place.
    """

    async def take(self, name: str, indexes: Sequence[str]) -> None:
        """Returns when it is whole. A name is used once; ValueError without an index."""
        ...

    async def restore(self, name: str, index: str, target: str) -> None:
        """Brings an index back as `target`, which is overwritten. Raises NotFoundError."""
        ...

    async def delete(self, name: str) -> None:
        """Also one that is being taken. Unknown names are ignored."""
        ...
