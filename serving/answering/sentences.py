"""Cuts a chunk's text into the pieces an extractive answer may quote. Pure.

Chinese and English prose is cut into sentences; list items, table rows and code are pieces of their
own. Every span is (start, end) in characters of the text it was given, and text[start:end] is
exactly what is quoted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise, zip_longest
from typing import Final

import regex

from ingestion.sentences import Span as Span
from ingestion.sentences import line_spans, sentence_spans
from kb.types import BLOCK_SEPARATOR


class PieceKind(StrEnum):
    SENTENCE = "sentence"
    ITEM = "item"
    ROW = "row"
    CODE = "code"


@dataclass(frozen=True, slots=True)
class Piece:
    """Something that can be quoted.

    `span` is what is compared with the question, `shown` (it covers `span`) what is quoted: a
    sentence that starts with "It" brings the one before, one that ends with a colon what follows.
    `lead` stands elsewhere and belongs above the quote: a table's header, a list's introduction.
    `heading` is the nearest heading above, where the text has one: it says what the piece is about.
    """

    kind: PieceKind
    span: Span
    shown: Span
    lead: Span | None = None
    heading: Span | None = None


MOST_SHOWN: Final = 800
"""Characters of the longest quote that is extended over a neighbour; a longer code block is cut."""
_SHORT_LIST: Final = 400
"""Characters up to which a list is quoted whole, its introduction included."""
_LONGEST_HEADING: Final = 80

# Full stops that end no sentence, besides those `ingestion.sentences` knows.
_ABBREVIATION = regex.compile(
    r"""(?:^|[\s("'\[])(?:
          (?:Sgt|Gen|Col|Lt|Capt|Rev|Hon|Gov|Sen|Rep|Pres|Mt|Corp|etc|ca|Eq|eds?|Jan|Feb|Mar|Apr|Jun|Jul|Aug
            |Sept?|Oct|Nov|Dec)
         |(?:\p{L}\.){1,3}\p{L})\.$""",
    regex.VERBOSE,
)
# But these may: "in the U.S. The law", "apples, pears, etc. They".
_MAY_END = regex.compile(r"(?:etc|Corp|a\.m|p\.m|U\.S|U\.K|U\.S\.A)\.$")
_SENTENCE_START = regex.compile(
    r"(?:The|A|An|In|On|At|It|He|She|They|This|These|That|There|We|You|If|When)\b"
)

_LIST_LINE = regex.compile(r"\s*(?:[-*+•]|\d{1,3}[.)、])\s+\S")
_TABLE_LINE = regex.compile(r"\s*\|.*\|\s*$")
_TABLE_RULE = regex.compile(r"\s*\|?[\s:|-]*-[\s:|-]*\|?\s*$")
_CODE_LINE = regex.compile(
    r"""\s{2,}\S | \s*[{}\[\]();]+,?\s*$ | .*[{;\\]\s*$ | \s*["'a-z_][\w.\-"']*\s*[=:](?:\s*\S+)?$ | \w+=\S
      | \s*(?:\$|\#|//|sudo|curl|docker|kubectl|helm|pip3?|npm|yarn|git|make|cd|apt(?:-get)?|brew|chmod)\s
      | \s*(?:import|from|def|class|return|local|const|let|var|function|public|export|if|for|while)\b.*[({:;=]
      | [a-z][\w./-]*(?:\s+\S+)*?\s--?\w | HTTP/\d(?:\.\d)?\s\d{3} | \s*</?[a-zA-Z][^>]*>\s*$
    """,
    regex.VERBOSE,
)
_PROSE_LINE = regex.compile(r"\s*\p{Lu}[\p{L}']*,?(?:\s[\w,'()/.-]+){3,}[.:;]$")
_PROSE_END = regex.compile(r"[.。!！?？;；:：,，、]\S?$")

# Words that lean on the sentence before.
_LEANS = regex.compile(
    r"""(?:It|Its|They|Their|He|His|She|Her|This|These|That|Those|Such|Both|Here|There(?:fore|\ after)?
         |However|But|And|So|Then|Thus|Hence|Also|Instead|Otherwise|Moreover|Furthermore|In\ addition
         |As\ a\ result|For\ this|The\ (?:former|latter|same))\b(?!\ (?:is|are|was|were)\ (?:a|an|no)\ )
      |[它他她这其该] | 此(?!外) | 因此|所以|但是|但|然而|不过|而且|并且|同时|另外|此外|随后|之后|后者|前者|否则
    """,
    regex.VERBOSE,
)


def pieces(text: str) -> list[Piece]:
    """What can be quoted of a chunk's text, in reading order. Headings are left out."""
    found: list[Piece] = []
    heading: Span | None = None
    spans = blocks(text)
    for block, following in zip_longest(spans, spans[1:]):
        if _is_heading(text, block, following):
            heading = block
        else:
            found += (replace(p, heading=heading) for p in _block_pieces(text, block, found))
    return _with_what_they_introduce(text, found)


def _block_pieces(text: str, block: Span, before: Sequence[Piece]) -> Iterator[Piece]:
    if is_table(text, block):
        return _rows(text, block)
    if is_list(text, block):
        return _items(text, block, _introduction(text, before, block))
    if is_code(text, block):
        return _code(text, block, before)
    return _sentences(text, block)


def split_sentences(text: str, span: Span) -> list[Span]:
    """The sentences of a stretch of prose, white space around them left out."""
    offset = span[0]
    found: list[Span] = []
    for start, end in sentence_spans(text[slice(*span)]):
        sentence = (start + offset, end + offset)
        if found and _goes_on(text, found[-1], sentence):
            found[-1] = (found[-1][0], sentence[1])
        else:
            found.append(sentence)
    return found


def _goes_on(text: str, sentence: Span, following: Span) -> bool:
    """Whether a sentence was cut at an abbreviation."""
    if not _ABBREVIATION.search(text[max(sentence[0], sentence[1] - 12) : sentence[1]]):
        return False
    may_end = _MAY_END.search(text[slice(*sentence)])
    return not (may_end and _SENTENCE_START.match(text, *following))


# --- Blocks -------------------------------------------------------------------------------------


def blocks(text: str) -> list[Span]:
    """Spans between blank lines; neighbouring blocks of code become one."""
    found: list[Span] = []
    position = 0
    for part in text.split(BLOCK_SEPARATOR):
        span = _strip_lines(text, (position, position + len(part)))
        position += len(part) + len(BLOCK_SEPARATOR)
        if span is None:
            continue
        if found and is_code(text, found[-1]) and is_code(text, span):
            found[-1] = (found[-1][0], span[1])
        else:
            found.append(span)
    return found


def _strip(text: str, span: Span) -> Span | None:
    inner = text[slice(*span)]
    start = span[0] + len(inner) - len(inner.lstrip())
    end = span[1] - (len(inner) - len(inner.rstrip()))
    return (start, end) if start < end else None


def _strip_lines(text: str, span: Span) -> Span | None:
    """Without empty lines around it; the indentation of the first line stays."""
    inner = _strip(text, span)
    if inner is None:
        return None
    line = text.rfind("\n", span[0], inner[0])
    return (span[0] if line < 0 else line + 1, inner[1])


def _lines(text: str, span: Span) -> list[Span]:
    offset = span[0]
    return [(start + offset, end + offset) for start, end in line_spans(text[slice(*span)])]


def _share(text: str, span: Span, pattern: regex.Pattern[str]) -> float:
    lines = _lines(text, span)
    return sum(bool(pattern.match(text[slice(*line)])) for line in lines) / max(1, len(lines))


def is_table(text: str, block: Span) -> bool:
    return _share(text, block, _TABLE_LINE) > 0.9


def is_list(text: str, block: Span) -> bool:
    return bool(_LIST_LINE.match(text[slice(*block)]))


def is_code(text: str, block: Span) -> bool:
    """Loaders give code as plain text, so it is told by its looks."""
    inner = text[slice(*block)]
    if is_table(text, block) or is_list(text, block) or regex.search(r"[。，；？！]", inner):
        return False
    return not _PROSE_LINE.match(inner) and _share(text, block, _CODE_LINE) >= 0.5


def _is_heading(text: str, block: Span, following: Span | None) -> bool:
    inner = text[slice(*block)]
    short = len(inner) <= _LONGEST_HEADING and "\n" not in inner
    if not short or following is None or _PROSE_END.search(inner):
        return False
    return not (is_table(text, block) or is_list(text, block) or is_code(text, block))


# --- Pieces of each kind of block ---------------------------------------------------------------


def _sentences(text: str, block: Span) -> Iterator[Piece]:
    before: Span | None = None
    for span in split_sentences(text, block):
        shown = span
        if before and _LEANS.match(text, *span) and span[1] - before[0] <= MOST_SHOWN:
            shown = (before[0], span[1])
        yield Piece(PieceKind.SENTENCE, span, shown)
        before = span


def _rows(text: str, block: Span) -> Iterator[Piece]:
    lines = _lines(text, block)
    has_header = len(lines) > 2 and _TABLE_RULE.match(text[slice(*lines[1])])
    lead = (lines[0][0], lines[1][1]) if has_header else None
    for line in lines[2:] if has_header else lines:
        yield Piece(PieceKind.ROW, line, line, lead)


def _introduction(text: str, found: Sequence[Piece], block: Span) -> Span | None:
    """The line right above a list that ends with a colon."""
    if not found or text[found[-1].span[1] : block[0]].strip():
        return None
    return found[-1].span if text[found[-1].span[1] - 1] in ":：" else None


def _items(text: str, block: Span, introduction: Span | None) -> Iterator[Piece]:
    items: list[Span] = []
    for line in _lines(text, block):
        if items and not _LIST_LINE.match(text[slice(*line)]):
            items[-1] = (items[-1][0], line[1])  # the item goes on in the next line
        else:
            items.append(line)
    whole = (introduction or block)[0], block[1]
    for item in items:
        if introduction and whole[1] - whole[0] <= _SHORT_LIST:
            yield Piece(PieceKind.ITEM, item, whole)
        else:
            yield Piece(PieceKind.ITEM, item, item, introduction)


def _code(text: str, block: Span, found: Sequence[Piece]) -> Iterator[Piece]:
    """Code with the sentence above that explains it."""
    shown = _cut_at_line(text, block)
    if found and not text[found[-1].span[1] : block[0]].strip():
        shown = _cut_at_line(text, (found[-1].span[0], block[1]))
    yield Piece(PieceKind.CODE, (block[0], min(block[1], shown[1])), shown)


def _cut_at_line(text: str, span: Span) -> Span:
    if span[1] - span[0] <= MOST_SHOWN:
        return span
    cut = text.rfind("\n", span[0], span[0] + MOST_SHOWN)
    return (span[0], cut if cut > span[0] else span[0] + MOST_SHOWN)


def _with_what_they_introduce(text: str, found: list[Piece]) -> list[Piece]:
    """A sentence that ends with a colon is shown with what it introduces."""
    extended = list(found)
    for number, (piece, following) in enumerate(pairwise(found)):
        introduces = piece.kind is PieceKind.SENTENCE and text[piece.span[1] - 1] in ":：,，"
        if not introduces or text[piece.span[1] : following.span[0]].strip():
            continue
        end = following.shown[1]
        if following.kind is PieceKind.ITEM:
            end = _end_of_list(found[number + 1 :], piece.shown[0])
        if end - piece.shown[0] <= MOST_SHOWN:
            extended[number] = replace(piece, shown=(piece.shown[0], end))
    return extended


def _end_of_list(following: Sequence[Piece], start: int) -> int:
    """The end of the last item of the list that still fits."""
    end = following[0].span[1]
    for piece in following:
        if piece.kind is not PieceKind.ITEM or piece.span[1] - start > MOST_SHOWN:
            break
        end = piece.span[1]
    return end
