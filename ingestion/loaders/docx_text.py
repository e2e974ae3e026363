"""The text of one Word paragraph, and what hangs on it: text boxes, graphics and notes."""

from dataclasses import dataclass, field
from typing import Any

from ingestion.loaders.docx_math import linear
from ingestion.loaders.ooxml import CHART, DIAGRAM, MATH, RELATIONSHIPS, WORD, children

_W = f"{{{WORD}}}"
_TEXT_OF_EMPTY = {
    f"{_W}tab": " ",
    f"{_W}ptab": " ",
    f"{_W}br": "\n",
    f"{_W}cr": "\n",
    f"{_W}noBreakHyphen": "-",
}
# Deleted and moved-away text, pronunciation marks above ruby text, and properties.
_LEFT_OUT = frozenset(
    f"{_W}{name}"
    for name in ("del", "moveFrom", "rt", "pPr", "rPr", "instrText", "delText", "sdtPr")
)
_NOTES = {
    f"{_W}footnoteReference": "footnotes",
    f"{_W}endnoteReference": "endnotes",
    f"{_W}commentReference": "comments",
}


@dataclass(slots=True)
class ParagraphText:
    """`boxes` are w:txbxContent elements, `graphics` relation ids of charts and diagrams,
    `notes` pairs of a part ("footnotes", "endnotes", "comments") and an id in it."""

    text: str = ""
    boxes: list[Any] = field(default_factory=list)
    charts: list[str] = field(default_factory=list)
    diagrams: list[str] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)


def read_paragraph(paragraph: Any) -> ParagraphText:
    """Reads w:p with inserted text kept, deleted and hidden text dropped, equations in a line."""
    result = ParagraphText()
    parts: list[str] = []
    _collect(paragraph, parts, result)
    result.text = "".join(parts)
    return result


def _collect(element: Any, parts: list[str], result: ParagraphText) -> None:
    for child in children(element):
        tag = child.tag
        if tag == f"{_W}t":
            parts.append(child.text or "")
        elif tag in _TEXT_OF_EMPTY:
            parts.append(_TEXT_OF_EMPTY[tag])
        elif tag == f"{{{MATH}}}oMath":
            parts.append(f" {linear(child)} ")
        elif tag == f"{_W}txbxContent":
            result.boxes.append(child)
        elif tag in _NOTES:
            result.notes.append((_NOTES[tag], child.get(f"{_W}id", "")))
        elif tag == f"{{{CHART}}}chart":
            result.charts.append(child.get(f"{{{RELATIONSHIPS}}}id", ""))
        elif tag == f"{{{DIAGRAM}}}relIds":
            result.diagrams.append(child.get(f"{{{RELATIONSHIPS}}}dm", ""))
        elif tag not in _LEFT_OUT and not _is_hidden(child):
            _collect(child, parts, result)


def _is_hidden(run: Any) -> bool:
    mark = run.find(f"{_W}rPr/{_W}vanish") if run.tag == f"{_W}r" else None
    return mark is not None and mark.get(f"{_W}val") not in ("0", "false", "off")
