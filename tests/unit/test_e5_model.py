"""The model's files: built once, checked at every start, rebuilt where they are damaged."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kb.errors import ModelUnavailable
from retrieval.embedders import e5_model
from retrieval.embedders.e5_model import ensure_model


class Builds:
    """Stands in for the slow build: writes two small files and their manifest, and counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, scratch: Path) -> None:
        self.count += 1
        (scratch / "model.onnx").write_bytes(b"graph")
        (scratch / "tokenizer.json").write_bytes(b"{}")
        e5_model.write_manifest(scratch, "0123")


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> Builds:
    fake = Builds()
    monkeypatch.setattr(e5_model, "_build_in_process", fake)
    return fake


def test_builds_once(tmp_path: Path, builds: Builds) -> None:
    first = ensure_model(tmp_path / "models")
    assert ensure_model(tmp_path / "models") == first
    assert builds.count == 1
    assert first.model.read_bytes() == b"graph"
    assert first.weights_hash == "0123"


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["truncated", "changed", "absent"])
def test_a_damaged_file_is_built_again(
    tmp_path: Path, builds: Builds, name: str, damage: str
) -> None:
    path = ensure_model(tmp_path).model.with_name(name)
    if damage == "absent":
        path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes(content[:-1] if damage == "truncated" else b"X" + content[1:])
    assert ensure_model(tmp_path).model.read_bytes() == b"graph"
    assert builds.count == 2


def test_a_manifest_of_another_shape_is_built_again(tmp_path: Path, builds: Builds) -> None:
    manifest = ensure_model(tmp_path).model.with_name("manifest.json")
    for content in (["a", "list"], {"files": "text"}, {}):
        manifest.write_text(json.dumps(content), "utf-8")
        assert ensure_model(tmp_path).weights_hash == "0123"
    assert builds.count == 4


def test_several_at_once_build_once(tmp_path: Path, builds: Builds) -> None:
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda _: ensure_model(tmp_path), range(8)))
    assert len(set(results)) == 1
    assert builds.count == 1


def test_a_failed_build_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(scratch: Path) -> None:
        (scratch / "model.onnx").write_bytes(b"half")
        raise ModelUnavailable("no weights")

    monkeypatch.setattr(e5_model, "_build_in_process", fail)
    with pytest.raises(ModelUnavailable, match="no weights"):
        ensure_model(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


@pytest.mark.usefixtures("builds")
def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", "utf-8")
    with pytest.raises(ModelUnavailable, match="can't be written"):
        ensure_model(tmp_path / "file" / "models")
