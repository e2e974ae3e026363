"""XML of any kind: records as lines of `name: value`, running text as paragraphs."""

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from ingestion.loaders.blocks import first_heading, heading, one_line, title_of
from ingestion.loaders.encoding import decode
from ingestion.loaders.html import declared_charset, read_html
from ingestion.loaders.limits import LoadLimits
from ingestion.loaders.registry import XML
from kb.errors import UnreadableDocument
from kb.types import Block, FailureCategory, ParsedDocument

_TITLES = frozenset(("title", "headline", "heading"))
_RUNNING_TEXT = frozenset(("p", "para", "simpara", "paragraph", "text", "body", "content", "line"))
_TOP = 2
"""Depth of a document's own title, as in rss/channel/title; titles below it are its sections'."""
_DECLARATION = re.compile(r"\A\s*<\?xml[^>]*\?>")
_HTML = re.compile(
    r"<(p|div|br|ul|ol|li|a|b|i|em|strong|h\d|table|span|img)\b[^>]*>", re.IGNORECASE
)


def load(path: Path, limits: LoadLimits) -> ParsedDocument:
    """Raises UnreadableDocument (BROKEN), also for XML that defines entities of its own."""
    data = path.read_bytes()
    decoded = decode(data, declared_charset(data))
    blocks = list(_blocks(_DECLARATION.sub("", decoded.text.lstrip("\ufeff")).replace("\0", "")))
    return ParsedDocument(
        title_of(path, first_heading(blocks)), tuple(blocks), XML.media_type, decoded.warnings()
    )


def _blocks(source: str) -> Iterator[Block]:
    """Walks the tree without recursion. Leaves gather into one paragraph, a record, until their
    parent ends or something that stands alone comes."""
    record: list[str] = []
    waiting: list[tuple[Element | None, int]] = [(_parsed(source), 0)]
    while waiting:
        element, depth = waiting.pop()
        if element is None:  # the end of a parent
            yield from _finished(record)
            continue
        text = one_line("".join(element.itertext())) if _holds_text(element) else ""
        name = str(element.tag).rpartition("}")[2]
        if not text:
            waiting += [(None, depth), *((child, depth + 1) for child in reversed(element))]
        elif _stands_alone(element, name, text):
            yield from _finished(record)
            yield from _alone(name, text, depth)
        else:
            record.append(f"{name}: {text}")


def _parsed(source: str) -> Element:
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        root: Element = fromstring(source.encode("utf-8", "replace"))
    except (ParseError, DefusedXmlException) as error:
        raise UnreadableDocument(
            f"The file is not XML that can be read: {error}. Correct it or export it again.",
            FailureCategory.BROKEN,
        ) from error
    return root


def _holds_text(element: Element) -> bool:
    """Whether there is text directly in it, so that elements inside are parts of a sentence."""
    return bool((element.text or "").strip()) or any(
        (child.tail or "").strip() for child in element
    )


def _stands_alone(element: Element, name: str, text: str) -> bool:
    named = name.lower() in _TITLES or name.lower() in _RUNNING_TEXT
    return named or len(element) > 0 or bool(_HTML.search(text))


def _alone(name: str, text: str, depth: int) -> Iterator[Block]:
    if name.lower() in _TITLES:
        yield heading(text, 1 if depth <= _TOP else 2)
    elif _HTML.search(text):
        yield from read_html(text)[1]
    else:
        yield Block(text)


def _finished(record: list[str]) -> Iterator[Block]:
    if record:
        yield Block("\n".join(record))
    record.clear()
