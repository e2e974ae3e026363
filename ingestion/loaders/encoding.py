"""Bytes to text: which encoding, with care for Chinese, where guessing most often goes wrong.

A byte order mark decides, then what the file declares, then strict UTF-8. What is left is guessed:
each candidate's text is priced by how rare its characters are, and the cheapest reading wins.
General detectors need a few hundred bytes for that; a Chinese file name list or title has twenty.
"""

import codecs
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

from ingestion.loaders.characters import cost

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it starts with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# Supersets of what files declare: writers say gb2312 and latin-1 and use more.
_SUPERSETS = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "hz": "hz",
    "big5": "big5hkscs",
    "cp950": "big5hkscs",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
    "iso8859-9": "cp1254",
}

# (encoding, what is added to its price): a wide encoding without a mark is rare, and so are
# languages other than the ones this product is for.
_GUESSES = (
    ("utf-8", -2.0),
    ("gb18030", 0.0),
    ("big5hkscs", 1.0),
    ("cp1252", 2.0),
    ("cp932", 3.0),
    ("euc_jp", 4.0),
    ("cp949", 4.0),
    ("cp1251", 4.0),
    ("utf-16-le", 6.0),
    ("utf-16-be", 7.0),
)
# A Latin letter against a letter of another script: usual in no language's words, and what comes
# of reading an accented letter wrongly.
_MIXED = re.compile(
    "[A-Za-z](?=[\u0370-\u04ff\u3041-\ud7a3])|[\u0370-\u04ff\u3041-\ud7a3](?=[A-Za-z])"
)
_MIXED_WORD = 2.5

_SHORT = 16
"""Bytes up to which text of another encoding may happen to be valid UTF-8 (目录 in GB 18030 is)."""

_SINGLE_BYTE = ("cp1252", "cp1251")
# What charset-normalizer may choose between once the text is known to be of a one-byte encoding.
_SINGLE_BYTE_FAMILY = [
    *("cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257"),
    *("koi8_r", "iso8859_2", "iso8859_5", "iso8859_7"),
]
_ENOUGH_FOR_STATISTICS = 24
"""Non-ASCII bytes below which charset-normalizer's choice among one-byte encodings is a gamble."""

SAMPLE_BYTES = 16 * 1024
"""How much of a file's non-ASCII lines is priced."""

_NON_ASCII_LINES = re.compile(rb"[\x01-\x7f]?[\x80-\xff\0][^\n]*\n?")
_ISO_2022_JP = re.compile(rb"\x1b\$[@B]")

_WIDE = ("utf-16-le", "utf-16-be")
_STRANGE = 9.0
"""Nats a character beyond which a guess at UTF-16 is wrong: almost any bytes read as something in it."""

MAX_BROKEN_SHARE = 0.03
"""Share of undecodable, unassigned or control characters beyond which bytes are not text."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """`broken` counts places where bytes could not be read and U+FFFD stands instead."""

    text: str
    encoding: str
    broken: int

    def warnings(self) -> tuple[str, ...]:
        if not self.broken:
            return ()
        return (
            f"{self.broken:,} places could not be read as {self.encoding} and were marked with \ufffd.",
        )


def decode(data: bytes, declared: str | None = None) -> Decoded:
    """The text of these bytes. `declared` is believed where the bytes agree with it."""
    encoding = _encoding(data, declared)
    text = data.decode(encoding, "replace")
    return Decoded(text, encoding, text.count("\ufffd") - data.count(b"\xef\xbf\xbd"))


def looks_binary(data: bytes) -> bool:
    """Whether this (the start of a file) cannot be text in any encoding we read."""
    encoding, sample = _encoding(data, None), _sample(data)
    text = sample.decode(encoding, "ignore")
    if encoding in _WIDE and _price(sample, encoding) > _STRANGE * len(text):
        return True
    broken = sum(count for character, count in Counter(text).items() if _is_broken(character))
    return broken > MAX_BROKEN_SHARE * len(text)


def _is_broken(character: str) -> bool:
    # Co: private use, Cn: unassigned, Cs: lone surrogates, Cc: controls.
    if character in "\t\n\r\x0b\x0c\x1b\x08\x1a":
        return False
    return unicodedata.category(character) in ("Cc", "Cn", "Co", "Cs")


def _encoding(data: bytes, declared: str | None) -> str:
    for mark, name in _BOMS:
        if data.startswith(mark):
            return name
    if declared and (known := _known(declared)) and _reads(data, known):
        return known
    if _ISO_2022_JP.search(data) and _reads(data, "iso2022_jp"):
        return "iso2022_jp"
    certain = len(data) > _SHORT or data.isascii()
    if certain and b"\0" not in data and _reads(data, "utf-8"):
        return "utf-8"
    return _guess(data)


def _known(declared: str) -> str | None:
    try:
        name = codecs.lookup(declared.strip()).name
    except (LookupError, ValueError):
        return None
    name = _SUPERSETS.get(name, name)
    # Codecs such as rot13 or base64 turn bytes into something else than text.
    return name if codecs.lookup(name)._is_text_encoding else None


def _reads(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeError:
        return False
    return True


def _sample(data: bytes) -> bytes:
    """What tells encodings apart: from the first byte of each line that is not ASCII on.

    Short files, and wide encodings, which have no such lines, give their start.
    """
    if len(data) <= SAMPLE_BYTES:
        return data
    if data.count(0) > len(data) // 10 or (data.isascii() and b"\0" not in data):
        return data[: SAMPLE_BYTES & ~1]
    found = bytearray()
    for line in _NON_ASCII_LINES.finditer(data):
        found += line.group()[:SAMPLE_BYTES]
        if len(found) >= SAMPLE_BYTES:
            break
    return bytes(found[:SAMPLE_BYTES])


def _guess(data: bytes) -> str:
    sample = _sample(data)
    prices = {
        name: _price(data if "16" in name else sample, name) + extra for name, extra in _GUESSES
    }
    best = min(prices, key=prices.__getitem__)
    return _single_byte(sample) if best in _SINGLE_BYTE else best


def _price(data: bytes, encoding: str) -> float:
    """How surprising this text would be, in nats (natural log of probability, negated)."""
    text = data[:SAMPLE_BYTES].decode(encoding, "replace")
    characters = sum(count * cost(character) for character, count in Counter(text).items())
    return characters + _MIXED_WORD * len(_MIXED.findall(text))


def _single_byte(sample: bytes) -> str:
    from charset_normalizer import from_bytes

    cyrillic = _price(sample, "cp1251") < _price(sample, "cp1252")
    own = "cp1251" if cyrillic else "cp1252"
    if len(sample) - len(sample.translate(None, bytes(range(128, 256)))) < _ENOUGH_FOR_STATISTICS:
        return own
    best = from_bytes(sample, cp_isolation=_SINGLE_BYTE_FAMILY).best()
    return best.encoding if best else own
