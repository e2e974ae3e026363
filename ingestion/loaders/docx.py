"""Word documents: the body in its order, with what python-docx's own walk leaves out.

python-docx opens the package; the body is walked here, because its API knows neither content
controls, text boxes, tracked changes, notes, equations nor automatic numbers.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingestion.loaders.blocks import (
    bullet_list,
    code,
    first_heading,
    heading,
    one_line,
    paragraph,
    table_blocks,
    title_of,
)
from ingestion.loaders.docx_numbering import BULLET, Numbering, read_numbering
from ingestion.loaders.docx_styles import Style, Styles
from ingestion.loaders.docx_text import ParagraphText, read_paragraph
from ingestion.loaders.limits import LoadLimits
from ingestion.loaders.ooxml import (
    WORD,
    chart_rows,
    chart_title,
    children,
    diagram_lines,
    open_package,
    parse_xml,
)
from ingestion.loaders.registry import DOCX
from kb.types import Block, BlockKind, ParsedDocument

_W = f"{{{WORD}}}"
# Wrappings around paragraphs and tables that change nothing about the text.
_WRAPPINGS = frozenset(
    f"{_W}{name}" for name in ("sdt", "sdtContent", "ins", "moveTo", "customXml", "smartTag")
)
_NOTE_LABELS = {"footnotes": "Footnote", "endnotes": "Endnote", "comments": "Comment"}
_MAX_COLUMNS = 200
"""A row may claim any number of columns; a real table has fewer."""


def load(path: Path, limits: LoadLimits) -> ParsedDocument:
    """Raises UnreadableDocument and DocumentTooLarge."""
    import docx

    with open_package(path, limits) as package:
        document = docx.Document(package)
        reader = _Reader.of(document)
        blocks = tuple(_merged(reader.blocks(document.element.body)))
        titles = (document.core_properties.title, reader.title, first_heading(blocks))
    return ParsedDocument(title_of(path, *titles), blocks, DOCX.media_type, reader.warnings())


@dataclass(slots=True)
class _Reader:
    """Walks a document once. `title` is its first paragraph in the style Title."""

    part: Any
    styles: Styles
    numbering: Numbering
    notes: dict[str, dict[str, Any]]
    title: str = ""
    left_out: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, document: Any) -> "_Reader":
        return cls(
            part=document.part,
            styles=Styles(_tree(document.part, "styles")),
            numbering=read_numbering(_tree(document.part, "numbering")),
            notes={kind: _notes(_tree(document.part, kind)) for kind in _NOTE_LABELS},
        )

    def warnings(self) -> tuple[str, ...]:
        return tuple(sorted(self.left_out))

    def blocks(self, container: Any) -> Iterator[Block]:
        for child in children(container):
            if child.tag == f"{_W}p":
                yield from self._paragraph(child)
            elif child.tag == f"{_W}tbl":
                yield from self._table(child)
            elif child.tag == f"{_W}altChunk":
                self.left_out.add("A part embedded from another file was left out.")
            elif child.tag in _WRAPPINGS:
                yield from self.blocks(child)

    def _paragraph(self, element: Any) -> Iterator[Block]:
        content = read_paragraph(element)
        style = self.styles.of(element)
        if content.text.strip() and not style.is_contents:
            yield self._own_block(content.text, style)
        for box in content.boxes:
            yield from self.blocks(box)
        yield from self._graphics(content)
        for kind, note_id in content.notes:
            yield from self._note(kind, note_id)

    def _own_block(self, text: str, style: Style) -> Block:
        if style.is_code:
            return code(text)
        marker = self.numbering.marker(style.list_id, style.list_level)
        if style.level:
            if style.is_title and not self.title:
                self.title = one_line(text)
            number = "" if marker in (None, BULLET) else f"{marker} "
            return heading(number + text, style.level)
        if marker is not None:
            indent = "  " * style.list_level
            return bullet_list([f"{indent}{marker or BULLET} {one_line(text)}"])
        return paragraph(text)

    def _graphics(self, content: ParagraphText) -> Iterator[Block]:
        for relation in content.charts:
            if (chart := _related(self.part, relation)) is not None:
                if title := one_line(chart_title(chart)):
                    yield paragraph(title)
                if rows := chart_rows(chart):
                    yield from table_blocks(rows[0], rows[1:])
        for relation in content.diagrams:
            if (data := _related(self.part, relation)) is not None and (
                lines := diagram_lines(data)
            ):
                yield bullet_list(f"{BULLET} {one_line(line)}" for line in lines)

    def _note(self, kind: str, note_id: str) -> Iterator[Block]:
        """A note stands below the paragraph that it belongs to, so that they are found together."""
        element = self.notes[kind].pop(note_id, None)  # popped: a note can't refer to itself
        if element is None:
            return
        author = element.get(f"{_W}author", "")
        label = _NOTE_LABELS[kind] + (f" ({author})" if author else "")
        if text := self._flat(element):
            yield paragraph(f"{label}: {text}")

    def _table(self, table: Any) -> Iterator[Block]:
        rows = list(self._rows(table))
        if len(rows) == 1 and len(set(map(id, rows[0]))) == 1:  # a frame around text, not a table
            yield from self.blocks(rows[0][0])
            return
        texts: dict[int, str] = {}
        for cell in (cell for row in rows for cell in row):
            if id(cell) not in texts:
                texts[id(cell)] = self._flat(cell)
        table_rows = [[texts[id(cell)] for cell in row] for row in rows]
        if table_rows:
            yield from table_blocks(table_rows[0], table_rows[1:])

    def _rows(self, table: Any) -> Iterator[list[Any]]:
        """Rows of w:tc elements; a merged cell stands at each of its places, so that each row
        can be read alone."""
        above: dict[int, Any] = {}
        for row in _within(table, "tr"):
            if row.find(f"{_W}trPr/{_W}del") is not None:
                continue
            cells: list[Any] = []
            for cell in _within(row, "tc"):
                properties = cell.find(f"{_W}tcPr")
                merge = None if properties is None else properties.find(f"{_W}vMerge")
                continues = merge is not None and merge.get(f"{_W}val") != "restart"
                shown = above.get(len(cells), cell) if continues else cell
                cells.extend([shown] * min(_span(properties), _MAX_COLUMNS))
            above = dict(enumerate(cells))
            if cells:
                yield cells

    def _flat(self, container: Any) -> str:
        """The text of a cell or note as one paragraph."""
        return " ".join(one_line(_unmarked(block)) for block in self.blocks(container))


def _unmarked(block: Block) -> str:
    """A table within a cell can't stay a table: its cells follow each other."""
    if block.kind is not BlockKind.TABLE:
        return block.text
    lines = block.text.split("\n")
    cells = (line.strip("| ").replace(" | ", ", ") for line in (lines[0], *lines[2:]))
    return "; ".join(cells)


def _merged(blocks: Iterable[Block]) -> Iterator[Block]:
    """List items that follow each other are one list, lines of code one listing."""
    pending: Block | None = None
    for block in blocks:
        if not block.text.strip():
            continue
        if (
            pending
            and pending.kind is block.kind
            and block.kind in (BlockKind.LIST, BlockKind.CODE)
        ):
            pending = Block(f"{pending.text}\n{block.text}", block.kind)
            continue
        if pending:
            yield pending
        pending = block
    if pending:
        yield pending


def _within(element: Any, name: str) -> Iterator[Any]:
    """The rows of a table or cells of a row, also inside content controls."""
    for child in children(element):
        if child.tag == f"{_W}{name}":
            yield child
        elif child.tag in _WRAPPINGS:
            yield from _within(child, name)


def _span(properties: Any | None) -> int:
    span = None if properties is None else properties.find(f"{_W}gridSpan")
    value = "1" if span is None else span.get(f"{_W}val", "1")
    return max(int(value), 1) if value.isdecimal() else 1


def _notes(root: Any | None) -> dict[str, Any]:
    """Notes by id; separators, which Word keeps among them, have a type."""
    if root is None:
        return {}
    return {
        child.get(f"{_W}id", ""): child
        for child in children(root)
        if child.get(f"{_W}type", "normal") == "normal"
    }


def _tree(part: Any, name: str) -> Any | None:
    """The part of that relation type, such as "numbering"."""
    for relation in part.rels.values():
        if relation.reltype.endswith(f"/{name}") and not relation.is_external:
            return parse_xml(relation.target_part.blob)
    return None


def _related(part: Any, relation_id: str) -> Any | None:
    relation = part.rels.get(relation_id)
    if relation is None or relation.is_external:
        return None
    return parse_xml(relation.target_part.blob)
