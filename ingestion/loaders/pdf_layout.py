"""From the lines of a PDF to headings, paragraphs and lists. Pure: no pdfium here."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ingestion.loaders.blocks import bullet_list, heading, one_line, paragraph
from ingestion.loaders.pdf_lines import Line
from ingestion.loaders.pdf_text import CJK, is_same_row, joined
from kb.types import Block

_MARGIN = 0.09
"""Share of the page's height at its top and bottom where running lines are looked for."""
_REPEATED_ON = 0.5
_FEWEST_PAGES = 3
"""Running lines stand on at least this share of the pages (left and right ones may differ), and
only in documents of so many pages."""

_BODY_SHARE = 0.2
_HEADING_SIZE = 1.15
"""A heading is this much larger than the body text."""
_SAME_SIZE = 0.08
_LONGEST_HEADING = 200
_WIDEST_GAP = 0.75
"""Gap between two lines of one paragraph at most, in line heights."""
_INDENT = 0.8
"""A first line is indented by at least so many line heights."""
_SHORT_LINE = 0.8
"""A line that fills less than this share of its paragraph's width may be its last."""

_DIGITS = re.compile(r"\d+")
_LABELLED = r"(?:page|seite|p\.)\s*\d+(?:\s*(?:/|of|von)\s*\d+)?|第\s*\d+\s*页(?:\s*[,，/]?\s*共\s*\d+\s*页)?"
_LABELLED_PAGE_NUMBER = re.compile(_LABELLED, re.IGNORECASE)
_PAGE_NUMBER = re.compile(
    rf"{_LABELLED}|[\-–—|·\s]*(?:\d+|[ivxlc]+)[\-–—|·\s]*(?:(?:/|of|von)\s*\d+)?", re.IGNORECASE
)
_BULLET = re.compile(r"[•‣◦▪●○■□➢✓*–-]\s+|\uf0b7\s*|\uf0a7\s*")
_NUMBERED = re.compile(
    r"(?:\(?\d{1,3}[.)、]|\(?[a-z]\))\s+(?=\S)|[（(][一二三四五六七八九十]+[)）]|[一二三四五六七八九十]+、"
)
_SENTENCE_END = re.compile(r"[.!?:;。！？：；…][\"'”’)\]）」』]*$")
_PRIVATE = re.compile("[\ue000-\uf8ff]")
"""Symbols of fonts of their own; nobody can say which."""
_MOST_BOLD = 0.4
"""Where more of the text is bold, bold does not make a heading."""


@dataclass(frozen=True, slots=True)
class Group:
    """Lines that belong together, or (`table` set) a table that stands in the flow of lines."""

    lines: tuple[Line, ...]
    table: tuple[Block, ...] = ()

    @property
    def size(self) -> float:
        return max(line.size for line in self.lines)

    @property
    def bold(self) -> bool:
        return all(line.bold for line in self.lines)


# --- Running headers and footers --------------------------------------------------------------


def without_running_lines(
    pages: Sequence[list[Line]], heights: Sequence[float]
) -> list[list[Line]]:
    """The pages without the lines that most of them repeat at the same place, and page numbers."""
    places = Counter(
        place
        for lines, height in zip(pages, heights, strict=True)
        for place in {_place(line, height) for line in lines if _in_margin(line, height)}
    )
    needed = max(_FEWEST_PAGES, _REPEATED_ON * len(pages) / 2)
    running = {place for place, count in places.items() if count >= needed}
    numbers = _PAGE_NUMBER if len(pages) > 1 else _LABELLED_PAGE_NUMBER
    return [
        [line for line in lines if not _is_running(line, height, running, numbers)]
        for lines, height in zip(pages, heights, strict=True)
    ]


def _in_margin(line: Line, height: float) -> bool:
    return line.bottom < height * _MARGIN or line.top > height * (1 - _MARGIN)


def _place(line: Line, height: float) -> tuple[str, int]:
    return _DIGITS.sub("#", line.text), round(20 * line.top / height)


def _is_running(
    line: Line, height: float, running: set[tuple[str, int]], numbers: re.Pattern[str]
) -> bool:
    if not _in_margin(line, height):
        return False
    return _place(line, height) in running or bool(numbers.fullmatch(line.text))


# --- Groups -----------------------------------------------------------------------------------


def grouped(lines: Iterable[Line]) -> Iterator[Group]:
    """Lines of one paragraph, heading or list item together."""
    group: list[Line] = []
    for line in lines:
        if group and not _continues(group, line):
            yield Group(tuple(group))
            group = []
        group.append(line)
    if group:
        yield Group(tuple(group))


def _continues(group: Sequence[Line], line: Line) -> bool:
    last = group[-1]
    if line.upright != last.upright:
        return False
    if (
        last.bold != line.bold
        and all(member.bold == last.bold for member in group)
        and not is_same_row(last, line)
    ):
        return False
    if abs(line.size - last.size) > _SAME_SIZE * max(line.size, last.size) and not is_same_row(
        last, line
    ):
        return False
    if is_same_row(last, line):
        return True
    gap = line.top - last.bottom
    height = max(line.size, last.size)
    if gap > _WIDEST_GAP * height or gap < -height or _is_item(line.text):
        return False
    if line.left > last.right or line.right < min(member.left for member in group):
        return False
    return not _ends_paragraph(group, line, height)


def _ends_paragraph(group: Sequence[Line], line: Line, height: float) -> bool:
    """By an indented first line, or by a short last line that ends a sentence."""
    left = min(member.left for member in group[1:] or group)
    right = max([line.right, *(member.right for member in group)])
    last = group[-1]
    if line.left > left + _INDENT * height and len(group) > 1 and not _is_item(group[0].text):
        return True
    is_short = last.right - left < _SHORT_LINE * (right - left)
    return is_short and bool(_SENTENCE_END.search(last.text))


def _is_item(text: str) -> bool:
    return bool(_BULLET.match(text) or _NUMBERED.match(text))


# --- Blocks -----------------------------------------------------------------------------------


def body_size(lines: Iterable[Line]) -> float:
    """The largest size that a good part of the text has: notes in small print may be longer."""
    sizes: Counter[float] = Counter()
    for line in lines:
        sizes[round(line.size * 2) / 2] += len(line.text)
    return max((s for s, n in sizes.items() if n >= _BODY_SHARE * sizes.total()), default=0.0)


def heading_levels(groups: Iterable[Group], body: float) -> dict[float, int]:
    """Level by size: the largest is 1; sizes of body text have none."""
    sizes = sorted({round(group.size) for group in groups if _is_large(group, body)}, reverse=True)
    return {float(size): min(level, 4) for level, size in enumerate(sizes, start=1)}


def _is_large(group: Group, body: float) -> bool:
    length = sum(len(line.text) for line in group.lines)
    words = any(character.isalpha() for line in group.lines for character in line.text)
    upright = group.lines[0].upright
    return upright and words and length <= _LONGEST_HEADING and group.size >= body * _HEADING_SIZE


@dataclass(frozen=True, slots=True)
class Typography:
    """What tells headings from text in one document. `outline` gives a level by (key, page)."""

    body: float
    levels: Mapping[float, int]
    bold_means_heading: bool
    outline: Mapping[tuple[str, int], int]

    def level(self, group: Group, text: str) -> int:
        """1 to 6 for a heading, else 0. The outline knows best; then size; then a short bold line."""
        if level := self.outline.get((heading_key(text), group.lines[0].page)):
            return level
        if _is_large(group, self.body):
            return self.levels.get(float(round(group.size)), 4)
        is_short = len(text) <= _LONGEST_HEADING / 2 and len(group.lines) <= 2
        starts_well = text[:1].isalnum() and not _SENTENCE_END.search(text)
        if self.bold_means_heading and group.bold and is_short and starts_well:
            return min(max(self.levels.values(), default=0) + 1, 6)
        return 0


def typography(groups: Iterable[Group], outline: Mapping[tuple[str, int], int]) -> Typography:
    flowing = [group for group in groups if not group.table]
    lines = [line for group in flowing for line in group.lines]
    body = body_size(lines)
    bold = sum(len(line.text) for line in lines if line.bold)
    few_are_bold = bold < _MOST_BOLD * sum(len(line.text) for line in lines)
    return Typography(body, heading_levels(flowing, body), few_are_bold, outline)


def laid_out(
    groups: Iterable[Group], style: Typography, vocabulary: frozenset[str]
) -> Iterator[Block]:
    """Blocks in the order of `groups`."""
    items: list[str] = []
    page = 0
    for group in groups:
        text = "" if group.table else joined(group.lines, vocabulary)
        bullet = _BULLET.match(text)
        text = _PRIVATE.sub("", text[bullet.end() :] if bullet else text).strip()
        if items and (not bullet or group.lines[0].page != page):
            yield bullet_list(items, page)
            items = []
        page = group.lines[0].page
        if group.table:
            yield from group.table
        elif bullet and text:
            items.append(f"- {one_line(text)}")
        elif text:
            level = style.level(group, text)
            yield heading(text, level, page) if level else paragraph(text, page)
    if items:
        yield bullet_list(items, page)


def heading_key(text: str) -> str:
    """What outline entries and headings are compared by: letters alone, as numbers may be left out."""
    return "".join(character for character in text.lower() if character.isalpha())


def across_pages(groups: Sequence[Group], body: float) -> list[Group]:
    """Paragraphs that a page or column end cuts in two made whole, at the place of their start."""
    whole: list[Group] = []
    for group in groups:
        if whole and _goes_on(whole[-1], group, body):
            whole[-1] = replace(whole[-1], lines=whole[-1].lines + group.lines)
        else:
            whole.append(group)
    return whole


def _goes_on(group: Group, following: Group, body: float) -> bool:
    if group.table or following.table or not (group.lines and following.lines):
        return False
    last, first = group.lines[-1], following.lines[0]
    moved_up = first.page > last.page or first.top < last.top - body
    is_body = (
        abs(last.size - first.size) <= _SAME_SIZE * body
        and abs(last.size - body) <= _SAME_SIZE * body
    )
    starts_inside = first.text[:1].islower() or bool(
        CJK.match(first.text) and CJK.match(last.text[-1])
    )
    return (
        moved_up
        and is_body
        and first.upright
        and last.upright
        and starts_inside
        and not _SENTENCE_END.search(last.text)
    )
