"""PowerPoint presentations: a page a slide, shapes in their own (reading) order, then the notes.

python-pptx opens the package and resolves placeholders; the shapes are walked here, because one
that it can't read must cost that shape and not the file, and it knows no alternatives or SmartArt.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingestion.loaders.blocks import (
    bullet_list,
    first_heading,
    heading,
    one_line,
    paragraph,
    table_blocks,
    title_of,
)
from ingestion.loaders.docx_math import linear
from ingestion.loaders.limits import LoadLimits
from ingestion.loaders.ooxml import (
    CHART,
    DIAGRAM,
    DRAWING,
    MATH,
    RELATIONSHIPS,
    chart_rows,
    chart_title,
    children,
    diagram_lines,
    open_package,
    parse_xml,
)
from ingestion.loaders.registry import PPTX
from kb.types import Block, ParsedDocument

_P = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_A = f"{{{DRAWING}}}"
_TITLES = frozenset({"title", "ctrTitle"})
# Dates, slide numbers and footers say the same on every slide.
_RUNNING = frozenset({"dt", "sldNum", "ftr", "hdr", "sldImg"})
_MAX_COLUMNS = 200


def load(path: Path, limits: LoadLimits) -> ParsedDocument:
    """Raises UnreadableDocument and DocumentTooLarge."""
    import pptx

    with open_package(path, limits) as package:
        presentation = pptx.Presentation(package)
        warnings: list[str] = []
        blocks = tuple(
            block
            for number, slide in enumerate(presentation.slides, start=1)
            if not _is_hidden(slide, number, warnings)
            for block in _Slide(slide, number, warnings).blocks()
            if block.text.strip()
        )
        titles = (_own_title(presentation), first_heading(blocks))
    return ParsedDocument(title_of(path, *titles), blocks, PPTX.media_type, tuple(warnings))


def _is_hidden(slide: Any, number: int, warnings: list[str]) -> bool:
    """Slides that are not shown are left out, with a warning."""
    hidden = slide.element.get("show") in ("0", "false")
    if hidden:
        warnings.append(f"Slide {number} is hidden and was left out.")
    return hidden


def _own_title(presentation: Any) -> str:
    """PowerPoint itself writes "PowerPoint Presentation" where nobody wrote a title."""
    title = str(presentation.core_properties.title or "")
    return "" if "powerpoint" in title.lower() else title


@dataclass(slots=True)
class _Slide:
    slide: Any
    number: int
    warnings: list[str]

    def blocks(self) -> Iterator[Block]:
        shapes = list(_shapes(self.slide.element.find(f"{_P}cSld/{_P}spTree")))
        shapes.sort(key=lambda shape: _placeholder(shape) not in _TITLES)  # stable: titles first
        for shape in shapes:
            yield from self._guarded(shape)
        yield from self._notes()
        yield from self._comments()

    def _guarded(self, shape: Any) -> list[Block]:
        try:
            return list(self._shape(shape))
        except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
            self.warnings.append(
                f"Slide {self.number}: one shape can't be read and was left out ({error})."
            )
            return []

    def _shape(self, shape: Any) -> Iterator[Block]:
        body = shape.find(f"{_P}txBody")
        if body is not None:
            yield from self._text(body, _placeholder(shape))
        for table in shape.iter(f"{_A}tbl"):
            rows = _table_rows(table)
            if rows:
                yield from table_blocks(rows[0], rows[1:], self.number)
        for reference in shape.iter(f"{{{CHART}}}chart"):
            yield from self._chart(self._related(reference.get(f"{{{RELATIONSHIPS}}}id", "")))
        for reference in shape.iter(f"{{{DIAGRAM}}}relIds"):
            data = self._related(reference.get(f"{{{RELATIONSHIPS}}}dm", ""))
            yield bullet_list((f"- {one_line(line)}" for line in diagram_lines(data)), self.number)

    def _text(self, body: Any, placeholder: str | None) -> Iterator[Block]:
        paragraphs = [
            (_depth(p), text) for p in body.iter(f"{_A}p") if (text := _paragraph_text(p))
        ]
        if placeholder in _RUNNING or not paragraphs:
            return
        if placeholder in _TITLES:
            yield heading(" ".join(text for _, text in paragraphs), 1, self.number)
        elif _is_list(body, placeholder) and len(paragraphs) > 1:
            lines = (f"{'  ' * depth}- {one_line(text)}" for depth, text in paragraphs)
            yield bullet_list(lines, self.number)
        else:
            for _, text in paragraphs:
                yield paragraph(text, self.number)

    def _chart(self, chart: Any) -> Iterator[Block]:
        if title := one_line(chart_title(chart)):
            yield paragraph(title, self.number)
        if rows := chart_rows(chart):
            yield from table_blocks(rows[0], rows[1:], self.number)

    def _notes(self) -> Iterator[Block]:
        if not self.slide.has_notes_slide:
            return
        frame = self.slide.notes_slide.notes_text_frame
        if frame is not None and frame.text.strip():
            yield paragraph(f"Notes: {frame.text}", self.number)

    def _comments(self) -> Iterator[Block]:
        for relation in self.slide.part.rels.values():
            if relation.reltype.endswith("/comments") and not relation.is_external:
                for text in _comment_texts(parse_xml(relation.target_part.blob)):
                    yield paragraph(f"Comment: {text}", self.number)

    def _related(self, relation_id: str) -> Any:
        return parse_xml(self.slide.part.rels[relation_id].target_part.blob)


def _shapes(tree: Any) -> Iterator[Any]:
    """The shapes of a slide, those in groups too."""
    for child in children(tree):
        if child.tag == f"{_P}grpSp":
            yield from _shapes(child)
        else:
            yield child


def _placeholder(shape: Any) -> str | None:
    """The kind of placeholder ("title", "body", "obj"...), or None for a free shape."""
    mark = next(shape.iter(f"{_P}ph"), None)
    return None if mark is None else str(mark.get("type", "obj"))


def _paragraph_text(element: Any) -> str:
    parts: list[str] = []
    for child in children(element):
        if child.tag == f"{_A}br":
            parts.append("\n")
        elif child.tag in (f"{_A}r", f"{_A}fld"):
            parts.append(child.findtext(f"{_A}t") or "")
        else:
            parts.extend(linear(equation) for equation in child.iter(f"{{{MATH}}}oMath"))
    return "".join(parts).strip()


def _depth(element: Any) -> int:
    properties = element.find(f"{_A}pPr")
    level = "0" if properties is None else properties.get("lvl", "0")
    return int(level) if level.isdecimal() else 0


def _is_list(body: Any, placeholder: str | None) -> bool:
    """Body placeholders have bullets unless they say otherwise; free text has none unless it does."""
    marks = {
        str(mark.tag).removeprefix(_A)
        for mark in body.iter(f"{_A}buChar", f"{_A}buAutoNum", f"{_A}buNone")
    }
    if marks & {"buChar", "buAutoNum"}:
        return True
    return placeholder in ("body", "obj") and "buNone" not in marks


def _table_rows(table: Any) -> list[list[str]]:
    """Cell texts; a merged cell's text stands at each of its places, so that each row reads alone."""
    rows: list[list[str]] = []
    for row in table.iter(f"{_A}tr"):
        cells: list[str] = []
        for cell in row.iter(f"{_A}tc"):
            if cell.get("hMerge") in ("1", "true") and cells:
                cells.append(cells[-1])
            elif cell.get("vMerge") in ("1", "true") and rows and len(cells) < len(rows[-1]):
                cells.append(rows[-1][len(cells)])
            else:
                texts = (_paragraph_text(p) for p in cell.iter(f"{_A}p"))
                cells.append(" ".join(text for text in texts if text))
        rows.append(cells[:_MAX_COLUMNS])
    return rows


def _comment_texts(root: Any) -> Iterator[str]:
    """Comments of both kinds: old ones (p:text) and threaded ones (paragraphs with runs)."""
    for element in root.iter(f"{_P}text"):
        yield one_line(element.text or "")
    for body in root.iter("{*}txBody"):
        yield one_line(" ".join(text.text or "" for text in body.iter(f"{_A}t")))
