"""The numbers that Word counts by itself ("1.2", "b)", "第三条"): they are not in the text."""

import re
from dataclasses import dataclass, field
from typing import Any

from ingestion.loaders.ooxml import WORD

BULLET = "-"
_LEVELS = 9
_PLACEHOLDER = re.compile(r"%([1-9])")
_ROMAN = (
    (1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"),
    (50, "l"), (40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"),
)  # fmt: skip
_CHINESE_DIGITS = "〇一二三四五六七八九"
_CHINESE_FORMATS = frozenset(
    {"chineseCounting", "chineseCountingThousand", "japaneseCounting", "taiwaneseCounting",
     "taiwaneseCountingThousand", "ideographDigital", "koreanCounting"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Level:
    """How one level of a list is written: a number format, a pattern such as "%1.%2", a start."""

    number_format: str = "decimal"
    pattern: str = ""
    start: int = 1


@dataclass(slots=True)
class Numbering:
    """The lists of a document and how far each is counted; paragraphs must come in their order."""

    lists: dict[str, tuple[str, dict[int, Level]]]
    _counts: dict[str, list[int | None]] = field(default_factory=dict)

    def marker(self, list_id: str, level: int) -> str | None:
        """The next marker of that list: BULLET, a number, or None where no such list exists."""
        if list_id not in self.lists or not 0 <= level < _LEVELS:
            return None
        counter, levels = self.lists[list_id]
        counts = self._counts.setdefault(counter, [None] * _LEVELS)
        definition = levels.get(level, Level())
        count = counts[level]
        counts[level] = definition.start if count is None else count + 1
        counts[level + 1 :] = [None] * (_LEVELS - level - 1)
        if definition.number_format == "bullet":
            return BULLET
        return _PLACEHOLDER.sub(
            lambda match: _number(levels, counts, int(match[1]) - 1), definition.pattern
        ).strip()


def read_numbering(root: Any | None) -> Numbering:
    """From the root of numbering.xml; without one, no list exists."""
    if root is None:
        return Numbering({})
    abstract = {
        _attribute(element, "abstractNumId"): _levels(element)
        for element in root.iterchildren(_tag("abstractNum"))
    }
    lists: dict[str, tuple[str, dict[int, Level]]] = {}
    for element in root.iterchildren(_tag("num")):
        reference = element.find(_tag("abstractNumId"))
        abstract_id = "" if reference is None else _attribute(reference, "val")
        overrides = _overrides(element)
        own = f"{abstract_id}/{_attribute(element, 'numId')}" if overrides else abstract_id
        levels = abstract.get(abstract_id, {})
        lists[_attribute(element, "numId")] = (own, levels | _restarted(levels, overrides))
    return Numbering(lists)


def _tag(name: str) -> str:
    return f"{{{WORD}}}{name}"


def _attribute(element: Any, name: str) -> str:
    return str(element.get(_tag(name), ""))


def _value(element: Any, name: str, default: str) -> str:
    found = element.find(_tag(name))
    return default if found is None else _attribute(found, "val")


def _integer(text: str, default: int) -> int:
    return int(text) if text.isdecimal() else default


def _levels(abstract: Any) -> dict[int, Level]:
    return {
        _integer(_attribute(level, "ilvl"), 0): Level(
            _value(level, "numFmt", "decimal"),
            _value(level, "lvlText", ""),
            _integer(_value(level, "start", "1"), 1),
        )
        for level in abstract.iterchildren(_tag("lvl"))
    }


def _overrides(number: Any) -> dict[int, int]:
    """Where a list starts anew: level to first number."""
    return {
        _integer(_attribute(override, "ilvl"), 0): _integer(
            _value(override, "startOverride", ""), 1
        )
        for override in number.iterchildren(_tag("lvlOverride"))
    }


def _restarted(levels: dict[int, Level], starts: dict[int, int]) -> dict[int, Level]:
    known = {number: levels.get(number, Level()) for number in starts}
    return {
        number: Level(level.number_format, level.pattern, starts[number])
        for number, level in known.items()
    }


def _number(levels: dict[int, Level], counts: list[int | None], level: int) -> str:
    definition = levels.get(level, Level())
    count = counts[level]
    return written(definition.start if count is None else count, definition.number_format)


def written(number: int, number_format: str) -> str:
    """`number` (from 0) in one of Word's number formats; unknown ones are written in digits."""
    if number_format == "none":
        return ""
    if number_format in _CHINESE_FORMATS:
        return _chinese(number)
    if number_format in ("lowerRoman", "upperRoman"):
        return _cased(_roman(number), number_format)
    if number_format in ("lowerLetter", "upperLetter") and number > 0:
        return _cased(chr(ord("a") + (number - 1) % 26) * ((number - 1) // 26 + 1), number_format)
    if number_format == "decimalZero":
        return f"{number:02}"
    return str(number)


def _cased(text: str, number_format: str) -> str:
    return text.upper() if number_format.startswith("upper") else text


def _roman(number: int) -> str:
    if not 0 < number < 4000:
        return str(number)
    text = ""
    for value, letters in _ROMAN:
        text += letters * (number // value)
        number %= value
    return text


def _chinese(number: int) -> str:
    """1 to 99 as they are counted (十二, 三十); others digit by digit."""
    tens, ones = divmod(number, 10)
    if not 0 < tens < 10:
        return "".join(_CHINESE_DIGITS[int(digit)] for digit in str(number))
    return (
        (_CHINESE_DIGITS[tens] if tens > 1 else "") + "十" + (_CHINESE_DIGITS[ones] if ones else "")
    )
