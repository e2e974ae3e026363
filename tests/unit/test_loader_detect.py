"""What a file is, by name and content."""

import zipfile
from pathlib import Path

import pytest

from ingestion.loaders import LoadLimits, load
from ingestion.loaders.detect import detect
from ingestion.loaders.registry import FORMATS, REMEDIES, SUFFIXES
from kb.errors import DocumentError, DocumentTooLarge, UnreadableDocument, UnsupportedFormat
from kb.types import FailureCategory

LIMITS = LoadLimits(max_bytes=10_000_000, max_characters=1_000_000, max_expansion=200)
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def write_package(folder: Path, name: str, *members: str) -> Path:
    with zipfile.ZipFile(folder / name, "w") as archive:
        for member in ("[Content_Types].xml", *members):
            archive.writestr(member, "<x/>")
    return folder / name


def refusal(path: Path, kind: type[DocumentError], limits: LoadLimits = LIMITS) -> DocumentError:
    with pytest.raises(kind) as caught:
        load(path, limits)
    return caught.value


def test_no_suffix_is_both_read_and_refused() -> None:
    assert not set(SUFFIXES) & set(REMEDIES)
    assert len(SUFFIXES) == sum(len(entry.suffixes) for entry in FORMATS)


@pytest.mark.parametrize(
    ("name", "data", "what", "remedy"),
    [
        ("report.pdf", b"PK\x05\x06" + bytes(18), "ZIP archive", "unpack"),
        ("report.pdf", b"<!DOCTYPE html><html>hello</html>", "HTML", ".html"),
        (
            "report.pdf",
            b"\x89PNG\r\n\x1a\n" + bytes(50),
            "PNG image",
            "No text is read from images",
        ),
        ("report.docx", OLE + bytes(504) + "WordDocument".encode("utf-16-le"), "old Word", ".docx"),
        ("report.docx", b"{\\rtf1 hello}", "RTF", ".docx"),
        ("report.docx", b"plain words, nothing else", "text", ".txt"),
        ("table.csv", b"%PDF-1.7\n%", "PDF", ".pdf"),
        ("notes.txt", bytes(range(256)) * 40, "binary data", "Formats that work"),
        ("notes.txt", b"\x7fELF" + bytes(100), "program", "Formats that work"),
    ],
)
def test_a_mislabelled_file_says_what_it_is_and_what_to_do(
    tmp_path: Path, name: str, data: bytes, what: str, remedy: str
) -> None:
    error = refusal(write(tmp_path, name, data), UnreadableDocument)
    assert error.category is FailureCategory.MISLABELLED
    assert what in error.message
    assert remedy in error.message


def test_office_files_under_each_others_names(tmp_path: Path) -> None:
    error = refusal(write_package(tmp_path, "a.docx", "ppt/presentation.xml"), UnreadableDocument)
    assert error.category is FailureCategory.MISLABELLED
    assert "rename it to end in .pptx" in error.message
    assert detect(write_package(tmp_path, "b.docm", "word/document.xml")).module == "docx"


def test_an_encrypted_office_file(tmp_path: Path) -> None:
    data = OLE + bytes(504) + "EncryptedPackage".encode("utf-16-le")
    error = refusal(write(tmp_path, "secret.xlsx", data), UnreadableDocument)
    assert error.category is FailureCategory.ENCRYPTED
    assert "password" in error.message


def test_a_package_cut_short_is_broken(tmp_path: Path) -> None:
    whole = write_package(tmp_path, "a.docx", "word/document.xml").read_bytes()
    error = refusal(write(tmp_path, "b.docx", whole[: len(whole) // 2]), UnreadableDocument)
    assert error.category is FailureCategory.BROKEN


@pytest.mark.parametrize(
    ("name", "data", "remedy"),
    [
        ("old.doc", OLE + bytes(504) + "WordDocument".encode("utf-16-le"), "Save it as .docx."),
        ("old.xls", OLE + bytes(504) + "Workbook".encode("utf-16-le"), "Save it as .xlsx."),
        (
            "mail.msg",
            OLE + "__properties_version1.0".encode("utf-16-le"),
            "Save the message as .eml.",
        ),
        ("photo.jpg", b"\xff\xd8\xff\xe0" + bytes(20), "No text is read from images yet"),
        ("drawing.svg", b"<svg></svg>", "No text is read from images yet"),
        ("data.xyz", b"\0\1\2\3" * 100, "Formats that work: PDF"),
        ("letter.xyz", b"words that are text", "rename it to end in .txt"),
    ],
)
def test_an_unsupported_file_says_what_to_do(
    tmp_path: Path, name: str, data: bytes, remedy: str
) -> None:
    error = refusal(write(tmp_path, name, data), UnsupportedFormat)
    assert error.category is FailureCategory.UNSUPPORTED
    assert remedy in error.message


@pytest.mark.parametrize("name", ["README", "LICENSE", "a.rst", "a.log", "a.YAML", "a.py"])
def test_text_by_any_of_its_names(tmp_path: Path, name: str) -> None:
    parsed = load(write(tmp_path, name, "Some words, 还有中文。".encode()), LIMITS)
    assert parsed.text == "Some words, 还有中文。"
    assert parsed.media_type == "text/plain"


def test_a_file_without_suffix_is_read_by_its_content(tmp_path: Path) -> None:
    parsed = load(write(tmp_path, "page", b"<html><h1>Title</h1><p>Body</p></html>"), LIMITS)
    assert (parsed.title, parsed.media_type) == ("Title", "text/html")


@pytest.mark.parametrize("data", [b"", b"  \n\t\n ", b"\xef\xbb\xbf\n"])
def test_an_empty_file(tmp_path: Path, data: bytes) -> None:
    assert (
        refusal(write(tmp_path, "a.md", data), UnreadableDocument).category is FailureCategory.EMPTY
    )


def test_a_page_without_text(tmp_path: Path) -> None:
    path = write(tmp_path, "a.html", b"<html><script>alert(1)</script></html>")
    assert refusal(path, UnreadableDocument).category is FailureCategory.NO_TEXT


def test_limits(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", b"x" * 2000)
    small = LoadLimits(max_bytes=1000, max_characters=10_000, max_expansion=200)
    assert "KB_INGEST__MAX_FILE_MB" in refusal(path, DocumentTooLarge, small).message
    short = LoadLimits(max_bytes=10_000, max_characters=1000, max_expansion=200)
    assert "KB_INGEST__MAX_CHARACTERS" in refusal(path, DocumentTooLarge, short).message


def test_a_missing_file_is_unreadable(tmp_path: Path) -> None:
    error = refusal(tmp_path / "absent.txt", UnreadableDocument)
    assert error.category is FailureCategory.UNREADABLE
    assert isinstance(error.__cause__, FileNotFoundError)
