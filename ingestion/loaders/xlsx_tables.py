"""From the cells of a sheet to its tables: values as people read them, merged cells, regions."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any

from ingestion.loaders.blocks import one_line, paragraph, table_blocks
from kb.types import Block

MAX_COLUMNS = 1000
"""Cells further right are left out: no table for people has them."""

_SHARED_ROWS = 0.6
"""Tables beside each other rarely fill the same rows; the two sides of a form do."""


@dataclass(slots=True)
class Row:
    """One row's texts by column (from 1); `own` are the columns not only filled by a merge."""

    number: int
    texts: dict[int, str]
    own: set[int]


@dataclass(slots=True)
class Merges:
    """Merged ranges of a sheet: the text of the first cell stands at each place of the range."""

    by_first_row: dict[int, list[tuple[int, int, int]]]
    _open: list[tuple[int, int, int, str]] = field(default_factory=list)

    @classmethod
    def of(cls, references: Iterable[str]) -> "Merges":
        from openpyxl.utils.cell import range_boundaries

        by_first_row: dict[int, list[tuple[int, int, int]]] = {}
        for reference in references:
            left, top, right, bottom = range_boundaries(reference)
            by_first_row.setdefault(top, []).append((left, min(right, MAX_COLUMNS), bottom))
        return cls(by_first_row)

    def filled(self, number: int, texts: dict[int, str]) -> Row:
        """The row with merged places filled; rows must come in their order."""
        own = set(texts)
        for left, right, bottom in self.by_first_row.get(number, ()):
            if left in texts:
                self._open.append((left, right, bottom, texts[left]))
        self._open = [merge for merge in self._open if merge[2] >= number]
        for left, right, _, text in self._open:
            for column in range(left, right + 1):
                texts.setdefault(column, text)
        return Row(number, texts, own)


def cell_text(cell: Any) -> str:
    """The value of an openpyxl cell as people read it: ISO dates, percentages, no float noise."""
    value = cell.value
    if value is None or cell.data_type == "e":  # an error such as #N/A says nothing
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int | float):
        if "%" in (cell.number_format or ""):
            return f"{value * 100:.10g}%"
        return str(value) if isinstance(value, int) else f"{value:.15g}"
    if isinstance(value, datetime):
        midnight = value.time() == time()
        return value.date().isoformat() if midnight else value.isoformat(" ", "seconds")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(value)
    return one_line(str(value))


def regions(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Runs of rows without a blank row between them."""
    region: list[Row] = []
    for row in rows:
        if region and row.number > region[-1].number + 1:
            yield region
            region = []
        region.append(row)
    if region:
        yield region


def region_blocks(region: Sequence[Row], page: int) -> Iterator[Block]:
    """The tables of a region, side by side ones one after the other."""
    for columns in _tables(region):
        rows = [[row.texts.get(column, "") for column in columns] for row in region]
        yield from _table([row for row in rows if any(row)], page)


def _tables(region: Sequence[Row]) -> Iterator[list[int]]:
    """The columns of each table: blank columns part tables, unless one side explains the other."""
    table: list[int] = []
    for group in _column_groups({column for row in region for column in row.own}):
        if table and not _belong_together(region, set(table), set(group)):
            yield table
            table = []
        table.extend(group)
    if table:
        yield table


def _belong_together(region: Sequence[Row], left: set[int], right: set[int]) -> bool:
    """Forms have a blank column between labels and values; row by row they still belong together."""
    left_rows = {row.number for row in region if row.own & left}
    right_rows = {row.number for row in region if row.own & right}
    shared = len(left_rows & right_rows)
    return shared >= _SHARED_ROWS * max(len(left_rows), len(right_rows))


def _column_groups(columns: set[int]) -> Iterator[list[int]]:
    """Columns without a blank column between them."""
    group: list[int] = []
    for column in sorted(columns):
        if group and column > group[-1] + 1:
            yield group
            group = []
        group.append(column)
    if group:
        yield group


def _table(rows: list[list[str]], page: int) -> Iterator[Block]:
    """Lines of a single cell above a table are its caption; a table of one column is text."""
    while rows and len(set(filter(None, rows[0]))) == 1:
        caption = next(filter(None, rows.pop(0)))
        if rows and len(rows[0]) == 1:
            caption = "\n".join([caption, *(row[0] for row in rows)])
            rows = []
        yield paragraph(caption, page)
    if rows:
        yield from table_blocks(rows[0], rows[1:], page)
