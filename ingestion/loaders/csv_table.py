"""CSV and its kin: one table, in blocks that each repeat the header row."""

import csv
import io
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Literal

from ingestion.loaders.blocks import table_blocks, title_of
from ingestion.loaders.encoding import decode
from ingestion.loaders.limits import LoadLimits
from ingestion.loaders.registry import CSV
from kb.errors import UnreadableDocument
from kb.types import FailureCategory, ParsedDocument

_DELIMITERS = ",;\t|"
_BY_SUFFIX = {".tsv": "\t", ".tab": "\t", ".psv": "|"}
_PROBED_CHARACTERS = 64 * 1024
_PROBED_ROWS = 100

_RUNAWAY_LINES = 500
"""Line ends within one cell beyond which a quotation mark was not meant as one."""


def load(path: Path, limits: LoadLimits) -> ParsedDocument:
    """Raises UnreadableDocument (BROKEN) where the table cannot be cut into cells."""
    decoded = decode(path.read_bytes())
    text = decoded.text.replace("\0", "").lstrip("\ufeff")
    first, _, rest = text.partition("\n")
    delimiter = _BY_SUFFIX.get(path.suffix.lower()) or find_delimiter(text)
    if first.strip().lower().startswith("sep=") and len(first.strip()) == 5:
        delimiter, text = first.strip()[4], rest
    rows, warnings = _rows(text, delimiter, limits)
    header = rows[0] if rows else []
    return ParsedDocument(
        title_of(path),
        tuple(table_blocks(header, rows[1:])),
        CSV.media_type,
        decoded.warnings() + warnings,
    )


def find_delimiter(text: str) -> str:
    """The delimiter under which most of the first rows have the same number of cells, at least two.

    csv.Sniffer raises on a single column and guesses letters as delimiters, so it is not asked.
    """
    probe = io.StringIO(text[:_PROBED_CHARACTERS], newline="")
    best, best_agreement = ",", (0.0, 0)
    for delimiter in _DELIMITERS:
        probe.seek(0)
        widths = _widths(csv.reader(probe, delimiter=delimiter))
        if not widths:
            continue
        width, rows = widths.most_common(1)[0]
        agreement = (rows / widths.total(), width)
        if width > 1 and agreement > best_agreement:
            best, best_agreement = delimiter, agreement
    return best


def _widths(reader: Iterable[list[str]]) -> Counter[int]:
    widths: Counter[int] = Counter()
    try:
        widths.update(len(row) for row in islice(reader, _PROBED_ROWS) if row)
    except csv.Error:
        return widths  # what came before the unreadable row still counts
    return widths


def _rows(text: str, delimiter: str, limits: LoadLimits) -> tuple[list[list[str]], tuple[str, ...]]:
    # A setting of the whole process: the module has no other way to allow long cells.
    csv.field_size_limit(limits.max_characters)
    try:
        rows = _read(text, delimiter, csv.QUOTE_MINIMAL)
        if not any(cell.count("\n") > _RUNAWAY_LINES for row in rows for cell in row):
            return rows, ()
        rows = _read(text, delimiter, csv.QUOTE_NONE)
    except csv.Error as error:
        raise UnreadableDocument(
            f"The table cannot be read: {error}. Open it in a spreadsheet and save it again.",
            FailureCategory.BROKEN,
        ) from error
    return rows, ("A quotation mark is never closed: quotation marks were read as text.",)


def _read(text: str, delimiter: str, quoting: Literal[0, 3]) -> list[list[str]]:
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, skipinitialspace=True
    )
    return [row for row in reader if any(cell.strip() for cell in row)]
