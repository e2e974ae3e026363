"""Citations of a generated answer, checked while it streams. Pure."""

from collections.abc import Iterator
from typing import Final

import regex

from serving.answering import citations

_MOST_NUMBERS: Final = 12
# [1], 【1】, [1, 2], [1-3], [passage 1]; with the space before it, which goes where nothing is left.
_MARK: Final = regex.compile(
    rf"""(?P<space>[ \t]*)(?<!\\)[\[【]\s?(?:(?:passages?|sources?|段落|来源)\s?)?
         (?P<numbers>\d{{1,3}}(?:\s?[-–~,，、;；]\s?\d{{1,3}}){{0,{_MOST_NUMBERS}}})\s?[\]】]
       | (?P<ticks>`+)(?!`)""",
    regex.VERBOSE | regex.IGNORECASE,
)
_FENCE: Final = 3


class CitationFilter:
    """Takes a model's text as it comes, and gives it back with its citations made good.

    Every form of citation becomes [n]; numbers of passages that do not exist are removed; the others
    are numbered from 1 as they appear. Code is left as it is. The pieces given back join to the same
    text however the model's text was cut.
    """

    def __init__(self, passages: int) -> None:
        """The model was given passages numbered 1 to `passages`."""
        self._passages = passages
        self._waiting = ""
        self._code = ""  # The backticks that opened the code we are in.
        self.cited: list[int] = []
        """The passage numbers behind citations 1, 2, ..."""
        self.removed = 0
        """Numbers that named no passage."""

    def feed(self, text: str) -> str:
        """What can be shown now: a piece that may still become a citation waits."""
        self._waiting += text
        return "".join(self._shown(final=False))

    def finish(self) -> str:
        """The rest."""
        return "".join(self._shown(final=True))

    def _shown(self, final: bool) -> Iterator[str]:
        position = 0
        text, self._waiting = self._waiting, ""
        while match := _MARK.search(text, position, partial=not final):
            at_the_end = match.partial or (match["ticks"] and match.end() == len(text))
            if at_the_end and not final:
                self._waiting = text[match.start() :]
                text = text[: match.start()]
                break
            yield self._passed(text[position : match.start()])
            yield self._replaced(match)
            position = match.end()
        yield self._passed(text[position:])

    def _passed(self, text: str) -> str:
        """Text between marks. A line's end also ends code within a line."""
        if len(self._code) < _FENCE and "\n" in text:
            self._code = ""
        return text

    def _replaced(self, match: regex.Match[str]) -> str:
        if ticks := match["ticks"]:
            if not self._code:
                self._code = ticks
            elif len(ticks) >= _FENCE or ticks == self._code:
                self._code = ""
            return str(ticks)
        if self._code:
            return str(match[0])
        numbers = list(_numbers(match["numbers"]))
        if 0 in numbers and len(numbers) > 1:
            return str(match[0])  # An interval such as [0, 1].
        known = [number for number in numbers if 1 <= number <= self._passages]
        self.removed += len(numbers) - len(known)
        for number in known:
            if number not in self.cited:
                self.cited.append(number)
        places = dict.fromkeys(self.cited.index(number) + 1 for number in known)
        markers = "".join(map(citations.marker, places))
        return match["space"] + markers if markers else ""


def _numbers(text: str) -> Iterator[int]:
    """ "1, 3-5" gives 1, 3, 4, 5."""
    for part in regex.split(r"[,，、;；]", text):
        first, *last = (int(number) for number in regex.findall(r"\d+", part))
        end = last[-1] if last else first
        yield from range(first, min(end, first + _MOST_NUMBERS) + 1) if end > first else (first,)
