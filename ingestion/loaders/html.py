"""HTML pages."""

import re
from pathlib import Path

from selectolax.lexbor import LexborHTMLParser, LexborNode

from ingestion.loaders.blocks import first_heading, title_of
from ingestion.loaders.encoding import decode
from ingestion.loaders.html_blocks import html_blocks, tags
from ingestion.loaders.limits import LoadLimits
from ingestion.loaders.registry import HTML
from kb.types import Block, ParsedDocument

_CHARSET = re.compile(
    rb"""<meta[^>]{0,200}charset\s*=\s*["']?\s*([\w.:-]+)|"""
    rb"""<\?xml[^>]{0,100}encoding=["']([\w.:-]+)""",
    re.IGNORECASE,
)
_CHARSET_WITHIN = 4096

MAX_DEPTH = 3000
"""Open elements beyond which a page is read as plain text: a browser stops at 512, and the time the
HTML parser takes grows with the square of the depth (100,000 levels: two minutes)."""

_TAG = re.compile(r"<(/?)([a-zA-Z][^\s/>]*)[^>]*>")
# Elements that need no end tag: they close each other.
_SELF_CLOSING = tags(
    "area base br col embed hr img input link meta source track wbr p li dt dd tr td th thead tbody "
    "tfoot option optgroup colgroup caption rp rt html head body"
)
_MAIN = "main, [role=main], article"
_MAIN_SHARE = 0.5
"""Share of a page's text that a main element must hold to be taken for the whole of it."""


def load(path: Path, limits: LoadLimits) -> ParsedDocument:
    """Raises nothing of its own: any text is HTML of a kind."""
    data = path.read_bytes()
    decoded = decode(data, declared_charset(data))
    title, blocks, warnings = read_html(decoded.text)
    return ParsedDocument(
        title_of(path, title, first_heading(blocks)),
        tuple(blocks),
        HTML.media_type,
        decoded.warnings() + warnings,
    )


def declared_charset(data: bytes) -> str | None:
    found = _CHARSET.search(data, 0, _CHARSET_WITHIN)
    return (found[1] or found[2]).decode("ascii") if found else None


def read_html(source: str) -> tuple[str | None, list[Block], tuple[str, ...]]:
    """The page's title, its blocks, and warnings."""
    if _is_too_deep(source):
        blocks = [Block(text) for part in _TAG.split(source)[::3] if (text := part.strip())]
        return None, blocks, ("The page is nested too deeply: only its plain text was read.",)
    tree = LexborHTMLParser(source.replace("\0", ""))
    head = tree.css_first("head title") or tree.css_first("title")
    title = head.text() if head is not None else None
    body = tree.body
    return title, html_blocks(_main_part(body)) if body is not None else [], ()


def _is_too_deep(source: str) -> bool:
    depth = 0
    for tag in _TAG.finditer(source):
        if tag[2].lower() not in _SELF_CLOSING:
            depth = max(depth - 1, 0) if tag[1] else depth + 1
            if depth > MAX_DEPTH:
                return True
    return False


def _main_part(body: LexborNode) -> LexborNode:
    """The element that holds the content, or the whole body where none clearly does."""
    candidates = body.css(_MAIN)
    if len(candidates) != 1:
        candidates = [node for node in candidates if node.tag == "main"]
    if len(candidates) != 1:
        return body
    main = candidates[0]
    return main if len(main.text()) >= _MAIN_SHARE * len(body.text()) else body
