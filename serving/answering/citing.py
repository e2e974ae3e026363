"""Citations of a generated answer, checked while it streams. Pure."""

from collections.abc import Iterator
from typing import Final

import regex

from serving.answering import citations

_MOST_NUMBERS: Final = 12
_MOST_PASSAGES: Final = 50
"""No prompt has more (AnswerSettings.passages): a list with a higher number holds values."""
_NAMED: Final = r"(?:(?:passages?|sources?|段落|来源)[^\S\n]?)?"
# [1], 【1】, ［1］, [1, 2], [1-3], [passage 1, passage 2], [^1], 【1†source】. None has a line's end or
# a backtick in it, so that lines and code are the same with the mark and with what takes its place.
MARK: Final = regex.compile(
    rf"""[\[【［][^\S\n]?\^?{_NAMED}
         (?P<numbers>\d{{1,3}}(?:[^\S\n]?[-–~,，、;；][^\S\n]?{_NAMED}\d{{1,3}}){{0,{_MOST_NUMBERS}}})
         (?:†[^\[\]【】［］`\n]{{0,40}})?[^\S\n]?[\]】］]""",
    regex.VERBOSE | regex.IGNORECASE,
)
_BRACKET: Final = regex.compile(r"[\[【［]")
_TOKEN: Final = regex.compile(r"[\[【［]|`+|~+")
_FENCE: Final = 3
# Before a mark that goes: what would become a fence, other ticks, an escape or a marker without it.
_WOULD_JOIN: Final = regex.compile(r"(?:[`~\\]|\[\d{0,3})$")
_SPACES: Final = " \t"

_Step = tuple[str, int]
"""What is shown of the next piece of text, and where that piece ends."""


class CitationFilter:
    """Takes a model's text as it comes, and gives it back with its citations made good.

    Every form of citation becomes [n]; numbers of passages that do not exist are removed; the others
    are numbered from 1 as they appear. Code is left as it is. The pieces given back join to the same
    text however the model's text was cut, and citations.markers() finds in it the [n] written here
    and no others.
    """

    def __init__(self, passages: int) -> None:
        """The model was given passages numbered 1 to `passages`."""
        self._passages = passages
        self._waiting = ""
        self._ahead = 0  # Characters of it that were shown: they stay the same whatever follows.
        self._searched = 0  # Characters of it without what closes the code it may start with.
        self._line = ""  # The line given back so far, without those.
        self._fence = ""  # The fence of the code we are in.
        self.cited: list[int] = []
        """The passage numbers behind citations 1, 2, ..."""
        self.removed = 0
        """Numbers that named no passage."""

    def feed(self, text: str) -> str:
        """What can be shown now: a piece that may still become a citation waits."""
        self._waiting += text
        return self._shown(final=False)

    def finish(self) -> str:
        """The rest."""
        return self._shown(final=True)

    def _shown(self, final: bool) -> str:
        settled = "".join(self._settled(final))
        bracket = _BRACKET.search(self._waiting, max(0, self._ahead - len(settled)))
        certain = self._waiting[: bracket.start() if bracket else None].rstrip(_SPACES)
        shown = (settled + certain)[self._ahead :]
        self._ahead = len(certain)
        return shown

    def _settled(self, final: bool) -> Iterator[str]:
        """All that is known to be code or not."""
        position = 0
        while step := self._next(position, final):
            shown, position = step
            self._searched = 0
            self._line = (self._line + shown).rpartition("\n")[2]
            yield shown
        self._waiting = self._waiting[position:]

    def _next(self, position: int, final: bool) -> _Step | None:
        """None where what follows decides."""
        text = self._waiting
        if position == len(text):
            return None
        if self._fence:
            return self._fenced(position)
        token = _TOKEN.search(text, position)
        is_run = token and token[0][0] in "`~"
        plain = text[position : token.start() if token else None]
        if not (is_run or (token is None and final)):
            plain = plain.rstrip(_SPACES)  # They go with a citation that is removed.
        if plain:
            return plain, position + len(plain)
        if token is None:
            return None
        if is_run:
            return self._run(token, final)
        return self._bracket(position, token.start(), final)

    def _fenced(self, position: int) -> _Step:
        end = self._waiting.find("\n", position)
        if end < 0:
            return self._waiting[position:], len(self._waiting)
        if citations.closes_fence(self._line + self._waiting[position:end], self._fence):
            self._fence = ""
        return self._waiting[position : end + 1], end + 1

    def _run(self, run: regex.Match[str], final: bool) -> _Step | None:
        """Of backticks or tildes: does it open code?"""
        text, ticks = self._waiting, run[0]
        if run.end() == len(text) and not final:
            return None
        end = text.find("\n", run.end())
        is_whole = final or end >= 0
        end = end if end >= 0 else len(text)
        if len(ticks) >= _FENCE and citations.BEFORE_FENCE.fullmatch(self._line):
            if not is_whole:
                return None
            if fence := citations.opened_fence(self._line + text[run.start() : end]):
                self._fence = fence
                return text[run.start() : end + 1], min(end + 1, len(text))
        if ticks[0] == "~":
            return ticks, run.end()
        closed = citations.end_of_inline(ticks, text, max(run.end(), self._searched), end)
        if not is_whole and closed in (0, len(text)):
            self._searched = len(text.rstrip("`")) - run.start()
            return None
        return text[run.start() : closed or run.end()], closed or run.end()

    def _bracket(self, position: int, start: int, final: bool) -> _Step | None:
        """At `start`, after spaces from `position` on."""
        text = self._waiting
        is_escaped = start == position and self._line.endswith("\\")
        match = None if is_escaped else MARK.match(text, start, partial=not final)
        if match is None:
            return text[position : start + 1], start + 1
        if match.partial:
            return None
        return self._replaced(match, text[position:start]), match.end()

    def _replaced(self, match: regex.Match[str], spaces: str) -> str:
        numbers = list(_numbers(match["numbers"]))
        if len(numbers) > 1 and not all(1 <= number <= _MOST_PASSAGES for number in numbers):
            return spaces + match[0]  # An interval such as [0, 1] or [1, 100].
        known = [number for number in numbers if 1 <= number <= self._passages]
        self.removed += len(numbers) - len(known)
        for number in known:
            if number not in self.cited:
                self.cited.append(number)
        places = dict.fromkeys(self.cited.index(number) + 1 for number in known)
        if places:
            return spaces + "".join(map(citations.marker, places))
        return (spaces or " ") if _WOULD_JOIN.search(self._line[-4:]) else ""


def _numbers(text: str) -> Iterator[int]:
    """ "1, 3-5" gives 1, 3, 4, 5."""
    for part in regex.split(r"[,，、;；]", text):
        first, *last = (int(number) for number in regex.findall(r"\d+", part))
        end = last[-1] if last else first
        yield from range(first, min(end, first + _MOST_NUMBERS) + 1) if end > first else (first,)
