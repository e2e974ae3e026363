"""Tables with ruling lines on a PDF page, from pdfium's own path objects.

Only tables drawn as a grid are taken: what a grid says about its cells is certain. Others stay
lines of text, one a row, which searches as well. pdfplumber finds more, at 1/15 of the speed.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ingestion.loaders.blocks import one_line, paragraph, table_blocks
from ingestion.loaders.pdf_lines import Line, View
from kb.types import Block, BlockKind

_MAX_PATHS = 3000
"""A page with more is a drawing or a map."""
_MAX_DRAWN = 6000
_MAX_RULES = 1000
"""Rules as they are drawn, in pieces and twice, and as they remain once merged."""
_MAX_SEGMENTS = 200
_MAX_CELLS = 5000
_STRAIGHT = 1.0
"""Points that a rule may be off the horizontal or vertical."""
_SHORTEST = 5.0
_NEAR = 3.0
"""Points within which two ends or rules count as touching or the same."""
_THINNEST = 7.0
"""Points that a column or row is wide at least; less is padding between two rules."""
_FILLED = 0.5
"""Share of the cells of a table that hold text; grids with fewer are forms laid out by rules."""
_KEPT_WORDS = 0.9
"""A grid is only taken as a table if its cells hold this share of the words that it replaces."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Rule:
    """A straight line: at `at`, from `start` to `end` along the other axis, in PDF points."""

    at: float
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Table:
    """`left`, `top`, `right`, `bottom` as in Line: points on the page as it is shown."""

    left: float
    top: float
    right: float
    bottom: float
    blocks: tuple[Block, ...]

    def holds(self, line: Line) -> bool:
        x, y = line.middle
        return self.left - _NEAR <= x <= self.right + _NEAR and self.top <= y <= self.bottom


def read_tables(page: Any, textpage: Any, view: View, lines: Sequence[Line]) -> list[Table]:
    """The ruled tables of an upright page, with all their text."""
    if view.turns or not lines:
        return []
    horizontal, vertical = _rules(page)
    found = (
        _table(textpage, view, lines, *grid)
        for grid in _grids(_merged(horizontal), _merged(vertical))
    )
    return [table for table in found if table]


# --- Rules ------------------------------------------------------------------------------------


def _rules(page: Any) -> tuple[list[Rule], list[Rule]]:
    """Horizontal and vertical rules. Both strokes and the edges of filled rectangles count."""
    import pypdfium2.raw as pdfium

    horizontal: list[Rule] = []
    vertical: list[Rule] = []
    paths = page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_PATH], max_depth=1)
    for number, path in enumerate(paths):
        if number > _MAX_PATHS or len(horizontal) + len(vertical) > _MAX_DRAWN:
            return [], []
        for (x1, y1), (x2, y2) in _segments(path):
            if abs(y1 - y2) <= _STRAIGHT and abs(x1 - x2) >= _SHORTEST:
                horizontal.append(Rule((y1 + y2) / 2, min(x1, x2), max(x1, x2)))
            elif abs(x1 - x2) <= _STRAIGHT and abs(y1 - y2) >= _SHORTEST:
                vertical.append(Rule((x1 + x2) / 2, min(y1, y2), max(y1, y2)))
    return horizontal, vertical


def _segments(path: Any) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    import ctypes

    import pypdfium2.raw as pdfium

    count = pdfium.FPDFPath_CountSegments(path.raw)
    if not 2 <= count <= _MAX_SEGMENTS:
        return
    matrix = path.get_matrix()
    x, y = ctypes.c_float(), ctypes.c_float()
    start = previous = (0.0, 0.0)
    for index in range(count):
        segment = pdfium.FPDFPath_GetPathSegment(path.raw, index)
        pdfium.FPDFPathSegment_GetPoint(segment, x, y)
        point = matrix.on_point(x.value, y.value)
        kind = pdfium.FPDFPathSegment_GetType(segment)
        if kind == pdfium.FPDF_SEGMENT_MOVETO:
            start = point
        elif kind == pdfium.FPDF_SEGMENT_LINETO:
            yield previous, point
        if pdfium.FPDFPathSegment_GetClose(segment):
            yield point, start
        previous = point


def _merged(rules: Iterable[Rule]) -> list[Rule]:
    """Rules drawn in pieces or twice (the two edges of a thin rectangle) made one."""
    merged: list[Rule] = []
    for rule in sorted(rules, key=lambda rule: (rule.at, rule.start)):
        for index in range(len(merged) - 1, -1, -1):
            other = merged[index]
            if rule.at - other.at > _NEAR:
                index = -1
                break
            if rule.start <= other.end + _NEAR and other.start <= rule.end + _NEAR:
                merged[index] = Rule(
                    other.at, min(rule.start, other.start), max(rule.end, other.end)
                )
                break
        else:
            index = -1
        if index < 0:
            merged.append(rule)
    return merged


# --- Grids ------------------------------------------------------------------------------------


def _grids(horizontal: list[Rule], vertical: list[Rule]) -> Iterator[tuple[list[Rule], list[Rule]]]:
    """Sets of rules that cross each other: at least two rows and two columns."""
    if len(horizontal) + len(vertical) > _MAX_RULES:
        return
    left_over = set(range(len(vertical)))
    rows_left = set(range(len(horizontal)))
    while rows_left:
        rows, columns, fresh = set[int](), set[int](), {rows_left.pop()}
        while fresh:
            rows |= fresh
            new = {c for c in left_over for r in fresh if _cross(horizontal[r], vertical[c])}
            columns |= new
            left_over -= new
            fresh = {r for r in rows_left for c in new if _cross(horizontal[r], vertical[c])}
            rows_left -= fresh
        if len(rows) >= 3 and len(columns) >= 3:
            yield [horizontal[r] for r in rows], [vertical[c] for c in columns]


def _cross(row: Rule, column: Rule) -> bool:
    return (
        row.start - _NEAR <= column.at <= row.end + _NEAR
        and column.start - _NEAR <= row.at <= column.end + _NEAR
    )


def _positions(rules: Iterable[Rule]) -> list[float]:
    """Where rules stand, near ones once."""
    positions: list[float] = []
    for rule in sorted(rules, key=lambda rule: rule.at):
        if not positions or rule.at - positions[-1] > _THINNEST:
            positions.append(rule.at)
    return positions


def _table(
    textpage: Any, view: View, lines: Sequence[Line], rows: list[Rule], columns: list[Rule]
) -> Table | None:
    xs, ys = _positions(columns), _positions(rows)[::-1]
    if len(xs) < 3 or len(ys) < 3 or len(xs) * len(ys) > _MAX_CELLS:
        return None
    cells = _cell_texts(textpage, xs, ys, rows, columns)
    blocks = tuple(_blocks(cells, lines[0].page))
    if not any(block.kind is BlockKind.TABLE for block in blocks):
        return None  # a frame around text
    left, top = view.place(xs[0], ys[0])
    right, bottom = view.place(xs[-1], ys[-1])
    table = Table(left, top, right, bottom, blocks)
    return table if _holds_its_text(table, lines) else None


def _blocks(rows: list[list[str]], page: int) -> Iterator[Block]:
    """Captions (a single cell at the top), then the table without its blank rows and columns."""
    filled = [row for row in rows if any(row)]
    while filled and len(set(filter(None, filled[0]))) == 1:
        yield paragraph(next(filter(None, filled.pop(0))), page)
    used = [column for column in range(len(rows[0])) if _is_used(filled, column)]
    table = [[row[column] for column in used] for row in filled]
    cells = sum(bool(cell) for row in table for cell in row)
    if len(used) > 1 and len(table) > 1 and cells >= _FILLED * len(used) * len(table):
        yield from table_blocks(table[0], table[1:], page)


def _is_used(rows: list[list[str]], column: int) -> bool:
    """Not if it is blank but for a header that stands over several columns."""
    header = rows[0][column] if rows else ""
    is_own = bool(header) and (column == 0 or rows[0][column - 1] != header)
    return is_own or any(row[column] for row in rows[1:])


def _cell_texts(
    textpage: Any, xs: list[float], ys: list[float], rows: list[Rule], columns: list[Rule]
) -> list[list[str]]:
    """Texts by row and column; cells without a rule between them are one."""
    texts: list[list[str]] = []
    for top, bottom in pairwise(ys):
        row: list[str] = []
        for number, (left, right) in enumerate(pairwise(xs)):
            if number and not _parted(columns, left, (top + bottom) / 2):
                row.append("" if texts else row[-1])  # in the header it stands over each column
                continue
            end = _cell_end(columns, xs, number, (top + bottom) / 2, right)
            row.append(one_line(textpage.get_text_bounded(left, bottom, end, top)))
        texts.append(row)
    return _shared_down(texts, xs, ys, rows)


def _cell_end(columns: list[Rule], xs: list[float], number: int, y: float, right: float) -> float:
    for following in range(number + 1, len(xs) - 1):
        if _parted(columns, xs[following], y):
            break
        right = xs[following + 1]
    return right


def _shared_down(
    texts: list[list[str]], xs: list[float], ys: list[float], rows: list[Rule]
) -> list[list[str]]:
    """A blank cell without a rule above it belongs to the cell above."""
    for number in range(1, len(texts)):
        for column, (left, right) in enumerate(pairwise(xs)):
            is_open = not _parted(rows, ys[number], (left + right) / 2)
            if is_open and not texts[number][column]:
                texts[number][column] = texts[number - 1][column]
    return texts


def _parted(rules: list[Rule], at: float, along: float) -> bool:
    return any(abs(rule.at - at) <= _THINNEST and rule.start <= along <= rule.end for rule in rules)


def _holds_its_text(table: Table, lines: Sequence[Line]) -> bool:
    """Whether the cells hold the words of the lines that the table would replace: rules that cut
    through words are no table."""
    replaced = Counter(word for line in lines if table.holds(line) for word in _words(line.text))
    kept = Counter(word for block in table.blocks for word in _words(block.text))
    return bool(replaced) and (replaced & kept).total() >= _KEPT_WORDS * replaced.total()


def _words(text: str) -> list[str]:
    return _WORD.findall(text)
