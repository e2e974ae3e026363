"""From the lines of a PDF to headings, paragraphs and lists. Pure: no pdfium here."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ingestion.loaders.blocks import bullet_list, heading, one_line, paragraph
from ingestion.loaders.pdf_lines import Line
from kb.types import Block

_MARGIN = 0.12
"""Share of the page's height at its top and bottom where running lines are looked for."""
_REPEATED_ON = 0.5
_FEWEST_PAGES = 3
"""Running lines stand on at least this share of the pages (left and right ones may differ), and
only in documents of so many pages."""

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
_PAGE_NUMBER = re.compile(
    r"(page|seite|p\.)?[\s\-–—|·]*(\d+|[ivxlc]+)[\s\-–—|·]*((/|of|von)\s*\d+)?|第\s*\d+\s*页(\s*共\s*\d+\s*页)?",
    re.IGNORECASE,
)
_BULLET = re.compile(r"[•‣◦▪●○■□➢✓*–-]\s+|\uf0b7\s*|\uf0a7\s*")
_NUMBERED = re.compile(
    r"(\(?\d{1,3}[.)、]|\(?[a-zA-Z][.)]|[（(][一二三四五六七八九十]+[)）])\s*(?=\S)"
)
_SENTENCE_END = re.compile(r"[.!?:;。！？：；…][\"'”’)\]）」』]*$")
_CJK = re.compile("[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")


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
    if len(pages) < _FEWEST_PAGES:
        return list(pages)
    places = Counter(
        place
        for lines, height in zip(pages, heights, strict=True)
        for place in {_place(line, height) for line in lines if _in_margin(line, height)}
    )
    needed = max(_FEWEST_PAGES, _REPEATED_ON * len(pages) / 2)
    running = {place for place, count in places.items() if count >= needed}
    return [
        [line for line in lines if not _is_running(line, height, running)]
        for lines, height in zip(pages, heights, strict=True)
    ]


def _in_margin(line: Line, height: float) -> bool:
    return line.bottom < height * _MARGIN or line.top > height * (1 - _MARGIN)


def _place(line: Line, height: float) -> tuple[str, int]:
    return _DIGITS.sub("#", line.text), round(20 * line.top / height)


def _is_running(line: Line, height: float, running: set[tuple[str, int]]) -> bool:
    if not _in_margin(line, height):
        return False
    return _place(line, height) in running or bool(_PAGE_NUMBER.fullmatch(line.text))


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
    if line.upright != last.upright or line.bold != last.bold and len(group) == 1 and last.bold:
        return False
    if abs(line.size - last.size) > _SAME_SIZE * max(line.size, last.size) and not _is_same_row(
        last, line
    ):
        return False
    if _is_same_row(last, line):
        return True
    gap = line.top - last.bottom
    height = max(line.size, last.size)
    if gap > _WIDEST_GAP * height or gap < -height or _is_item(line.text):
        return False
    if line.left > last.right or line.right < min(member.left for member in group):
        return False
    return not _ends_paragraph(group, line, height)


def _is_same_row(last: Line, line: Line) -> bool:
    overlap = min(last.bottom, line.bottom) - max(last.top, line.top)
    return overlap > 0.5 * min(last.size, line.size) and line.left >= last.left


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


# --- Text -------------------------------------------------------------------------------------


def joined(lines: Sequence[str], vocabulary: frozenset[str]) -> str:
    """One flowing text: words cut at line ends made whole, no spaces between Chinese characters."""
    text = ""
    for line in lines:
        if not text:
            text = line
        elif text.endswith("-") and line[:1].islower() and text[-2:-1].isalpha():
            text = _without_hyphen(text, line, vocabulary)
        elif _CJK.match(text[-1]) and _CJK.match(line):
            text += line
        else:
            text = f"{text} {line}"
    return text


def _without_hyphen(text: str, line: str, vocabulary: frozenset[str]) -> str:
    """The hyphen stays where the document knows the word with it ("chat-optimised"), or knows both
    halves as words but not the whole."""
    before = text.rsplit(maxsplit=1)[-1][:-1].lower()
    match = _WORD.match(line.lower())
    after = match[0] if match else ""
    whole = before + after in vocabulary
    halves = {f"{before}-{after}"} & vocabulary or {before, after} <= vocabulary
    return text + line if halves and not whole else text[:-1] + line


def vocabulary_of(pages: Iterable[Iterable[Line]]) -> frozenset[str]:
    """The words within lines; the last of a line may be half a word."""
    words: set[str] = set()
    for lines in pages:
        for line in lines:
            words.update(_WORD.findall(line.text.lower().rpartition(" ")[0]))
    return frozenset(words)


# --- Blocks -----------------------------------------------------------------------------------


def body_size(pages: Iterable[Iterable[Line]]) -> float:
    """The size of most characters."""
    sizes: Counter[float] = Counter()
    for lines in pages:
        for line in lines:
            sizes[round(line.size, 1)] += len(line.text)
    return sizes.most_common(1)[0][0] if sizes else 0.0


def heading_levels(groups: Iterable[Group], body: float) -> dict[float, int]:
    """Level by size: the largest is 1; sizes of body text have none."""
    sizes = sorted({round(group.size) for group in groups if _is_large(group, body)}, reverse=True)
    return {float(size): min(level, 4) for level, size in enumerate(sizes, start=1)}


def _is_large(group: Group, body: float) -> bool:
    length = sum(len(line.text) for line in group.lines)
    words = any(character.isalpha() for line in group.lines for character in line.text)
    upright = group.lines[0].upright
    return upright and words and length <= _LONGEST_HEADING and group.size >= body * _HEADING_SIZE


def laid_out(
    groups: Iterable[Group],
    body: float,
    outline: Mapping[tuple[str, int], int],
    vocabulary: frozenset[str],
) -> Iterator[Block]:
    """Blocks in the order of `groups`. `outline` gives a level by (heading's key, page)."""
    groups = list(groups)
    levels = heading_levels((g for g in groups if g.lines and not g.table), body)
    items: list[str] = []
    page = 0
    for group in groups:
        text = "" if group.table else joined([line.text for line in group.lines], vocabulary)
        is_item = bool(_BULLET.match(text))
        if items and (not is_item or group.lines[0].page != page):
            yield bullet_list(items, page)
            items = []
        page = group.lines[0].page if group.lines else page
        if group.table:
            yield from group.table
        elif is_item:
            items.append("- " + one_line(_BULLET.sub("", text, count=1)))
        else:
            level = _level(group, text, body, levels, outline)
            yield heading(text, level, page) if level else paragraph(text, page)
    if items:
        yield bullet_list(items, page)


def _level(
    group: Group,
    text: str,
    body: float,
    levels: Mapping[float, int],
    outline: Mapping[tuple[str, int], int],
) -> int:
    """1 to 6 for a heading, else 0. The outline knows best; then size; then a short bold line."""
    if level := outline.get((heading_key(text), group.lines[0].page)):
        return level
    if _is_large(group, body):
        return levels.get(float(round(group.size)), 4)
    is_short = len(text) <= _LONGEST_HEADING / 2 and len(group.lines) <= 2
    if group.bold and is_short and text[:1].isalnum() and not _SENTENCE_END.search(text):
        return min(max(levels.values(), default=0) + 1, 6)
    return 0


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
        _CJK.match(first.text) and _CJK.match(last.text[-1])
    )
    return (
        moved_up
        and is_body
        and first.upright
        and last.upright
        and starts_inside
        and not _SENTENCE_END.search(last.text)
    )
