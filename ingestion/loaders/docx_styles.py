"""What a Word paragraph is (heading, list item, code), from its own properties and its style."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ingestion.loaders.ooxml import WORD

_W = f"{{{WORD}}}"
_HEADING_NAME = re.compile(r"heading ([1-9])")
_CONTENTS_NAME = re.compile(r"toc [1-9]|table of figures")
_CODE_NAMES = frozenset({"code", "source code", "html preformatted", "preformatted text", "macro"})
_BODY_LEVEL = 9
"""Word's outline level for "not a heading"; 0 to 8 are headings."""


@dataclass(frozen=True, slots=True)
class Style:
    """`level` is a heading's (from 1, 0 for none); `list_id` "" means no list."""

    level: int = 0
    list_id: str = ""
    list_level: int = 0
    is_title: bool = False
    is_code: bool = False
    is_contents: bool = False


class Styles:
    """The paragraph styles of a document; each takes from those that it is based on."""

    def __init__(self, root: Any | None) -> None:
        self._elements: dict[str, Any] = {}
        self._default = ""
        for element in [] if root is None else root.iterchildren(f"{_W}style"):
            if element.get(f"{_W}type") == "paragraph":
                self._elements[element.get(f"{_W}styleId", "")] = element
                if element.get(f"{_W}default") in ("1", "true"):
                    self._default = element.get(f"{_W}styleId", "")

    def of(self, paragraph: Any) -> Style:
        properties = paragraph.find(f"{_W}pPr")
        style_id = _value(properties, "pStyle") or self._default
        chain = list(self._chain(style_id))
        names = [_value(element, "name").lower() for element in chain]
        holders = [properties, *(element.find(f"{_W}pPr") for element in chain)]
        list_id, list_level = self._list(holders, style_id)
        return Style(
            level=_level(holders, names),
            list_id=list_id,
            list_level=list_level,
            is_title=names[:1] == ["title"],
            is_code=any(name in _CODE_NAMES for name in names),
            is_contents=any(_CONTENTS_NAME.fullmatch(name) for name in names),
        )

    def _chain(self, style_id: str) -> Iterator[Any]:
        seen: set[str] = set()
        while style_id in self._elements and style_id not in seen:
            seen.add(style_id)
            element = self._elements[style_id]
            yield element
            style_id = _value(element, "basedOn")

    def _list(self, holders: list[Any], style_id: str) -> tuple[str, int]:
        numberings = [h.find(f"{_W}numPr") for h in holders if h is not None]
        present = [n for n in numberings if n is not None]
        list_id = next((value for n in present if (value := _value(n, "numId"))), "")
        level = next((value for n in present if (value := _value(n, "ilvl"))), "0")
        # The number 0 takes a paragraph out of the list that its style is in.
        return ("" if list_id == "0" else list_id), int(level) if level.isdecimal() else 0


def _level(holders: list[Any], names: list[str]) -> int:
    for holder in holders:
        outline = _value(holder, "outlineLvl")
        if outline.isdecimal():
            return int(outline) + 1 if int(outline) < _BODY_LEVEL else 0
    for name in names:
        if match := _HEADING_NAME.fullmatch(name):
            return int(match[1])
    return 1 if names[:1] == ["title"] else 0


def _value(element: Any | None, name: str) -> str:
    found = None if element is None else element.find(f"{_W}{name}")
    return "" if found is None else str(found.get(f"{_W}val", ""))
