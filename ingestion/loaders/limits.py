"""How much of one file a loader may take."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoadLimits:
    """`max_bytes` is the file's size on disk, `max_characters` the text taken from it, and
    `max_expansion` how many times a compressed file may grow when it is unpacked."""

    max_bytes: int
    max_characters: int
    max_expansion: int
