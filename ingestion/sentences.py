"""Where sentences end, in Chinese, English and what is mixed with them. Pure, linear in the text."""

import re
from collections.abc import Iterator

Span = tuple[int, int]
"""Character offsets, end exclusive."""

_CLOSING = r"[\"'”’»)\]』」》）】〉]"
# Possessive runs and the look-behind keep a line of a million dots linear.
_END = re.compile(
    rf"[。！？；｡؟۔।॥]++{_CLOSING}*+"
    rf"|(?<![.!?])(?P<latin>[.!?]++){_CLOSING}*+(?=\s)"
    r"|\n[^\S\n]*+(?=\n)"
)
_LAST_WORD = re.compile(r"[\w.]*\Z")
_LONGEST_ABBREVIATION = 12
_TITLES = frozenset(("dr", "mr", "mrs", "ms", "prof", "st", "jr", "sr", "inc", "ltd", "co"))
_ABBREVIATIONS = _TITLES | {"e.g", "i.e", "vs", "cf", "al", "dept", "est", "approx"}
_BEFORE_NUMBERS = frozenset(("fig", "no", "nr", "vol", "p", "pp", "sec", "ch"))


def sentence_spans(text: str) -> Iterator[Span]:
    """The sentences in order, without the white space around them; together they are all the text.

    Closing quotes and brackets stay with their sentence. A blank line ends one too.
    """
    start = 0
    for match in _END.finditer(text):
        if match["latin"] == "." and _goes_on(text, match):
            continue
        yield from trimmed(text, start, match.end())
        start = match.end()
    yield from trimmed(text, start, len(text))


def line_spans(text: str) -> Iterator[Span]:
    """The lines that are not blank, in order, without the white space after them."""
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        line = text[start:end].rstrip()
        if line:
            yield start, start + len(line)
        start = end + 1


def trimmed(text: str, start: int, end: int) -> Iterator[Span]:
    """The span without white space at its ends, or nothing where there is nothing else."""
    piece = text[start:end]
    length = len(piece.strip())
    if length:
        first = start + len(piece) - len(piece.lstrip())
        yield first, first + length


def _goes_on(text: str, match: re.Match[str]) -> bool:
    """Whether a full stop belongs to an abbreviation, an initial, or is followed by a small letter."""
    after = text[match.end() : match.end() + 2].lstrip()
    if after[:1].islower():
        return True
    before = text[max(0, match.start() - _LONGEST_ABBREVIATION) : match.start()]
    found = _LAST_WORD.search(before)
    word = found.group() if found else ""
    if after[:1].isdigit() and word.lower() in _BEFORE_NUMBERS:
        return True
    is_initial = len(word) == 1 and word.isascii() and word.isupper()
    return is_initial or word.lower() in _ABBREVIATIONS
