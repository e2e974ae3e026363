"""PDF files through pdfium: text in reading order, headings by outline and size, ruled tables.

pdfium is native code that reads hostile files: this runs in a parsing process that may die, never
in the server itself.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingestion.loaders.blocks import title_of
from ingestion.loaders.limits import LoadLimits
from ingestion.loaders.pdf_layout import (
    Group,
    across_pages,
    grouped,
    heading_key,
    laid_out,
    typography,
    without_running_lines,
)
from ingestion.loaders.pdf_lines import Line, page_view, read_lines
from ingestion.loaders.pdf_tables import Table, read_tables
from ingestion.loaders.pdf_text import vocabulary_of
from ingestion.loaders.registry import PDF
from kb.errors import DocumentTooLarge, UnreadableDocument
from kb.types import Block, BlockKind, FailureCategory, ParsedDocument

MAX_PAGES = 10_000

_OCR = "It seems to be scanned: run text recognition on it first (for instance `ocrmypdf in.pdf out.pdf`)."
_UNDECODED = re.compile("[\ufffd\ue000-\uf8ff]")
_MOST_UNDECODED = 0.3
_NAMED_PAGES = 10

# What programs write as title when nobody gave one.
_PROGRAM_PREFIX = re.compile(r"^(microsoft (word|powerpoint|excel) - |print: )", re.IGNORECASE)
_NO_TITLE = re.compile(
    r"untitled.*|\(?anonymous\)?|document\d*|powerpoint presentation|slide \d+"
    r"|.*\.(docx?|pptx?|xlsx?|indd|tex|dvi|qxd|pdf|ps)",
    re.IGNORECASE,
)


@dataclass(slots=True)
class _Pages:
    """What was read of all pages: lines, shown heights in points, and tables, page by page."""

    lines: list[list[Line]] = field(default_factory=list)
    heights: list[float] = field(default_factory=list)
    tables: list[list[Table]] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)

    @property
    def without_text(self) -> list[int]:
        numbered = enumerate(self.lines, start=1)
        return [n for n, lines in numbered if not lines and n not in self.damaged]


def load(path: Path, limits: LoadLimits) -> ParsedDocument:
    """Raises UnreadableDocument (ENCRYPTED, BROKEN, NO_TEXT) and DocumentTooLarge."""
    document = _open(path)
    try:
        pages = _read_pages(document, limits)
        _check_text(pages)
        outline = _outline(document)
        title = document.get_metadata_value("Title")
    finally:
        document.close()
    groups = list(_groups(pages))
    style = typography(groups, outline)
    whole = across_pages(groups, style.body)
    blocks = tuple(laid_out(whole, style, vocabulary_of(pages.lines)))
    titles = (_sensible(title), _largest_on_first_page(blocks))
    return ParsedDocument(title_of(path, *titles), blocks, PDF.media_type, tuple(_warnings(pages)))


def _open(path: Path) -> Any:
    """An empty user password (a PDF that may be read but not changed) is tried by pdfium itself."""
    import pypdfium2
    import pypdfium2.raw as pdfium

    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        if error.err_code in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY):
            raise UnreadableDocument(
                "The PDF is protected with a password. Save a copy without it.",
                FailureCategory.ENCRYPTED,
            ) from error
        raise UnreadableDocument(
            f"The PDF is damaged: {str(error).rstrip('.')}. Copy or export it again.",
            FailureCategory.BROKEN,
        ) from error
    if len(document) > MAX_PAGES:
        pages = len(document)
        document.close()
        raise DocumentTooLarge(
            f"The PDF has {pages:,} pages; at most {MAX_PAGES:,} are read. Split it."
        )
    return document


# --- Reading ----------------------------------------------------------------------------------


def _read_pages(document: Any, limits: LoadLimits) -> _Pages:
    import pypdfium2

    pages = _Pages()
    characters = 0
    for index in range(len(document)):
        try:
            lines, height, tables = _read_page(document, index)
        except pypdfium2.PdfiumError:  # one damaged page costs that page; a warning names it
            lines, height, tables = [], 1.0, []
            pages.damaged.append(index + 1)
        pages.lines.append(lines)
        pages.heights.append(height)
        pages.tables.append(tables)
        characters += sum(len(line.text) for line in lines)
        if characters > limits.max_characters:
            raise DocumentTooLarge(
                f"The first {index + 1:,} pages hold more than {limits.max_characters:,} characters. "
                "Split the PDF, or raise KB_INGEST__MAX_CHARACTERS."
            )
    return pages


def _read_page(document: Any, index: int) -> tuple[list[Line], float, list[Table]]:
    page = document[index]
    try:
        view = page_view(page)
        textpage = page.get_textpage()
        try:
            lines = list(read_lines(textpage, view, index + 1))
            tables = read_tables(page, textpage, view, lines)
        finally:
            textpage.close()
    finally:
        page.close()
    return lines, view.shown_height, tables


def _check_text(pages: _Pages) -> None:
    text = "".join(line.text for lines in pages.lines for line in lines)
    if not text:
        if len(pages.damaged) == len(pages.lines):
            raise UnreadableDocument(
                "No page of the PDF can be read. Export it again.", FailureCategory.BROKEN
            )
        raise UnreadableDocument(f"The PDF holds no text. {_OCR}", FailureCategory.NO_TEXT)
    if len(_UNDECODED.findall(text)) > _MOST_UNDECODED * len(text):
        raise UnreadableDocument(
            "The text of the PDF can't be decoded, as its fonts do not say which letters they hold. "
            "Run text recognition on it (for instance `ocrmypdf --force-ocr in.pdf out.pdf`).",
            FailureCategory.NO_TEXT,
        )


def _warnings(pages: _Pages) -> Iterator[str]:
    if pages.without_text:
        yield f"No text on {_page_names(pages.without_text)}. {_OCR}"
    if pages.damaged:
        yield f"Damaged and left out: {_page_names(pages.damaged)}."


def _page_names(numbers: Sequence[int]) -> str:
    named = ", ".join(map(str, numbers[:_NAMED_PAGES]))
    more = len(numbers) - _NAMED_PAGES
    return (
        ("page " if len(numbers) == 1 else "pages ")
        + named
        + (f" and {more} more" if more > 0 else "")
    )


# --- Structure --------------------------------------------------------------------------------


def _groups(pages: _Pages) -> Iterator[Group]:
    """The groups of all pages; a table stands where the first of its lines stood."""
    for lines, tables in zip(
        without_running_lines(pages.lines, pages.heights), pages.tables, strict=True
    ):
        flow: list[Line] = []
        pending = list(tables)
        for line in lines:
            table = next((table for table in tables if table.holds(line)), None)
            if table is None:
                flow.append(line)
            elif table in pending:
                pending.remove(table)
                yield from grouped(flow)
                flow = []
                yield Group((line,), table.blocks)
        yield from grouped(flow)


def _outline(document: Any) -> dict[tuple[str, int], int]:
    """Bookmarks as (key of the title, page from 1) to level from 1."""
    outline: dict[tuple[str, int], int] = {}
    for bookmark in document.get_toc():
        destination = bookmark.get_dest()
        index = destination.get_index() if destination else None
        if index is not None and (key := heading_key(bookmark.get_title())):
            outline.setdefault((key, index + 1), min(bookmark.level + 1, 6))
    return outline


def _sensible(title: str) -> str:
    title = _PROGRAM_PREFIX.sub("", title.strip())
    return "" if len(title) < 3 or _NO_TITLE.fullmatch(title) else title


def _largest_on_first_page(blocks: Sequence[Block]) -> str:
    """The largest heading on page 1, which is the title of most papers and manuals."""
    headings = [block for block in blocks if block.page == 1 and block.kind is BlockKind.HEADING]
    return min(headings, key=lambda block: block.level).text if headings else ""
