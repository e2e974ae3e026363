"""What a running synchronisation has done so far: written by the pipeline, read by whoever shows it."""

from collections import Counter
from dataclasses import dataclass, field

from kb.types import FailureCategory


@dataclass(slots=True)
class SyncProgress:
    """Counts of documents by outcome. Only the pipeline changes it, on its event loop.

    `found` grows while the source is walked; `walked` says that it is final. `new`, `changed` and
    `moved` tell of those indexed what they were; `deleted` are those that are gone, moved ones apart.
    `duplicates` are those indexed whose text another document brought to the index. `embedded` counts
    the chunks that went through the model, `reused` those whose vector was already in the index.
    """

    found: int = 0
    walked: bool = False
    unchanged: int = 0
    new: int = 0
    changed: int = 0
    moved: int = 0
    deleted: int = 0
    failed: Counter[FailureCategory] = field(default_factory=Counter)
    quarantined: int = 0
    warned: int = 0
    duplicates: int = 0
    embedded: int = 0
    reused: int = 0

    def restart(self) -> None:
        """The source is walked once more: what was done is found unchanged then."""
        self.found = self.unchanged = 0
        self.walked = False

    @property
    def indexed(self) -> int:
        return self.new + self.changed + self.moved

    @property
    def finished(self) -> int:
        """Documents whose outcome is known, those that were deleted apart."""
        return self.unchanged + self.indexed + self.failed.total()

    @property
    def written(self) -> int:
        """Documents whose new outcome is in the catalogue: it only grows, over restarts too."""
        return self.indexed + self.failed.total() + self.deleted

    @property
    def chunks(self) -> int:
        return self.embedded + self.reused

    def counts(self) -> dict[str, int]:
        """The figures of a run as the catalogue keeps them."""
        return {
            "found": self.found,
            "unchanged": self.unchanged,
            "indexed": self.indexed,
            "new": self.new,
            "changed": self.changed,
            "moved": self.moved,
            "deleted": self.deleted,
            "failed": self.failed.total(),
            "quarantined": self.quarantined,
            "warned": self.warned,
            "duplicates": self.duplicates,
            "embedded_chunks": self.embedded,
            "reused_chunks": self.reused,
            **{f"failed_{category}": number for category, number in sorted(self.failed.items())},
        }
