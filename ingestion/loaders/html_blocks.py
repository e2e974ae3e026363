"""An HTML tree as blocks: headings, paragraphs, lists, tables, code.

One walk without recursion, because real pages nest thousands of levels deep.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from selectolax.lexbor import LexborNode

from ingestion.loaders.blocks import bullet_list, code, flowing, heading, one_line, table_blocks
from kb.types import Block, BlockKind


def tags(names: str) -> frozenset[str]:
    return frozenset(names.split())


_SKIPPED = tags(
    "script style template noscript svg canvas iframe object embed video audio map head select "
    "datalist button input textarea nav annotation rp meta link -comment"
)
_BLOCKS = tags(
    "address article aside blockquote body caption center dd details dialog dir div dl dt fieldset "
    "figcaption figure footer form h1 h2 h3 h4 h5 h6 header hgroup hr html legend li main menu ol p "
    "pre listing xmp plaintext search section summary table tbody td tfoot th thead tr ul "
    "frameset noframes"
)
_INLINE = tags(
    "a abbr acronym b bdi bdo big br cite code data del dfn em font i img ins kbd label mark math mi "
    "mn mo mrow msub msup nobr optgroup option output picture q rb rt ruby s samp semantics slot small "
    "source span strike strong sub sup time track tt u var wbr param area base col colgroup title"
)
KNOWN_TAGS = (_SKIPPED | _BLOCKS | _INLINE) - {"-comment"}
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_LISTS = tags("ul ol menu dir dl")
_ITEMS = tags("li dt dd")
_CODE = tags("pre listing xmp plaintext")
_BREAKS_CELL = "table, h1, h2, h3, h4, h5, h6, pre"

_MAX_COLUMNS = 200
_MAX_LIST_DEPTH = 8

_HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_CJK = "\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef"
# A line end in the source between two Chinese characters is no space.
_CJK_LINE_END = re.compile(f"(?<=[{_CJK}])[ \t\r]*\n\\s*(?=[{_CJK}])")
_SPACE = re.compile(r"[ \t\r\n\f]{2,}|[\t\r\n\f]")


def html_blocks(root: LexborNode) -> list[Block]:
    """The visible text below this node, in reading order."""
    builder = _Builder()
    node: LexborNode | None = root
    while node is not None:
        entered = builder.enter(node)
        if entered and node.child is not None:
            node = node.child
            continue
        if entered:
            builder.leave(node)
        node = _next(node, root, builder)
    builder.flush()
    builder.end_list()
    return builder.blocks


def _next(node: LexborNode, root: LexborNode, builder: "_Builder") -> LexborNode | None:
    """The next node in reading order that is not below this one; leaves what it climbs out of."""
    current = node
    while current.mem_id != root.mem_id:
        if current.next is not None:
            return current.next
        parent = current.parent
        if parent is None:
            return None
        builder.leave(parent)
        current = parent
    return None


@dataclass(slots=True)
class _List:
    ordered: bool
    number: int = 1


@dataclass(slots=True)
class _Builder:
    """Collects inline text until a block begins or ends, then files it where it stands."""

    blocks: list[Block] = field(default_factory=list)
    inline: list[str] = field(default_factory=list)
    lists: list[_List] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    marker: str = ""

    def enter(self, node: LexborNode) -> bool:
        """Whether the children are to be visited, and `leave` called after them."""
        tag = node.tag or ""
        if tag == "-text":
            self.inline.append(_collapsed(node.text_content or ""))
            return False
        if tag in _SKIPPED or _is_hidden(node):
            return False
        if tag in ("br", "img", "hr"):
            self._void(tag, node)
            return False
        if tag in _BLOCKS:
            self.flush()
        if tag in _CODE:
            self._interrupt_list(code(_raw_text(node)))
            return False
        if tag == "table" and (rows := _data_rows(node)):
            self._table(node, rows)
            return False
        if tag in _LISTS:
            self.lists.append(_List(tag == "ol", _start(node)))
        elif tag in _ITEMS:
            self._begin_item(tag)
        return True

    def leave(self, node: LexborNode) -> None:
        tag = node.tag or ""
        if level := _HEADINGS.get(tag):
            text = "".join(self.inline)
            self.inline.clear()
            if one_line(text):
                self._interrupt_list(heading(text, level))
        elif tag in _BLOCKS:
            self.flush()
        if tag in _LISTS and self.lists:
            self.lists.pop()
            if not self.lists:
                self.end_list()

    def flush(self) -> None:
        """Files the inline text collected so far: as a line of the list we are in, or a paragraph."""
        text = flowing("".join(self.inline))
        self.inline.clear()
        if not text:
            return
        if not self.lists:
            self.blocks.append(Block(text))
            return
        indent = "  " * (min(len(self.lists), _MAX_LIST_DEPTH) - 1)
        marker, self.marker = self.marker or "  ", ""
        self.lines.append(f"{indent}{marker}{one_line(text)}")

    def end_list(self) -> None:
        if self.lines:
            self.blocks.append(bullet_list(self.lines))
        self.lines = []
        self.marker = ""

    def _begin_item(self, tag: str) -> None:
        if not self.lists:  # an item outside of any list
            self.lists.append(_List(ordered=False))
        innermost = self.lists[-1]
        self.marker = f"{innermost.number}. " if innermost.ordered else "- "
        innermost.number += 1
        if tag == "dd":
            self.marker = "  "

    def _void(self, tag: str, node: LexborNode) -> None:
        if tag == "br":
            self.inline.append("\n")
        elif tag == "hr":
            self.flush()
        elif alt := node.attributes.get("alt"):
            self.inline.append(f" {alt} ")

    def _table(self, node: LexborNode, rows: list[list[str]]) -> None:
        if caption := node.css_first("caption"):
            self._interrupt_list(Block(one_line(_cell_text(caption))))
        for block in table_blocks(rows[0], rows[1:]):
            self._interrupt_list(block)

    def _interrupt_list(self, block: Block) -> None:
        """Headings, tables and code stand alone, even inside a list; the list goes on after them."""
        marker = self.marker
        self.end_list()
        self.marker = "" if block.kind is BlockKind.HEADING else marker
        if block.text:
            self.blocks.append(block)


def _collapsed(text: str) -> str:
    return _SPACE.sub(" ", _CJK_LINE_END.sub("", text))


def _is_hidden(node: LexborNode) -> bool:
    attributes = node.attributes
    if not attributes:
        return False
    return (
        "hidden" in attributes
        or attributes.get("aria-hidden") == "true"
        or attributes.get("role") == "navigation"
        or bool(_HIDDEN_STYLE.search(attributes.get("style") or ""))
    )


def _start(node: LexborNode) -> int:
    start = node.attributes.get("start") or "1"
    return int(start) if start.isascii() and start.isdigit() and len(start) < 10 else 1


def _descendants(root: LexborNode) -> Iterator[LexborNode]:
    """Every visible node below, in reading order; the children of a skipped node are skipped."""
    node = root.child
    while node is not None:
        skip = node.tag != "-text" and (node.tag in _SKIPPED or _is_hidden(node))
        if not skip:
            yield node
        if not skip and node.child is not None:
            node = node.child
            continue
        while node is not None and node.next is None:
            node = node.parent
            if node is None or node.mem_id == root.mem_id:
                return
        node = node.next if node is not None else None


def _raw_text(node: LexborNode) -> str:
    """Text with its line ends, as in <pre>."""
    parts = []
    for child in _descendants(node):
        if child.tag == "-text":
            parts.append(child.text_content or "")
        elif child.tag == "br":
            parts.append("\n")
    return "".join(parts)


def _cell_text(cell: LexborNode) -> str:
    """One line: blocks within a cell are parted by a space."""
    parts = []
    for child in _descendants(cell):
        if child.tag == "-text":
            parts.append(_collapsed(child.text_content or ""))
        elif child.tag == "img":
            parts.append(f" {child.attributes.get('alt') or ''} ")
        elif child.tag == "br" or child.tag in _BLOCKS:
            parts.append(" ")
    return "".join(parts)


def _data_rows(table: LexborNode) -> list[list[str]]:
    """The cells as text, spanning ones repeated; no rows for a table that only lays out a page."""
    if _lays_out(table):
        return []
    rows: list[list[str]] = []
    pending: dict[int, tuple[str, int]] = {}
    for row in table.css("tr"):
        cells: list[str] = []
        for cell in _children(row, ("td", "th")):
            _take_pending(cells, pending)
            text = one_line(_cell_text(cell))
            width, height = _span(cell, "colspan"), _span(cell, "rowspan")
            if not cells and cell.next is None:
                width = 1  # a cell as wide as the table is said once
            for _ in range(width):
                if height > 1:
                    pending[len(cells)] = (text, height - 1)
                cells.append(text)
        _take_pending(cells, pending)
        rows.append(cells[:_MAX_COLUMNS])
    return rows if max(map(len, rows), default=0) > 1 else []


def _lays_out(table: LexborNode) -> bool:
    return any(node.mem_id != table.mem_id for node in table.css(_BREAKS_CELL))


def _take_pending(cells: list[str], pending: dict[int, tuple[str, int]]) -> None:
    """Fills in cells that span down from a row above."""
    while (column := len(cells)) in pending:
        text, left = pending.pop(column)
        if left > 1:
            pending[column] = (text, left - 1)
        cells.append(text)


def _children(node: LexborNode, tags: tuple[str, ...]) -> Iterator[LexborNode]:
    child = node.child
    while child is not None:
        if child.tag in tags:
            yield child
        child = child.next


def _span(cell: LexborNode, name: str) -> int:
    value = cell.attributes.get(name) or "1"
    number = int(value) if value.isascii() and value.isdigit() and len(value) < 6 else 1
    return min(max(number, 1), _MAX_COLUMNS if name == "colspan" else 10_000)
