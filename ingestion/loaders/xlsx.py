"""Excel workbooks: a page a sheet, each run of filled cells a table with its header row.

Sheets are streamed, so that a large one takes little memory. Hidden sheets are left out, as a
reader does not see them. Values are those that Excel calculated last.
"""

import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingestion.loaders.blocks import heading, one_line, paragraph, title_of
from ingestion.loaders.limits import LoadLimits
from ingestion.loaders.ooxml import open_package
from ingestion.loaders.registry import XLSX
from ingestion.loaders.xlsx_parts import (
    SheetPart,
    comments,
    drawn_texts,
    merged_ranges,
    sheet_parts,
)
from ingestion.loaders.xlsx_tables import (
    MAX_COLUMNS,
    Merges,
    Row,
    cell_text,
    region_blocks,
    regions,
)
from kb.errors import DocumentTooLarge
from kb.types import Block, ParsedDocument


def load(path: Path, limits: LoadLimits) -> ParsedDocument:
    """Raises UnreadableDocument and DocumentTooLarge."""
    import openpyxl

    with (
        open_package(path, limits) as package,
        zipfile.ZipFile(package) as archive,
        warnings.catch_warnings(),
    ):
        # openpyxl warns about styles and validations that it does not know; we read values only.
        warnings.simplefilter("ignore")
        workbook = openpyxl.load_workbook(package, read_only=True, data_only=True, keep_links=False)
        reader = _Reader(workbook, archive, limits)
        parts = sheet_parts(archive)
        blocks = tuple(block for part in parts for block in reader.sheet(part))
        title = title_of(path, workbook.properties.title)
    hidden = [part.title for part in parts if part.hidden]
    notes = (f"Hidden sheets were left out: {', '.join(hidden)}.",) if hidden else ()
    return ParsedDocument(title, blocks, XLSX.media_type, notes)


@dataclass(slots=True)
class _Reader:
    workbook: Any
    archive: zipfile.ZipFile
    limits: LoadLimits
    _characters: int = 0

    def sheet(self, part: SheetPart) -> Iterator[Block]:
        """Nothing for a sheet that is empty or hidden."""
        if part.hidden or part.name not in self.archive.namelist():
            return
        content = [*self._tables(part), *self._remarks(part)]
        if content:
            yield heading(part.title, 1, part.number)
            yield from content

    def _tables(self, part: SheetPart) -> Iterator[Block]:
        for region in regions(self._rows(part)):
            yield from region_blocks(region, part.number)

    def _rows(self, part: SheetPart) -> Iterator[Row]:
        sheet = self.workbook[part.title]
        if sheet not in self.workbook.worksheets:  # a chart sheet
            return
        sheet.reset_dimensions()  # files claim sizes of a million rows; the cells say what is there
        merges = Merges.of(merged_ranges(self.archive, part.name))
        for number, cells in enumerate(sheet.iter_rows(), start=1):
            texts = {
                column: text
                for column, cell in enumerate(cells[:MAX_COLUMNS], start=1)
                if cell.value is not None and (text := cell_text(cell))
            }
            if texts:
                row = merges.filled(number, texts)
                self._count(row)
                yield row

    def _count(self, row: Row) -> None:
        """Stops early, before a giant sheet fills the memory."""
        self._characters += sum(map(len, row.texts.values()))
        if self._characters > self.limits.max_characters:
            raise DocumentTooLarge(
                f"The cells hold more than {self.limits.max_characters:,} characters. "
                "Split the workbook, or raise KB_INGEST__MAX_CHARACTERS."
            )

    def _remarks(self, part: SheetPart) -> Iterator[Block]:
        for text in (*drawn_texts(self.archive, part.name), *comments(self.archive, part.name)):
            if one_line(text):
                yield paragraph(text, part.number)
