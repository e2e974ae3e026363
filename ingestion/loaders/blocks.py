"""Building blocks that every loader shares: clean text, tables as Markdown, titles."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from kb.types import Block, BlockKind

TABLE_ROWS_PER_BLOCK = 40
"""Rows of one table block. A longer table becomes several, each with the header row, so that a
passage cut from the middle still says what its columns mean."""

MAX_HEADING_CHARACTERS = 300
"""A longer "heading" is body text that was only styled as one."""

_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
# Controls, lone surrogates, non-characters, and what is invisible in running text: soft hyphen,
# zero-width space, word joiner, byte order mark. The zero-width joiners stay: scripts need them.
_UNWANTED = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u200b\u2060\ufeff\ud800-\udfff\ufffe\uffff]"
)
# Single spaces are left alone: replacing each by itself takes most of the time on long texts.
_SPACES = re.compile(r"[^\S\n]{2,}|[^\S\n ]")
_BLANK_LINES = re.compile(r"\n[^\S\n]*(?:\n[^\S\n]*)+")


def clean(text: str) -> str:
    """Valid, encodable Unicode with \\n line ends, without control characters and outer blank lines."""
    text = _LINE_ENDS.sub("\n", text)
    text = _UNWANTED.sub("", text)
    return text.strip("\n").rstrip()


def one_line(text: str) -> str:
    """The text with every run of white space as one space."""
    return " ".join(clean(text).split())


def flowing(text: str) -> str:
    """Text whose line ends mean something, but whose other spaces do not; no blank lines."""
    text = _SPACES.sub(" ", clean(text))
    return "\n".join(line.strip() for line in _BLANK_LINES.sub("\n", text).split("\n")).strip()


def heading(text: str, level: int, page: int | None = None) -> Block:
    """A heading of level 1 to 6 (others are moved into that range), or a paragraph if far too long."""
    words = one_line(text)
    if len(words) > MAX_HEADING_CHARACTERS:
        return Block(words, BlockKind.PARAGRAPH, 0, page)
    return Block(words, BlockKind.HEADING, min(max(level, 1), 6), page)


def paragraph(text: str, page: int | None = None) -> Block:
    return Block(flowing(text), BlockKind.PARAGRAPH, 0, page)


def code(text: str, page: int | None = None) -> Block:
    """Code keeps its indentation and blank lines."""
    return Block(clean(text), BlockKind.CODE, 0, page)


def bullet_list(lines: Iterable[str], page: int | None = None) -> Block:
    """`lines` are Markdown list lines, indented two spaces a level."""
    return Block("\n".join(line.rstrip() for line in lines), BlockKind.LIST, 0, page)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first row is the header.

    Short rows are filled up. Pipes and backslashes before them are escaped, line ends become
    spaces. No rows, or rows of blank cells only, give an empty string.
    """
    width = max((len(row) for row in rows), default=0)
    if not any(cell.strip() for row in rows for cell in row):
        return ""
    lines = [_table_line(row, width) for row in rows]
    lines.insert(1, "|" + " --- |" * width)
    return "\n".join(lines)


def _table_line(row: Sequence[str], width: int) -> str:
    cells = [_table_cell(cell) for cell in row] + [""] * (width - len(row))
    return "| " + " | ".join(cells) + " |"


def _table_cell(text: str) -> str:
    return one_line(text).replace("\\|", "\\\\|").replace("|", "\\|")


def table_blocks(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    page: int | None = None,
    rows_per_block: int = TABLE_ROWS_PER_BLOCK,
) -> Iterator[Block]:
    """Table blocks of at most `rows_per_block` rows below a repeated header. Blank rows are dropped."""
    body = iter([row for row in rows if any(cell.strip() for cell in row)])
    part = list(islice(body, rows_per_block))
    if not part and any(cell.strip() for cell in header):
        yield Block(markdown_table([header]), BlockKind.TABLE, 0, page)
    while part:
        yield Block(markdown_table([header, *part]), BlockKind.TABLE, 0, page)
        part = list(islice(body, rows_per_block))


def title_of(path: Path, *candidates: str | None) -> str:
    """The first candidate with words in it, else the file's name without its suffix."""
    for candidate in candidates:
        if candidate and (title := one_line(candidate)):
            return title[:MAX_HEADING_CHARACTERS]
    return one_line(path.stem) or path.name


def first_heading(blocks: Iterable[Block]) -> str | None:
    """The text of the first heading of level 1."""
    return next(
        (block.text for block in blocks if block.kind is BlockKind.HEADING and block.level == 1),
        None,
    )
