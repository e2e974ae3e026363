"""The folder source: what it gives, in which order, and what it leaves out."""

from pathlib import Path

import pytest

from ingestion.sources import FolderSource, folder_record, upload_record
from kb.errors import ConfigError


def walked(root: Path, scope: str = "", others: frozenset[Path] = frozenset()) -> list[str]:
    source = FolderSource(folder_record("default", root), others)
    return [file.relative_path for file in source.walk(scope)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    for name in ("b.md", "a/2.md", "a/1.md", ".git/config", "~$lock.docx", "Thumbs.db", "c/x.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def test_files_in_a_stable_order_without_hidden_ones(root: Path) -> None:
    assert walked(root) == ["a/1.md", "a/2.md", "b.md", "c/x.txt"]


def test_scope_is_a_folder_a_file_or_gone(root: Path) -> None:
    assert walked(root, "a") == ["a/1.md", "a/2.md"]
    assert walked(root, "b.md") == ["b.md"]
    assert walked(root, "gone") == []


def test_folders_of_other_sources_are_theirs(root: Path) -> None:
    assert walked(root, others=frozenset({root / "a"})) == ["b.md", "c/x.txt"]


def test_links_out_of_the_folder_and_rings_are_not_followed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (root / "c" / "out.txt").symlink_to(tmp_path / "secret.txt")
    (root / "c" / "ring").symlink_to(root, target_is_directory=True)
    (root / "c" / "in.txt").symlink_to(root / "b.md")
    (root / "c" / "broken.txt").symlink_to(root / "nowhere")
    assert walked(root, "c") == ["c/in.txt", "c/x.txt"]


def test_missing_root_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mounted"):
        walked(tmp_path / "gone")


@pytest.mark.parametrize("name", ["手册/年假.md", "a b#c?d%20.md", "plain.md"])
def test_uri_and_relative_path_are_inverse(tmp_path: Path, name: str) -> None:
    for record in (folder_record("default", tmp_path), upload_record("default", tmp_path)):
        source = FolderSource(record)
        assert source.relative_path(source.uri(name)) == name


def test_ids_follow_collection_and_place(tmp_path: Path) -> None:
    ids = {
        folder_record("default", tmp_path).id,
        folder_record("other", tmp_path).id,
        folder_record("default", tmp_path / "a").id,
        upload_record("default", tmp_path).id,
    }
    assert len(ids) == 4
    assert upload_record("default", tmp_path).id == upload_record("default", tmp_path / "moved").id
