"""From the lines of a paragraph in a PDF to its text."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from ingestion.loaders.pdf_lines import Line

CJK = re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")
"""Scripts written without spaces; Korean has them."""
_SLACK = 3
"""Characters more than the next word that must fit before a line end counts as meant."""
_LEADERS = re.compile(r"(?:\s*[.…·]){4,}\s*")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")


def joined(lines: Sequence[Line], vocabulary: frozenset[str]) -> str:
    """One flowing text: words cut at line ends made whole, no spaces between Chinese characters.

    A line end stays where the next word would still have fitted: it was meant (rows of a table
    without rules, addresses).
    """
    right = max(line.right for line in lines)
    text = _LEADERS.sub(" ... ", lines[0].text)
    for last, line in pairwise(lines):
        following = _LEADERS.sub(" ... ", line.text)
        if text.endswith("-") and following[:1].islower() and text[-2:-1].isalpha():
            text = _without_hyphen(text, following, vocabulary)
        elif not is_same_row(last, line) and (
            _would_have_fitted(last, line, right)
            or _is_figures(last.text)
            or _is_figures(line.text)
        ):
            text += f"\n{following}"
        elif CJK.match(text[-1:]) and CJK.match(following):
            text += following
        else:
            text = f"{text} {following}"
    return text


def _is_figures(text: str) -> bool:
    """A row of a table without rules: at least three words, half of them with digits."""
    parts = text.split()
    return len(parts) >= 3 and 2 * sum(any(map(str.isdigit, part)) for part in parts) >= len(parts)


def _would_have_fitted(last: Line, line: Line, right: float) -> bool:
    if line.page != last.page or line.top < last.top:
        return False
    first_word = line.text[:1] if CJK.match(line.text) else line.text.split(maxsplit=1)[0]
    character = (line.right - line.left) / max(len(line.text), 1)
    return last.right + (len(first_word) + _SLACK) * character < right


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


def is_same_row(last: Line, line: Line) -> bool:
    overlap = min(last.bottom, line.bottom) - max(last.top, line.top)
    return overlap > 0.5 * min(last.size, line.size) and line.left >= last.left
