"""Markdown, also as documentation sites write it: front matter, admonitions, tabs, imports.

Markdown is rendered to HTML and read as such, so that HTML inside Markdown, nested lists and tables
need no second treatment.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.token import Token

from ingestion.loaders.blocks import first_heading, title_of
from ingestion.loaders.encoding import decode
from ingestion.loaders.html import read_html
from ingestion.loaders.html_blocks import KNOWN_TAGS
from ingestion.loaders.limits import LoadLimits
from ingestion.loaders.registry import MARKDOWN
from kb.types import Block, ParsedDocument

_FRONT_MATTER = re.compile(r"\A\s*---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_FRONT_MATTER_WITHIN = 64 * 1024
_TITLE = re.compile(r"^title[ \t]*:[ \t]*(.+?)[ \t]*$", re.MULTILINE | re.IGNORECASE)
_DESCRIPTION = re.compile(r"^description[ \t]*:[ \t]*(?![>|][-+]?$)(.+?)[ \t]*$", re.MULTILINE)

_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})")
# `import Tabs from "..."` and `export const x = ...` of MDX: never prose, which has no such line.
_MODULE_LINE = re.compile(
    r"""import\s(.*\sfrom\s+)?['"].*['"];?\s*$|export\s+(default|const|function)\b"""
)
_ADMONITION = re.compile(r"[ \t]*:{3,}[ \t]*(?:[A-Za-z]+)?[ \t]*(.*)$")
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_JSX_COMMENT = re.compile(r"^[ \t]*\{/\*.*?\*/\}[ \t]*$", re.MULTILINE | re.DOTALL)
_TAB_VALUE = re.compile(r"""<TabItem\s+value=["']([^"']+)["']""")
_JSX_TAG = re.compile(r"</?[A-Z][A-Za-z.]*[a-z][A-Za-z.]*(?:\s(?:[^<>]|=>)*)?/?>")
_JSX_LABEL = re.compile(r"""\b(?:label|title|summary)=["']([^"']+)["']""")
_TAG = re.compile(r"</?([A-Za-z][A-Za-z0-9-]*)[^>]*>")

MAX_LINE = 50_000
"""Characters of one line beyond which it is not parsed as Markdown: inline parsing is not linear."""


def load(path: Path, limits: LoadLimits) -> ParsedDocument:
    """Any text is Markdown of a kind; raises nothing of its own."""
    decoded = decode(path.read_bytes())
    title, blocks, warnings = read_markdown(decoded.text)
    return ParsedDocument(
        title_of(path, title, first_heading(blocks)),
        tuple(blocks),
        MARKDOWN.media_type,
        decoded.warnings() + warnings,
    )


def read_markdown(source: str) -> tuple[str | None, list[Block], tuple[str, ...]]:
    """The title of the front matter if there is one, the blocks, and warnings."""
    source = source.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    title, description, source = _split_front_matter(source)
    if max(map(len, source.split("\n"))) > MAX_LINE:
        return title, [Block(source)], ("Its lines are too long for Markdown: read as plain text.",)
    rendered = _parser().render(_without_site_syntax(source))
    _, blocks, warnings = read_html(f"<html><head></head><body>{rendered}</body></html>")
    return title, ([Block(description)] if description else []) + blocks, warnings


def _split_front_matter(source: str) -> tuple[str | None, str | None, str]:
    found = _FRONT_MATTER.match(source[:_FRONT_MATTER_WITHIN])
    if found is None:
        return None, None, source
    return _field(_TITLE, found[1]), _field(_DESCRIPTION, found[1]), source[found.end() :]


def _field(pattern: re.Pattern[str], front_matter: str) -> str | None:
    found = pattern.search(front_matter)
    return found[1].strip("\"'") if found else None


def _without_site_syntax(source: str) -> str:
    """Markdown without what only a documentation site's builder understands. Code is left alone."""
    parts = _fenced_parts(source)
    return "".join(part if fenced else _plain(part) for fenced, part in parts)


def _fenced_parts(source: str) -> list[tuple[bool, str]]:
    """The source cut into (is fenced code, text)."""
    parts: list[tuple[bool, list[str]]] = [(False, [])]
    fence = ""
    for line in source.splitlines(keepends=True):
        found = _FENCE.match(line)
        if fence:
            parts[-1][1].append(line)
            if found and found[1].startswith(fence) and not line.strip(" \t\n`~"):
                fence = ""
                parts.append((False, []))
        elif found and "`" not in line[found.end() :]:
            fence = found[1]
            parts.append((True, [line]))
        else:
            parts[-1][1].append(line)
    return [(fenced, "".join(lines)) for fenced, lines in parts]


def _plain(prose: str) -> str:
    prose = _JSX_COMMENT.sub("", _COMMENT.sub("", prose))
    prose = _JSX_TAG.sub(_jsx_label, prose)
    return "".join(
        _plain_line(line)
        for line in prose.splitlines(keepends=True)
        if not _MODULE_LINE.match(line)
    )


def _jsx_label(tag: re.Match[str]) -> str:
    """A tab's label tells which variant follows; other components say nothing."""
    label = _JSX_LABEL.search(tag[0]) or _TAB_VALUE.match(tag[0])
    return f"\n\n{label[1]}\n\n" if label else ""


def _plain_line(line: str) -> str:
    admonition = _ADMONITION.match(line)
    if admonition is None:
        return line
    title = admonition[1].strip("[] ")
    return f"\n{title}\n\n" if title else "\n"


def _parser() -> MarkdownIt:
    # The `js-default` preset is CommonMark with tables and strikethrough.
    parser = MarkdownIt("js-default", {"html": True, "linkify": False})
    parser.add_render_rule("html_inline", _known_html)
    parser.add_render_rule("html_block", _known_html)
    return parser


def _known_html(self: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """HTML as it stands, but <placeholders> such as <your-key> are text."""
    return _TAG.sub(_known_tag, tokens[index].content)


def _known_tag(tag: re.Match[str]) -> str:
    return tag[0] if tag[1].lower() in KNOWN_TAGS else escapeHtml(tag[0])
