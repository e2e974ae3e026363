"""Bytes to text: which encoding, with care for Chinese, where guessing most often goes wrong."""

import codecs

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: its mark starts with UTF-16's
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

SAMPLE_BYTES = 256 * 1024
"""How much of a file is looked at to tell its encoding."""

# Controls that occur in text: tab, line ends, form feed, escape (terminal logs).
_TEXT_CONTROLS = frozenset(b"\t\n\r\x0b\x0c\x1b\x08\x07\x1a")
_CONTROLS = bytes(set(range(32)) - _TEXT_CONTROLS)


def looks_binary(data: bytes) -> bool:
    """Whether this cannot be text in any encoding we read."""
    if not data or bom_encoding(data) or wide_encoding(data):
        return False
    if b"\0" in data:
        return data.count(0) > len(data) // 1000
    return len(data) - len(data.translate(None, _CONTROLS)) > len(data) // 50


def bom_encoding(data: bytes) -> str | None:
    return next((name for mark, name in _BOMS if data.startswith(mark)), None)


def wide_encoding(data: bytes) -> str | None:
    """UTF-16 without a mark: valid, and either its line ends and spaces or its scripts give it away."""
    if len(data) < 4 or (len(data) % 2 and len(data) < 4):
        return None
    even, odd = data[0::2].count(0), data[1::2].count(0)
    return "utf-16-le" if odd > 3 * even + 1 else "utf-16-be" if even > 3 * odd + 1 else None
