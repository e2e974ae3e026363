"""What openpyxl leaves out when it streams a workbook: merged cells, comments, drawn texts."""

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from ingestion.loaders.blocks import one_line
from ingestion.loaders.ooxml import (
    DRAWING,
    RELATIONSHIPS,
    Relation,
    chart_title,
    parse_xml,
    relations,
)

_MERGED = re.compile(rb'<(?:\w+:)?mergeCell\s[^>]*?ref="([A-Z]{1,3}\d{1,7}:[A-Z]{1,3}\d{1,7})"')
_SCANNED_BYTES = 1 << 20
_OVERLAP_BYTES = 200
"""Longer than any mergeCell element, which may lie across two scanned pieces."""
# Excel writes threaded comments twice: as such, and as an old comment below this notice.
_THREADED_NOTICE = "[Threaded comment]"


@dataclass(frozen=True, slots=True)
class SheetPart:
    """`number` counts the workbook's tabs from 1; `name` is the part's name in the package."""

    number: int
    title: str
    name: str
    hidden: bool


def sheet_parts(archive: zipfile.ZipFile) -> list[SheetPart]:
    """All tabs in their order, chart sheets too."""
    workbook_part = _target(relations(archive, ""), "officeDocument") or "xl/workbook.xml"
    targets = {relation.id: relation.target for relation in relations(archive, workbook_part)}
    sheets = parse_xml(archive.read(workbook_part)).iter("{*}sheet")
    return [
        SheetPart(
            number,
            sheet.get("name", ""),
            targets.get(sheet.get(f"{{{RELATIONSHIPS}}}id", ""), ""),
            sheet.get("state", "visible") != "visible",
        )
        for number, sheet in enumerate(sheets, start=1)
    ]


def _target(found: list[Relation], kind: str) -> str | None:
    return next((relation.target for relation in found if relation.kind == kind), None)


def merged_ranges(archive: zipfile.ZipFile, part: str) -> list[str]:
    """References such as "A1:C1". They stand behind all cells, so the part is scanned, not parsed."""
    with archive.open(part) as file:
        return [reference.decode() for reference in dict.fromkeys(_scan(file))]


def _scan(file: IO[bytes]) -> Iterator[bytes]:
    kept = b""
    while piece := file.read(_SCANNED_BYTES):
        window = kept + piece
        yield from _MERGED.findall(window)
        kept = window[-_OVERLAP_BYTES:]


def comments(archive: zipfile.ZipFile, part: str) -> Iterator[str]:
    """Lines such as "Comment on B3 (Jane): which year?"."""
    persons = _persons(archive)
    for relation in relations(archive, part):
        if relation.kind == "comments":
            yield from _old_comments(parse_xml(archive.read(relation.target)))
        elif relation.kind == "threadedComment":
            yield from _threaded_comments(parse_xml(archive.read(relation.target)), persons)


def _old_comments(root: Any) -> Iterator[str]:
    authors = [element.text or "" for element in root.iter("{*}author")]
    for comment in root.iter("{*}comment"):
        text = "".join(element.text or "" for element in comment.iter("{*}t"))
        number = comment.get("authorId", "")
        author = authors[int(number)] if number.isdecimal() and int(number) < len(authors) else ""
        if not text.startswith(_THREADED_NOTICE):
            yield _comment(comment.get("ref", ""), author, text)


def _threaded_comments(root: Any, persons: dict[str, str]) -> Iterator[str]:
    for comment in root.iter("{*}threadedComment"):
        author = persons.get(comment.get("personId", ""), "")
        yield _comment(comment.get("ref", ""), author, comment.findtext("{*}text") or "")


def _comment(cell: str, author: str, text: str) -> str:
    return f"Comment on {cell}" + (f" ({author})" if author else "") + f": {one_line(text)}"


def _persons(archive: zipfile.ZipFile) -> dict[str, str]:
    return {
        person.get("id", ""): person.get("displayName", "")
        for name in archive.namelist()
        if name.startswith("xl/persons/") and name.endswith(".xml")
        for person in parse_xml(archive.read(name)).iter("{*}person")
    }


def drawn_texts(archive: zipfile.ZipFile, part: str) -> Iterator[str]:
    """Text boxes and the titles of charts. A chart's numbers stand in cells already."""
    for relation in relations(archive, part):
        if relation.kind != "drawing":
            continue
        drawing = parse_xml(archive.read(relation.target))
        for paragraph in drawing.iter(f"{{{DRAWING}}}p"):
            yield "".join(text.text or "" for text in paragraph.iter(f"{{{DRAWING}}}t"))
        for shown in relations(archive, relation.target):
            if shown.kind == "chart":
                yield chart_title(parse_xml(archive.read(shown.target)))
