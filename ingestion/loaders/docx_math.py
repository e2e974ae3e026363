"""Equations of Word and PowerPoint (OMML) as one readable line, such as `x = (-b ± √(c))/(2a)`."""

from typing import Any

from ingestion.loaders.ooxml import MATH

_PROPERTIES = "Pr"


def linear(element: Any) -> str:
    """The equation below `element` (m:oMath or any part of one) in a line of plain text."""
    name = _name(element)
    if name == "t":
        return element.text or ""
    if name.endswith(_PROPERTIES):
        return ""
    shape = _SHAPES.get(name)
    return shape(element) if shape else _joined(element)


def _name(element: Any) -> str:
    tag = element.tag
    prefix = f"{{{MATH}}}"
    return str(tag).removeprefix(prefix) if isinstance(tag, str) and tag.startswith(prefix) else ""


def _joined(element: Any) -> str:
    return "".join(linear(child) for child in element)


def _part(element: Any, name: str) -> str:
    found = element.find(f"{{{MATH}}}{name}")
    return "" if found is None else _joined(found)


def _grouped(text: str) -> str:
    """In brackets, unless it is one word or already in them."""
    return text if text.isalnum() or not text else f"({text})"


def _property(element: Any, holder: str, name: str, default: str) -> str:
    found = element.find(f"{{{MATH}}}{holder}/{{{MATH}}}{name}")
    return default if found is None else str(found.get(f"{{{MATH}}}val", ""))


def _fraction(element: Any) -> str:
    return f"{_grouped(_part(element, 'num'))}/{_grouped(_part(element, 'den'))}"


def _superscript(element: Any) -> str:
    return f"{_part(element, 'e')}^{_grouped(_part(element, 'sup'))}"


def _subscript(element: Any) -> str:
    return f"{_part(element, 'e')}_{_grouped(_part(element, 'sub'))}"


def _both_scripts(element: Any) -> str:
    return f"{_subscript(element)}^{_grouped(_part(element, 'sup'))}"


def _root(element: Any) -> str:
    degree = _part(element, "deg")
    return f"{degree}√({_part(element, 'e')})"


def _big_operator(element: Any) -> str:
    sign = _property(element, "naryPr", "chr", "∫")
    below, above = _part(element, "sub"), _part(element, "sup")
    bounds = (f"_{_grouped(below)}" if below else "") + (f"^{_grouped(above)}" if above else "")
    return f"{sign}{bounds} {_part(element, 'e')}"


def _delimited(element: Any) -> str:
    opening = _property(element, "dPr", "begChr", "(")
    closing = _property(element, "dPr", "endChr", ")")
    inner = ", ".join(_joined(part) for part in element.findall(f"{{{MATH}}}e"))
    return f"{opening}{inner}{closing}"


def _function(element: Any) -> str:
    return f"{_part(element, 'fName')} {_part(element, 'e')}"


def _matrix(element: Any) -> str:
    rows = element.findall(f"{{{MATH}}}mr")
    return "; ".join(
        ", ".join(_joined(cell) for cell in row.findall(f"{{{MATH}}}e")) for row in rows
    )


_SHAPES = {
    "f": _fraction,
    "sSup": _superscript,
    "sSub": _subscript,
    "sSubSup": _both_scripts,
    "rad": _root,
    "nary": _big_operator,
    "d": _delimited,
    "func": _function,
    "m": _matrix,
}
