"""Sources: what they give, in which order, and what they leave out."""

from dataclasses import replace
from pathlib import Path

import pytest

from ingestion.sources import (
    FolderSource,
    check_patterns,
    folder_record,
    list_record,
    open_source,
    upload_record,
)
from kb.errors import ConfigError
from kb.types import SourceRecord, Symlinks


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


@pytest.mark.parametrize("scope", ["linked/secret.txt", "linked", "..", "../other/secret.txt", "/"])
def test_a_scope_leads_nowhere_that_a_walk_would_not_go(
    root: Path, tmp_path: Path, scope: str
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "secret.txt").write_text("secret")
    (root / "linked").symlink_to(other)
    assert walked(root, scope) == []


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


def paths(record: SourceRecord, scope: str = "") -> list[str]:
    return [file.relative_path for file in open_source(record).walk(scope)]


def test_patterns_are_those_of_gitignore(root: Path) -> None:
    record = folder_record("default", root)
    assert paths(replace(record, include=("*.md",))) == ["a/1.md", "a/2.md", "b.md"]
    assert paths(replace(record, include=("/a/*",), exclude=("2.*",))) == ["a/1.md"]
    assert paths(replace(record, exclude=("a/", "*.txt"))) == ["b.md"]
    assert paths(replace(record, exclude=("*.md", "!b.md"))) == ["b.md", "c/x.txt"]
    assert paths(replace(record, include=("*.txt",)), "a") == []


def test_a_pattern_that_cannot_be_read_is_said(root: Path) -> None:
    with pytest.raises(ConfigError, match="pattern"):
        check_patterns(replace(folder_record("default", root), exclude=("!",)))


def test_files_beyond_the_size_are_left_out(root: Path) -> None:
    (root / "b.md").write_bytes(b"x" * ((1 << 20) + 1))
    record = replace(folder_record("default", root), max_file_mb=1)
    assert paths(record) == ["a/1.md", "a/2.md", "c/x.txt"]


def test_links_are_followed_as_the_source_says(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "o.md").write_text("outside")
    (root / "c" / "folder").symlink_to(outside, target_is_directory=True)
    (root / "c" / "ring").symlink_to(root, target_is_directory=True)
    (root / "c" / "in.md").symlink_to(root / "b.md")
    record = folder_record("default", root)
    assert paths(replace(record, symlinks=Symlinks.NEVER), "c") == ["c/x.txt"]
    assert paths(replace(record, symlinks=Symlinks.INSIDE), "c") == ["c/in.md", "c/x.txt"]
    followed = paths(replace(record, symlinks=Symlinks.FOLLOW))
    assert {"c/folder/o.md", "c/in.md", "c/x.txt"} <= set(followed)
    assert not any("ring" in path for path in followed)


def test_a_list_names_its_files(root: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    lines = (
        "# of this year",
        "docs/b.md",
        "",
        str(root / "a" / "1.md"),
        "docs/../docs/b.md",
        "gone",
    )
    listed.write_text("\n".join(lines))
    record = list_record("default", listed)
    assert paths(record) == ["docs/a/1.md", "docs/b.md"]
    assert paths(record, "docs/b.md") == ["docs/b.md"]
    assert paths(replace(record, exclude=("a/",))) == ["docs/b.md"]
    source = open_source(record)
    for file in source.walk():
        assert source.relative_path(source.uri(file.relative_path)) == file.relative_path
        assert source.uri(file.relative_path) == file.path.as_uri()


def test_a_list_may_name_files_anywhere(root: Path, tmp_path: Path) -> None:
    listed = tmp_path / "lists" / "list.txt"
    listed.parent.mkdir()
    listed.write_text("../docs/b.md")
    (path,) = paths(list_record("default", listed))
    assert path == (root / "b.md").as_posix()


def test_a_list_that_is_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.txt"):
        paths(list_record("default", tmp_path / "gone.txt"))
