"""JSON, JSON Lines and Jupyter notebooks.

A record with a title and a text becomes a heading and paragraphs. Anything else becomes lines of
`path: value`, which read alone.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ingestion.loaders.blocks import code, first_heading, heading, one_line, title_of
from ingestion.loaders.encoding import decode
from ingestion.loaders.limits import LoadLimits
from ingestion.loaders.markdown import read_markdown
from ingestion.loaders.registry import JSON, NOTEBOOK, SUFFIXES
from kb.errors import UnreadableDocument
from kb.types import Block, FailureCategory, ParsedDocument

_TITLES = ("title", "name", "headline", "subject", "question")
_TEXTS = ("text", "content", "body", "description", "abstract", "summary", "answer")
_LINE_SUFFIXES = (".jsonl", ".ndjson")
_NAMED_LINES = 5
_LINES_PER_BLOCK = 30
_MAX_DEPTH = 200


def load(path: Path, limits: LoadLimits) -> ParsedDocument:
    """Raises UnreadableDocument (BROKEN) where nothing in it is JSON."""
    decoded = decode(path.read_bytes())
    text = decoded.text.lstrip("\ufeff")
    suffix = path.suffix.lower()
    title: str | None = None
    warnings: tuple[str, ...] = ()
    if suffix in _LINE_SUFFIXES:
        blocks, warnings = _json_lines(text)
    elif SUFFIXES.get(suffix) is NOTEBOOK:
        title, blocks = _notebook(_parsed(text))
    else:
        blocks, warnings = _document(text)
    entry = SUFFIXES.get(suffix, JSON)
    return ParsedDocument(
        title_of(path, title, first_heading(blocks)),
        tuple(blocks),
        entry.media_type,
        decoded.warnings() + warnings,
    )


def _document(text: str) -> tuple[list[Block], tuple[str, ...]]:
    try:
        return list(_value_blocks(_parsed(text))), ()
    except UnreadableDocument:
        # Many .json files are JSON Lines: that is tried before giving up.
        if "\n{" not in text.strip():
            raise
    return _json_lines(text)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UnreadableDocument(
            f"The file is not valid JSON: {error.msg} in line {error.lineno}, "
            f"column {error.colno}. Correct it or export it again.",
            FailureCategory.BROKEN,
        ) from error
    except RecursionError as error:
        raise UnreadableDocument(
            "The file is nested too deeply to be read.", FailureCategory.BROKEN
        ) from error


def _json_lines(text: str) -> tuple[list[Block], tuple[str, ...]]:
    blocks: list[Block] = []
    broken: list[int] = []
    read = 0
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            broken.append(number)
            continue
        read += 1
        blocks += _value_blocks(record, level=2)
    if broken and not read:
        raise UnreadableDocument(
            "No line of the file is valid JSON. Export it again.", FailureCategory.BROKEN
        )
    return blocks, _broken_lines(broken)


def _broken_lines(numbers: list[int]) -> tuple[str, ...]:
    if not numbers:
        return ()
    named = ", ".join(map(str, numbers[:_NAMED_LINES]))
    more = " and others" if len(numbers) > _NAMED_LINES else ""
    return (f"{len(numbers)} lines are not valid JSON and were left out: {named}{more}.",)


def _value_blocks(value: Any, level: int = 1) -> Iterator[Block]:
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for item in value:
            yield from _value_blocks(item, 2)
        return
    if isinstance(value, dict) and (text := _first(value, _TEXTS)):
        yield from _record_blocks(value, text, level)
        return
    lines = list(_lines(value))
    for start in range(0, len(lines), _LINES_PER_BLOCK):
        yield Block("\n".join(lines[start : start + _LINES_PER_BLOCK]))


def _record_blocks(record: dict[str, Any], text: str, level: int) -> Iterator[Block]:
    """Heading, text, then the other fields as lines."""
    title = _first(record, _TITLES)
    if title:
        yield heading(record[title], level)
    yield from (Block(part) for part in record[text].replace("\r\n", "\n").split("\n\n"))
    rest = {key: value for key, value in record.items() if key not in (title, text)}
    if lines := list(_lines(rest)):
        yield Block("\n".join(lines))


def _first(record: dict[str, Any], names: tuple[str, ...]) -> str:
    """The first of these fields that holds words, or an empty string."""
    for name in names:
        value = record.get(name)
        if isinstance(value, str) and value.strip():
            return name
    return ""


def _lines(value: Any) -> Iterator[str]:
    """`path: value` of every leaf, without recursion; blank leaves are left out."""
    waiting: list[tuple[str, Any, int]] = [("", value, 0)]
    while waiting:
        path, item, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            continue
        if isinstance(item, dict):
            nested = [
                (f"{path}.{key}" if path else str(key), part, depth + 1)
                for key, part in item.items()
            ]
            waiting += reversed(nested)
        elif isinstance(item, list) and any(isinstance(part, dict | list) for part in item):
            waiting += reversed(
                [(f"{path}[{i}]", part, depth + 1) for i, part in enumerate(item, 1)]
            )
        elif words := _leaf(item):
            yield f"{one_line(path)}: {words}" if path else words


def _leaf(item: Any) -> str:
    if isinstance(item, list):
        return ", ".join(words for part in item if (words := _leaf(part)))
    if item is None or isinstance(item, str):
        return one_line(item or "")
    return json.dumps(item)


def _notebook(notebook: Any) -> tuple[str | None, list[Block]]:
    """Markdown and code cells in order; outputs are left out."""
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise UnreadableDocument(
            "The file is no Jupyter notebook of version 4. Open it in Jupyter and save it again.",
            FailureCategory.BROKEN,
        )
    blocks: list[Block] = []
    for cell in notebook["cells"]:
        if not isinstance(cell, dict):
            continue
        source = _joined(cell.get("source"))
        if cell.get("cell_type") == "markdown":
            blocks += read_markdown(source)[1]
        else:
            blocks.append(code(source))
    metadata = notebook.get("metadata")
    title = metadata.get("title") if isinstance(metadata, dict) else None
    return (title if isinstance(title, str) else None), blocks


def _joined(source: Any) -> str:
    """Notebooks keep text as one string or as a list of lines."""
    if isinstance(source, list):
        return "".join(line for line in source if isinstance(line, str))
    return source if isinstance(source, str) else ""
