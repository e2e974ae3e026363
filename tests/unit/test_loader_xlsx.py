"""Excel: sheets as pages, tables that read alone, values as people read them."""

import zipfile
from collections.abc import Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from openpyxl.comments import Comment

from ingestion.loaders import LoadLimits, load
from kb.errors import DocumentTooLarge
from kb.types import BlockKind, ParsedDocument

LIMITS = LoadLimits(max_bytes=10_000_000, max_characters=1_000_000, max_expansion=200)


@pytest.fixture
def workbook() -> Any:
    return openpyxl.Workbook()


def fill(sheet: Any, rows: Sequence[Sequence[Any]], at: str = "A1") -> None:
    first = sheet[at]
    for row_number, row in enumerate(rows):
        for column_number, value in enumerate(row):
            sheet.cell(first.row + row_number, first.column + column_number, value)


def loaded(workbook: Any, folder: Path, limits: LoadLimits = LIMITS) -> ParsedDocument:
    path = folder / "book.xlsx"
    workbook.save(path)
    return load(path, limits)


def test_sheets_are_pages_with_headings(workbook: Any, tmp_path: Path) -> None:
    fill(workbook.active, [["a", "b"], [1, 2]])
    fill(workbook.create_sheet("Costs"), [["c", "d"], [3, 4]])
    parsed = loaded(workbook, tmp_path)
    assert parsed.title == "book"
    assert [(b.kind, b.page) for b in parsed.blocks] == [
        (BlockKind.HEADING, 1),
        (BlockKind.TABLE, 1),
        (BlockKind.HEADING, 2),
        (BlockKind.TABLE, 2),
    ]
    assert parsed.blocks[2].text == "Costs"


def test_long_tables_repeat_their_header(workbook: Any, tmp_path: Path) -> None:
    fill(workbook.active, [["number", "square"], *([n, n * n] for n in range(1, 101))])
    tables = [b.text for b in loaded(workbook, tmp_path).blocks if b.kind is BlockKind.TABLE]
    assert len(tables) > 1
    assert all(table.startswith("| number | square |\n") for table in tables)
    assert sum(table.count("\n") - 1 for table in tables) == 100


def test_values_as_people_read_them(workbook: Any, tmp_path: Path) -> None:
    sheet = workbook.active
    values = [
        0.1 + 0.2,
        date(2026, 3, 1),
        datetime(2026, 3, 1, 9, 30),
        time(8, 15),
        True,
        0.125,
        "a|b",
    ]
    fill(sheet, [[f"c{n}" for n in range(len(values))], values])
    sheet["F2"].number_format = "0.0%"
    row = loaded(workbook, tmp_path).blocks[1].text.split("\n")[2]
    assert row == "| 0.3 | 2026-03-01 | 2026-03-01 09:30:00 | 08:15:00 | TRUE | 12.5% | a\\|b |"


def test_merged_cells_and_captions(workbook: Any, tmp_path: Path) -> None:
    sheet = workbook.active
    fill(sheet, [["Ducks", None, None], ["where", "2024", None], ["lake", 1, 2], [None, 3, 4]])
    for merged in ("A1:C1", "B2:C2", "A3:A4"):
        sheet.merge_cells(merged)
    blocks = loaded(workbook, tmp_path).blocks
    assert [b.text for b in blocks[1:]] == [
        "Ducks",
        "| where | 2024 | 2024 |\n| --- | --- | --- |\n| lake | 1 | 2 |\n| lake | 3 | 4 |",
    ]


def test_tables_beside_each_other_part_but_forms_stay_whole(workbook: Any, tmp_path: Path) -> None:
    fill(workbook.active, [["a", "b"], [1, 2], [3, 4], [5, 6], [7, 8], [9, 10]])
    fill(workbook.active, [["x", "y"], [1, 2]], at="D3")
    form = workbook.create_sheet("Form")
    fill(
        form,
        [["Voltage", None, "kV", 130], ["Frequency", None, "Hz", 50], ["Phases", None, None, 3]],
    )
    tables = [b.text for b in loaded(workbook, tmp_path).blocks if b.kind is BlockKind.TABLE]
    assert tables[0].startswith("| a | b |\n")
    assert tables[1].startswith("| x | y |\n")
    assert tables[2].startswith("| Voltage | kV | 130 |\n")


def test_hidden_sheets_and_comments(workbook: Any, tmp_path: Path) -> None:
    sheet = workbook.active
    fill(sheet, [["a", "b"], [1, 2]])
    sheet["B2"].comment = Comment("which year?", "Jane")
    hidden = workbook.create_sheet("Secret")
    fill(hidden, [["password", "x"]])
    hidden.sheet_state = "hidden"
    parsed = loaded(workbook, tmp_path)
    assert parsed.blocks[-1].text == "Comment on B2 (Jane): which year?"
    assert "password" not in parsed.text
    assert parsed.warnings == ("Hidden sheets were left out: Secret.",)


@pytest.mark.timeout(60)
def test_a_claimed_million_rows_do_not_hang(workbook: Any, tmp_path: Path) -> None:
    sheet = workbook.active
    fill(sheet, [["a", "b"], [1, 2]])
    sheet.cell(1_048_576, 1, "the end")
    path = tmp_path / "book.xlsx"
    workbook.save(path)
    claimed = tmp_path / "claimed.xlsx"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(claimed, "w") as target:
        for name in source.namelist():
            content = source.read(name).replace(b'ref="A1:B1048576"', b'ref="A1:XFD1048576"')
            target.writestr(name, content)
    assert load(claimed, LIMITS).text.endswith("the end")


def test_too_many_characters_stop_early(workbook: Any, tmp_path: Path) -> None:
    fill(workbook.active, [["words " * 100] * 2] * 20)
    with pytest.raises(DocumentTooLarge):
        loaded(workbook, tmp_path, LoadLimits(10_000_000, 5_000, 200))
