"""What Word, PowerPoint and Excel files share: a package that is safe to open, and its wrappings."""

import re
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from zlib import error as ZlibError

from ingestion.loaders.archive import open_archive
from ingestion.loaders.limits import LoadLimits
from kb.errors import DocumentError, DocumentTooLarge, UnreadableDocument
from kb.types import FailureCategory

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
DRAWING = "http://schemas.openxmlformats.org/drawingml/2006/main"
CHART = "http://schemas.openxmlformats.org/drawingml/2006/chart"
DIAGRAM = "http://schemas.openxmlformats.org/drawingml/2006/diagram"
MATH = "http://schemas.openxmlformats.org/officeDocument/2006/math"
RELATIONSHIPS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
COMPATIBILITY = "http://schemas.openxmlformats.org/markup-compatibility/2006"

MAX_TREE_BYTES = 128 << 20
"""Largest XML part that is read into a tree; a tree takes about ten times the part's size."""

_OLE_MAGIC = bytes.fromhex("d0cf11e0a1b11ae1")
_ENCRYPTED_STREAM = "EncryptedPackage".encode("utf-16-le")
_SPOOLED_BYTES = 16 << 20

# ISO 29500 Strict names every namespace differently; the libraries know the Transitional names only.
_STRICT_MARK = b"http://purl.oclc.org/ooxml/"
_STRICT_NAMES = (
    (b"http://purl.oclc.org/ooxml/officeDocument/math", MATH.encode()),
    (
        b"http://purl.oclc.org/ooxml/officeDocument/",
        b"http://schemas.openxmlformats.org/officeDocument/2006/",
    ),
)
_STRICT_FAMILY = re.compile(rb"http://purl\.oclc\.org/ooxml/(\w+)/")
_TRANSITIONAL_FAMILY = rb"http://schemas.openxmlformats.org/\1/2006/"


@contextmanager
def open_package(path: Path, limits: LoadLimits, kind: str) -> Iterator[IO[bytes]]:
    """The Office package at `path`, safe and in the Transitional dialect, for a library to read.

    Whatever a library raises on a damaged file within the `with` block becomes a DocumentError.
    `kind` names the format to the user. Raises UnreadableDocument (ENCRYPTED, MISLABELLED, BROKEN)
    and DocumentTooLarge.
    """
    with _translated(kind):
        _refuse_ole(path, kind)
        with open_archive(path, limits) as archive:
            _refuse_giant_trees(archive)
            if _is_strict(archive):
                with tempfile.SpooledTemporaryFile(max_size=_SPOOLED_BYTES) as copy:
                    _write_transitional(archive, copy)
                    copy.seek(0)
                    yield copy
                return
        with path.open("rb") as file:
            yield file


@contextmanager
def _translated(kind: str) -> Iterator[None]:
    try:
        yield
    except (DocumentError, MemoryError, OSError):
        raise
    except (Exception, ZlibError) as error:
        # The libraries trip over damaged files in every way Python knows (KeyError,
        # AttributeError, lxml and zip errors...), so here any failure means a damaged file.
        raise UnreadableDocument(
            f"The file is damaged or not a {kind} file ({type(error).__name__}: {error}). "
            f"Open it in an office program and save it again.",
            FailureCategory.BROKEN,
        ) from error


def _refuse_ole(path: Path, kind: str) -> None:
    """Encrypted packages and files of Office 97-2003 are OLE containers, not archives."""
    with path.open("rb") as file:
        if file.read(len(_OLE_MAGIC)) != _OLE_MAGIC:
            return
        encrypted = _ENCRYPTED_STREAM in file.read()
    if encrypted:
        raise UnreadableDocument(
            "The file is protected with a password. Save a copy without the password.",
            FailureCategory.ENCRYPTED,
        )
    raise UnreadableDocument(
        f"This is a file of an old Office version under a new name. Save it as {kind} ({path.suffix}).",
        FailureCategory.MISLABELLED,
    )


def _refuse_giant_trees(archive: zipfile.ZipFile) -> None:
    for entry in archive.infolist():
        streamed = entry.filename.startswith("xl/worksheets/")
        if _is_xml(entry.filename) and not streamed and entry.file_size > MAX_TREE_BYTES:
            raise DocumentTooLarge(
                f"Its part {entry.filename} takes {entry.file_size >> 20} MiB unpacked; "
                f"at most {MAX_TREE_BYTES >> 20} MiB are read. Split the document."
            )


def _is_xml(name: str) -> bool:
    return name.endswith((".xml", ".rels"))


def _is_strict(archive: zipfile.ZipFile) -> bool:
    return _STRICT_MARK in archive.read("_rels/.rels")


def _write_transitional(archive: zipfile.ZipFile, copy: IO[bytes]) -> None:
    with zipfile.ZipFile(copy, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in archive.infolist():
            content = archive.read(entry)
            target.writestr(entry, _transitional(content) if _is_xml(entry.filename) else content)


def _transitional(xml: bytes) -> bytes:
    for strict, transitional in _STRICT_NAMES:
        xml = xml.replace(strict, transitional)
    return _STRICT_FAMILY.sub(_TRANSITIONAL_FAMILY, xml)


# --- Trees ------------------------------------------------------------------------------------


def parse_xml(content: bytes) -> Any:
    """The root element. No entities, no network; lxml refuses more than 256 levels by itself."""
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True)
    return etree.fromstring(content, parser)


def children(element: Any) -> Iterator[Any]:
    """The child elements, with one branch of each set of alternatives in place of the set.

    Programs write what older ones can't read twice, as Choice and Fallback; both is twice the text.
    """
    for child in element:
        if not isinstance(child.tag, str):  # a processing instruction
            continue
        if child.tag == f"{{{COMPATIBILITY}}}AlternateContent":
            branch = next(iter(child), None)
            if branch is not None:
                yield from children(branch)
        else:
            yield child


def diagram_lines(data: Any) -> list[str]:
    """The texts of a SmartArt diagram's data part, one line a paragraph."""
    paragraphs = data.iter(f"{{{DRAWING}}}p")
    lines = ("".join(text.text or "" for text in p.iter(f"{{{DRAWING}}}t")) for p in paragraphs)
    return [line for line in lines if line.strip()]


def chart_title(chart: Any) -> str:
    title = chart.find(f".//{{{CHART}}}chart/{{{CHART}}}title")
    if title is None:
        return ""
    return "".join(text.text or "" for text in title.iter(f"{{{DRAWING}}}t", f"{{{CHART}}}v"))


def chart_rows(chart: Any) -> list[list[str]]:
    """A chart's numbers as a table: one row a category, one column a series; none without data."""
    columns: list[str] = []
    cells: dict[str, dict[int, str]] = {}
    for number, series in enumerate(chart.iter(f"{{{CHART}}}ser")):
        names = list(_points(series, "tx").values())
        columns.append(names[0] if names else f"Series {number + 1}")
        labels = _points(series, "cat") or _points(series, "xVal")
        for index, value in (_points(series, "val") or _points(series, "yVal")).items():
            cells.setdefault(labels.get(index, str(index + 1)), {})[number] = plain_number(value)
    if not cells:
        return []
    body = [[label, *(row.get(n, "") for n in range(len(columns)))] for label, row in cells.items()]
    return [["", *columns], *body]


def plain_number(text: str) -> str:
    """Files keep numbers as binary fractions (4.4000000000000004); people wrote 4.4."""
    try:
        return f"{float(text):.15g}"
    except ValueError:
        return text


def _points(series: Any, name: str) -> dict[int, str]:
    """The cached points (index to text) of a series' name, categories or values."""
    holder = series.find(f"{{{CHART}}}{name}")
    if holder is None:
        return {}
    points = {
        int(point.get("idx", 0)): point.findtext(f"{{{CHART}}}v") or ""
        for point in holder.iter(f"{{{CHART}}}pt")
    }
    if not points and (literal := holder.findtext(f"{{{CHART}}}v")):
        return {0: literal}
    return points
