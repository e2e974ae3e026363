"""What a file really is, by its name and by its content; the two must agree."""

import mmap
import re
import zipfile
from pathlib import Path

from ingestion.loaders.encoding import looks_binary
from ingestion.loaders.registry import (
    DOCX,
    EPUB,
    HTML,
    PDF,
    PPTX,
    REMEDIES,
    SUFFIXES,
    SUPPORTED,
    TEXT,
    XLSX,
    XML,
    Format,
)
from kb.errors import DocumentError, UnreadableDocument, UnsupportedFormat
from kb.types import FailureCategory

HEAD_BYTES = 64 * 1024

BINARY_FORMATS = (PDF, DOCX, PPTX, XLSX, EPUB)
_PACKAGES = (DOCX, PPTX, XLSX, EPUB)

# Signatures at the start of a file: (bytes, what it is, the suffix whose remedy applies).
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image", ".png"),
    (b"\xff\xd8\xff", "a JPEG image", ".jpg"),
    (b"GIF87a", "a GIF image", ".gif"),
    (b"GIF89a", "a GIF image", ".gif"),
    (b"II*\0", "a TIFF image", ".tif"),
    (b"MM\0*", "a TIFF image", ".tif"),
    (b"{\\rtf", "an RTF document", ".rtf"),
    (b"\x1f\x8b", "a gzip archive", ".gz"),
    (b"BZh", "a bzip2 archive", ".bz2"),
    (b"\xfd7zXZ\0", "an xz archive", ".xz"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", ".7z"),
    (b"Rar!\x1a\x07", "a RAR archive", ".rar"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", ".zst"),
    (b"ID3", "an MP3 sound file", ".mp3"),
    (b"OggS", "an Ogg media file", ".ogg"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video", ".mkv"),
    (b"AT&TFORM", "a DjVu document", ".djvu"),
    (b"SQLite format 3\0", "an SQLite database", ""),
    (b"\x7fELF", "a program", ""),
    (b"MZ\x90\0", "a Windows program", ""),
)
_TIFF_OR_RIFF = re.compile(rb"RIFF....(WEBP|WAVE|AVI )", re.DOTALL)
_RIFF_KINDS = {
    b"WEBP": ("a WebP image", ".webp"),
    b"WAVE": ("a WAV sound file", ".wav"),
    b"AVI ": ("an AVI video", ".avi"),
}
_MP4 = re.compile(rb"....ftyp(heic|heix|mif1|avif)?", re.DOTALL)

_OLE_SIGNATURE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
# Stream names in the directory of an OLE file, in the order they decide.
_OLE_STREAMS = (
    ("WordDocument", "an old Word document (.doc)", ".doc"),
    ("PowerPoint Document", "an old PowerPoint file (.ppt)", ".ppt"),
    ("Workbook", "an old Excel workbook (.xls)", ".xls"),
    ("Book", "an old Excel workbook (.xls)", ".xls"),
    ("__properties_version1.0", "an Outlook message (.msg)", ".msg"),
)

_HTML_START = re.compile(rb"\s*(<!doctype html|<html[\s>]|<head[\s>]|<body[\s>])", re.IGNORECASE)
_XML_START = re.compile(rb"\s*<\?xml[\s]")
_MHTML_START = re.compile(rb"(from|mime-version|received|return-path|message-id): ", re.IGNORECASE)


def detect(path: Path) -> Format:
    """The format to read this file as.

    Raises UnsupportedFormat with what to do instead, or UnreadableDocument: MISLABELLED where name
    and content disagree, ENCRYPTED, BROKEN for a package that cannot be opened, EMPTY. OSError
    passes through.
    """
    suffix = path.suffix.lower()
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if len(head) < HEAD_BYTES and not head.removeprefix(b"\xef\xbb\xbf").strip():
        raise UnreadableDocument("The file is empty.", FailureCategory.EMPTY)
    named = SUFFIXES.get(suffix) if suffix else None
    found = _from_content(path, head)
    if isinstance(found, Format):
        return _reconcile(suffix, named, found)
    what, remedy_suffix = found
    raise _foreign(suffix, named, what, remedy_suffix)


def _reconcile(suffix: str, named: Format | None, found: Format) -> Format:
    """The content is of a format that we read: does the name agree?"""
    if named is None:
        if not suffix:
            return found
        if suffix in REMEDIES and found is TEXT:
            raise UnsupportedFormat(f"{suffix} files are not read. {REMEDIES[suffix]}")
        if found is TEXT:
            raise UnsupportedFormat(
                f"{suffix} files are not known. If it is text, rename it to end in .txt; "
                f"formats that work: {SUPPORTED}."
            )
        raise _mislabelled(suffix, found)
    if named is not found and (named in BINARY_FORMATS or found in BINARY_FORMATS):
        raise _mislabelled(suffix, found)
    return named


def _mislabelled(suffix: str, found: Format) -> UnreadableDocument:
    article = "an" if found.name[0] in "EHe" and found is not HTML else "a"
    return UnreadableDocument(
        f"The file is named {suffix} but holds {article} {found.name} file: "
        f"rename it to end in {found.suffixes[0]}.",
        FailureCategory.MISLABELLED,
    )


def _foreign(suffix: str, named: Format | None, what: str, remedy_suffix: str) -> DocumentError:
    """The content is of a format that we do not read."""
    remedy = REMEDIES.get(remedy_suffix, f"Formats that work: {SUPPORTED}.")
    if named is not None:
        return UnreadableDocument(
            f"The file is named {suffix} but holds {what}. {remedy}", FailureCategory.MISLABELLED
        )
    if suffix in REMEDIES and REMEDIES[suffix] != remedy and not remedy_suffix:
        remedy = REMEDIES[suffix]
    return UnsupportedFormat(f"The file is {what}, which is not read. {remedy}")


def _from_content(path: Path, head: bytes) -> Format | tuple[str, str]:
    """The format, or (what it is, suffix whose remedy applies) for one we do not read."""
    if head.startswith(_OLE_SIGNATURE):
        return _ole_kind(path)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip_kind(path)
    for signature, what, suffix in _SIGNATURES:
        if head.startswith(signature):
            return what, suffix
    if riff := _TIFF_OR_RIFF.match(head):
        return _RIFF_KINDS[riff[1]]
    if mp4 := _MP4.match(head):
        return ("a HEIF image", ".heic") if mp4[1] else ("an MP4 video", ".mp4")
    if b"%PDF-" in head[:1024]:
        return PDF
    if looks_binary(head):
        return "binary data", ""
    if _HTML_START.match(head.removeprefix(b"\xef\xbb\xbf")):
        return HTML
    if _XML_START.match(head.removeprefix(b"\xef\xbb\xbf")):
        return XML
    return TEXT


def _ole_kind(path: Path) -> tuple[str, str]:
    """Old Office formats and encrypted new ones share one container; its directory tells them apart."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data.find("EncryptedPackage".encode("utf-16-le")) >= 0:
            raise UnreadableDocument(
                "The file is protected with a password. Save a copy without the password.",
                FailureCategory.ENCRYPTED,
            )
        for stream, what, suffix in _OLE_STREAMS:
            if data.find(stream.encode("utf-16-le")) >= 0:
                return what, suffix
    return "an old Office file", ".doc"


def _zip_kind(path: Path) -> Format | tuple[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = frozenset(archive.namelist())
            declared = archive.read("mimetype")[:100] if "mimetype" in names else b""
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise UnreadableDocument(
            f"The file is damaged or cut short ({error}). Copy or download it again.",
            FailureCategory.BROKEN,
        ) from error
    if declared.startswith(b"application/epub+zip") or "META-INF/container.xml" in names:
        return EPUB
    if declared.startswith(b"application/vnd.oasis.opendocument."):
        return _opendocument_kind(declared)
    if "xl/workbook.bin" in names:
        return "a binary Excel workbook (.xlsb)", ".xlsb"
    for folder, entry in (("word/", DOCX), ("ppt/", PPTX), ("xl/", XLSX)):
        if "[Content_Types].xml" in names and any(name.startswith(folder) for name in names):
            return entry
    return "a ZIP archive", ".zip"


def _opendocument_kind(declared: bytes) -> tuple[str, str]:
    if b"spreadsheet" in declared:
        return "an OpenDocument spreadsheet (.ods)", ".ods"
    if b"presentation" in declared:
        return "an OpenDocument presentation (.odp)", ".odp"
    return "an OpenDocument text (.odt)", ".odt"
