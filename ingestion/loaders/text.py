"""Plain text, source code, configuration and subtitles."""

import re
from collections.abc import Iterator
from pathlib import Path

from ingestion.loaders.blocks import clean, code, first_heading, flowing, heading, title_of
from ingestion.loaders.encoding import decode
from ingestion.loaders.limits import LoadLimits
from ingestion.loaders.registry import SUBTITLES, SUFFIXES, TEXT, is_code
from kb.types import Block, ParsedDocument

_BLANK_LINES = re.compile(r"\n[^\S\n]*\n\s*")

# Headings that a suffix promises: AsciiDoc "== Title", Org "** Title".
_MARKED = {
    **dict.fromkeys((".adoc", ".asciidoc", ".asc"), re.compile(r"(={1,6})[ \t]+(\S.*)")),
    ".org": re.compile(r"(\*{1,6})[ \t]+(\S.*)"),
}
_UNDERLINED = (".rst", ".txt", ".text", "")
_UNDERLINE = re.compile(r"([=\-~^\"'#*+`:.])\1{2,}[ \t]*")
# Chapters of Chinese books and contracts; a sentence about a chapter is longer or ends in a stop.
_CHINESE_CHAPTER = re.compile(
    r"第[零〇一二三四五六七八九十百千\d]{1,6}([编篇部卷章节節回])(?:[ \t\u3000:：][^。；，]{0,40})?"
)
_CHINESE_LEVELS = dict.fromkeys("编篇部卷", 1) | {"章": 2, "回": 2, "节": 3, "節": 3}

_CUE_TIME = re.compile(r"(?:\d+:)?\d{1,2}:\d{2}[.,]\d{3}\s+-->")
_SPEAKER = re.compile(r"<v(?:\.[\w.]+)?\s+([^>]+)>")
_MARKUP = re.compile(r"</?[a-z][^>]*>|<\d[\d:.]*>|\{\\[^}]*\}", re.IGNORECASE)
_CUES_PER_PARAGRAPH = 20


def load(path: Path, limits: LoadLimits) -> ParsedDocument:
    """Raises nothing of its own."""
    decoded = decode(path.read_bytes())
    text = clean(decoded.text)
    suffix = path.suffix.lower()
    entry = SUFFIXES.get(suffix, TEXT)
    if entry is SUBTITLES:
        blocks = list(_subtitles(text))
    elif is_code(suffix):
        blocks = [code(text)]
    else:
        blocks = list(_paragraphs(text, suffix))
    return ParsedDocument(
        title_of(path, first_heading(blocks)), tuple(blocks), entry.media_type, decoded.warnings()
    )


def _paragraphs(text: str, suffix: str) -> Iterator[Block]:
    """Paragraphs are parted by blank lines; headings are found where the format marks them."""
    underlines: list[str] = []
    for part in _BLANK_LINES.split(text):
        lines = part.split("\n")
        start = 0
        for number in range(len(lines)):
            found = _heading(lines, number, suffix, underlines)
            if found is None or number < start:
                continue
            if before := flowing("\n".join(lines[start:number])):
                yield Block(before)
            yield found
            start = number + (2 if _is_underlined(lines, number, suffix) else 1)
        if rest := flowing("\n".join(lines[start:])):
            yield Block(rest)


def _heading(lines: list[str], number: int, suffix: str, underlines: list[str]) -> Block | None:
    line = lines[number].strip()
    marked = _MARKED.get(suffix)
    if marked and (found := marked.fullmatch(line)):
        return heading(found[2].rstrip("= "), len(found[1]))
    if _is_underlined(lines, number, suffix):
        mark = lines[number + 1][0]
        if mark not in underlines:
            underlines.append(mark)
        return heading(line, underlines.index(mark) + 1)
    if chapter := _CHINESE_CHAPTER.fullmatch(line):
        return heading(line, _CHINESE_LEVELS[chapter[1]])
    return None


def _is_underlined(lines: list[str], number: int, suffix: str) -> bool:
    """As in reStructuredText: a line, and below it a rule at least as long (CJK counts double)."""
    if suffix not in _UNDERLINED or number + 1 >= len(lines):
        return False
    line, below = lines[number].strip(), lines[number + 1].rstrip()
    if not line or _UNDERLINE.fullmatch(line) or not _UNDERLINE.fullmatch(below):
        return False
    return len(below) >= min(len(line), 3) and len(line) <= 120 and len(below) >= len(line) - 1


def _subtitles(text: str) -> Iterator[Block]:
    """What is said, without times: a paragraph for every few cues."""
    said: list[str] = []
    for part in _BLANK_LINES.split(text):
        lines = part.split("\n")
        time = next((i for i, line in enumerate(lines) if _CUE_TIME.match(line.strip())), None)
        if time is None:
            continue
        cue = " ".join(lines[time + 1 :])
        cue = _MARKUP.sub("", _SPEAKER.sub(r"\1: ", cue))
        said.append(cue)
        if len(said) == _CUES_PER_PARAGRAPH:
            yield Block(flowing("\n".join(said)))
            said = []
    yield Block(flowing("\n".join(said)))
