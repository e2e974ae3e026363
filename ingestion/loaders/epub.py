"""EPUB books: the pages of the spine, in reading order."""

import posixpath
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote
from xml.etree.ElementTree import Element, ParseError

from ingestion.loaders.archive import open_archive
from ingestion.loaders.blocks import first_heading, title_of
from ingestion.loaders.encoding import decode
from ingestion.loaders.html import declared_charset, read_html
from ingestion.loaders.limits import LoadLimits
from ingestion.loaders.registry import EPUB
from kb.errors import UnreadableDocument
from kb.types import Block, FailureCategory, ParsedDocument

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
# Fonts may be obfuscated in a book that is free to read; these are those schemes.
_FONT_SCHEMES = (b"http://www.idpf.org/2008/embedding", b"http://ns.adobe.com/pdf/enc#RC")
_MOST_NAMED = 5
_PAGE_TYPES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")


def load(path: Path, limits: LoadLimits) -> ParsedDocument:
    """Raises UnreadableDocument (BROKEN, ENCRYPTED) and DocumentTooLarge."""
    with open_archive(path, limits) as archive:
        _refuse_encrypted(archive)
        package_path, package = _package(archive)
        blocks: list[Block] = []
        warnings: list[str] = []
        missing: list[str] = []
        # Each page once: a small book could name a large one without end.
        for name in dict.fromkeys(_spine(package, posixpath.dirname(package_path))):
            try:
                data = archive.read(name)
            except KeyError:
                missing.append(name)
                continue
            decoded = decode(data, declared_charset(data))
            _, page_blocks, page_warnings = read_html(decoded.text)
            blocks += page_blocks
            warnings += (*decoded.warnings(), *page_warnings)
    if missing:
        warnings.append(f"Pages that the book names and does not hold: {_some(missing)}.")
    title = package.find(".//{*}metadata/{*}title")
    return ParsedDocument(
        title_of(path, title.text if title is not None else None, first_heading(blocks)),
        tuple(blocks),
        EPUB.media_type,
        tuple(warnings),
    )


def _some(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _refuse_encrypted(archive: zipfile.ZipFile) -> None:
    if _ENCRYPTION not in archive.namelist():
        return
    declared = archive.read(_ENCRYPTION)
    schemes = declared.count(b"EncryptionMethod Algorithm") + declared.count(b"EncryptionMethod\n")
    if sum(declared.count(scheme) for scheme in _FONT_SCHEMES) < schemes:
        raise UnreadableDocument(
            "The book is protected against copying (DRM). Use an edition without protection.",
            FailureCategory.ENCRYPTED,
        )


def _package(archive: zipfile.ZipFile) -> tuple[str, Element]:
    """The package document, which lists the book's parts, and where it lies."""
    container = _xml(archive, _CONTAINER)
    root = container.find(".//{*}rootfile")
    package_path = (root.get("full-path") if root is not None else None) or ""
    return package_path, _xml(archive, package_path)


def _xml(archive: zipfile.ZipFile, name: str) -> Element:
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        root: Element = fromstring(archive.read(name))
    except (KeyError, ParseError, DefusedXmlException, ValueError) as error:
        raise UnreadableDocument(
            f"The book's list of parts ({name or 'package'}) is missing or damaged. Download it again.",
            FailureCategory.BROKEN,
        ) from error
    return root


def _spine(package: Element, folder: str) -> Iterator[str]:
    """The archive names of the pages in reading order, the navigation page left out."""
    items = {item.get("id"): item for item in package.iterfind(".//{*}manifest/{*}item")}
    for reference in package.iterfind(".//{*}spine/{*}itemref"):
        item = items.get(reference.get("idref"))
        if item is None or "nav" in (item.get("properties") or "").split():
            continue
        if item.get("media-type") in _PAGE_TYPES and (href := item.get("href")):
            yield posixpath.normpath(posixpath.join(folder, unquote(href)))
