"""Load functions that do what hostile or unlucky files make parsers do, by the name of the file.

In a module of their own because parsing processes import them by name.
"""

import ctypes
import os
import signal
import time
from pathlib import Path

from ingestion.loaders import LoadLimits
from kb.errors import UnreadableDocument
from kb.types import Block, FailureCategory, ParsedDocument


def load(path: Path, limits: LoadLimits) -> ParsedDocument:  # noqa: ARG001 - the loaders' signature
    deed = _DEEDS.get(path.stem)
    if deed:
        deed()
    if path.stem == "sleep":
        _sleep(path)
    return ParsedDocument(path.stem, (Block(path.read_text()),), "text/plain", ("a warning",))


def _sleep(path: Path) -> None:
    path.with_suffix(".pid").write_text(str(os.getpid()))
    time.sleep(3600)


def _spin() -> None:
    while True:
        pass


def _allocate() -> None:
    hoard = []
    while True:
        hoard.append(bytearray(16 << 20))


def _segfault() -> None:
    ctypes.string_at(0)


def _exit() -> None:
    os._exit(3)


def _abort() -> None:
    os.abort()


def _killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _encrypted() -> None:
    raise UnreadableDocument("It is encrypted.", FailureCategory.ENCRYPTED)


def _bug() -> None:
    raise KeyError("xref")


def _slow() -> None:
    time.sleep(0.5)


_DEEDS = {
    "spin": _spin,
    "allocate": _allocate,
    "segfault": _segfault,
    "exit": _exit,
    "abort": _abort,
    "killed": _killed,
    "encrypted": _encrypted,
    "bug": _bug,
    "slow": _slow,
}
