"""What Word, PowerPoint and Excel files share: a package that libraries can open, and its parts."""

import posixpath
import re
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ingestion.loaders.archive import open_archive
from ingestion.loaders.limits import LoadLimits
from kb.errors import DocumentTooLarge

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
DRAWING = "http://schemas.openxmlformats.org/drawingml/2006/main"
CHART = "http://schemas.openxmlformats.org/drawingml/2006/chart"
DIAGRAM = "http://schemas.openxmlformats.org/drawingml/2006/diagram"
MATH = "http://schemas.openxmlformats.org/officeDocument/2006/math"
RELATIONSHIPS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
COMPATIBILITY = "http://schemas.openxmlformats.org/markup-compatibility/2006"

MAX_TREE_BYTES = 128 << 20
"""Largest XML part that is read into a tree; a tree takes about ten times the part's size."""

_SPOOLED_BYTES = 16 << 20

# ISO 29500 Strict names every namespace differently; the libraries know the Transitional names only.
_STRICT_MARK = b"http://purl.oclc.org/ooxml/"
_STRICT_OFFICE = b"http://purl.oclc.org/ooxml/officeDocument/"
_TRANSITIONAL_OFFICE = b"http://schemas.openxmlformats.org/officeDocument/2006/"
_STRICT_FAMILY = re.compile(rb"http://purl\.oclc\.org/ooxml/(\w+)/")
_TRANSITIONAL_FAMILY = rb"http://schemas.openxmlformats.org/\1/2006/"


# --- Packages ---------------------------------------------------------------------------------


@contextmanager
def open_package(path: Path, limits: LoadLimits) -> Iterator[IO[bytes]]:
    """The Office package at `path`, checked, and mended where the libraries need it.

    A package in the Strict dialect, or with relations to parts that are missing, is written anew
    into a temporary file; the libraries give up on both. Raises UnreadableDocument (BROKEN,
    ENCRYPTED) and DocumentTooLarge; what a library raises on damaged parts passes through.
    """
    with open_archive(path, limits) as archive:
        _refuse_giant_trees(archive)
        dangling = _dangling(archive)
        if dangling or _is_strict(archive):
            with tempfile.SpooledTemporaryFile(max_size=_SPOOLED_BYTES) as copy:
                _write_mended(archive, dangling, copy)
                copy.seek(0)
                yield copy
            return
        with path.open("rb") as file:
            yield file


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


def _dangling(archive: zipfile.ZipFile) -> dict[str, set[str]]:
    """Ids of relations to parts that are not there, by the name of the relations part."""
    names = set(archive.namelist())
    missing = {
        name: {
            relation.id
            for relation in _read_relations(archive, name)
            if relation.target not in names
        }
        for name in names
        if name.endswith(".rels")
    }
    return {name: ids for name, ids in missing.items() if ids}


def _write_mended(archive: zipfile.ZipFile, dangling: dict[str, set[str]], copy: IO[bytes]) -> None:
    with zipfile.ZipFile(copy, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in archive.infolist():
            content = archive.read(entry)
            if entry.filename in dangling:
                content = _without_relations(content, dangling[entry.filename])
            target.writestr(entry, _transitional(content) if _is_xml(entry.filename) else content)


def _without_relations(content: bytes, ids: set[str]) -> bytes:
    from lxml import etree

    root = parse_xml(content)
    for element in list(root):
        if element.get("Id") in ids:
            root.remove(element)
    return bytes(etree.tostring(root, xml_declaration=True, encoding="UTF-8", standalone=True))


def _transitional(xml: bytes) -> bytes:
    xml = xml.replace(_STRICT_OFFICE, _TRANSITIONAL_OFFICE)
    return _STRICT_FAMILY.sub(_TRANSITIONAL_FAMILY, xml)


# --- Relations between parts ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Relation:
    """`kind` is the last word of its type, such as "comments"; `target` a part's name."""

    id: str
    kind: str
    target: str


def relations(archive: zipfile.ZipFile, part: str) -> list[Relation]:
    """The relations of a part ("xl/workbook.xml") to other parts of the package."""
    folder, name = posixpath.split(part)
    relations_part = posixpath.join(folder, "_rels", f"{name}.rels")
    if relations_part not in archive.namelist():
        return []
    return _read_relations(archive, relations_part)


def _read_relations(archive: zipfile.ZipFile, relations_part: str) -> list[Relation]:
    source_folder = posixpath.dirname(posixpath.dirname(relations_part))
    return [
        Relation(
            element.get("Id", ""),
            element.get("Type", "").rpartition("/")[2],
            posixpath.normpath(posixpath.join("/", source_folder, element.get("Target", "")))[1:],
        )
        for element in children(parse_xml(archive.read(relations_part)))
        if element.get("TargetMode") != "External"
    ]


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
