"""The text lines of a PDF page with their place and size, as pdfium sees them.

The order is that of the page's content stream, which is the reading order in nearly all PDFs;
sorting by place breaks columns more often than it mends anything.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_LINE_ENDS = frozenset("\r\n")
_HYPHEN_AT_LINE_END = "\x02"
"""pdfium's mark for it; the next line follows without any other line end."""
_UPRIGHT = 0.2
"""Radians that a line may lean before it counts as turned (a stamp in the margin, a watermark)."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line on page `page` (from 1). Places are in points from the top left of the page as it
    is shown; `size` is the height of its font's line, about 1.2 times the font size."""

    text: str
    page: int
    left: float
    top: float
    right: float
    bottom: float
    size: float
    bold: bool = False
    upright: bool = True

    @property
    def middle(self) -> tuple[float, float]:
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2


@dataclass(frozen=True, slots=True)
class View:
    """How a page is shown: the visible part of PDF space in points, and quarter turns clockwise."""

    left: float
    bottom: float
    right: float
    top: float
    turns: int

    @property
    def shown_height(self) -> float:
        return self.right - self.left if self.turns % 2 else self.top - self.bottom

    def place(self, x: float, y: float) -> tuple[float, float]:
        """From PDF space (up from the bottom left) to the page as it is shown (down from the top)."""
        if self.turns == 1:
            return y - self.bottom, x - self.left
        if self.turns == 2:
            return self.right - x, y - self.bottom
        if self.turns == 3:
            return self.top - y, self.right - x
        return x - self.left, self.top - y


def page_view(page: Any) -> View:
    left, bottom, right, top = page.get_cropbox()
    return View(
        left, bottom, max(right, left + 1), max(top, bottom + 1), page.get_rotation() // 90 % 4
    )


def read_lines(textpage: Any, view: View, number: int) -> Iterator[Line]:
    """The lines of a page, blank ones left out."""
    import pypdfium2.raw as pdfium

    count = textpage.count_chars()
    characters = [chr(pdfium.FPDFText_GetUnicode(textpage.raw, index)) for index in range(count)]
    for start, end in _spans(characters):
        visible = [index for index in range(start, end) if not characters[index].isspace()]
        if visible:
            text = "".join(characters[start:end]).replace(_HYPHEN_AT_LINE_END, "-").strip()
            yield _measured(textpage, view, number, text, visible)


def _spans(characters: list[str]) -> Iterator[tuple[int, int]]:
    start = 0
    for index, character in enumerate(characters):
        if character in _LINE_ENDS:
            yield start, index
            start = index + 1
        elif character == _HYPHEN_AT_LINE_END:
            yield start, index + 1
            start = index + 1
    yield start, len(characters)


def _measured(textpage: Any, view: View, number: int, text: str, visible: list[int]) -> Line:
    """Three characters say enough about a line; measuring all of them would take ten times as long."""
    import pypdfium2.raw as pdfium

    measured = sorted({visible[0], visible[len(visible) // 2], visible[-1]})
    boxes = [_box(textpage, view, index) for index in measured]
    angle = pdfium.FPDFText_GetCharAngle(textpage.raw, measured[0]) + view.turns * math.pi / 2
    turned = abs(math.remainder(angle, 2 * math.pi))
    return Line(
        text=text,
        page=number,
        left=min(box[0] for box in boxes),
        top=min(box[1] for box in boxes),
        right=max(box[2] for box in boxes),
        bottom=max(box[3] for box in boxes),
        size=max(box[3] - box[1] for box in boxes),
        bold=all(_is_bold(textpage, index) for index in measured),
        upright=turned < _UPRIGHT,
    )


def _box(textpage: Any, view: View, index: int) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a character's place in its line, whatever its own shape."""
    import pypdfium2.raw as pdfium

    rectangle = pdfium.FS_RECTF()
    pdfium.FPDFText_GetLooseCharBox(textpage.raw, index, rectangle)
    x1, y1 = view.place(rectangle.left, rectangle.top)
    x2, y2 = view.place(rectangle.right, rectangle.bottom)
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


_BOLD_WEIGHT = 600
_BOLD_NAME = re.compile(rb"bold|-bd|black|heavy|medi\b|demi|bx\d|simhei", re.IGNORECASE)
_FONT_NAME_BYTES = 128


def _is_bold(textpage: Any, index: int) -> bool:
    """By the font's weight or, as many fonts do not say it, by its name."""
    import ctypes

    import pypdfium2.raw as pdfium

    if pdfium.FPDFText_GetFontWeight(textpage.raw, index) >= _BOLD_WEIGHT:
        return True
    name = ctypes.create_string_buffer(_FONT_NAME_BYTES)
    flags = ctypes.c_int()
    length = pdfium.FPDFText_GetFontInfo(textpage.raw, index, name, _FONT_NAME_BYTES, flags)
    return 0 < length <= _FONT_NAME_BYTES and bool(_BOLD_NAME.search(name.value))
