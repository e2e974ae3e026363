"""Deterministic ids: the same document at the same place always has the same ids.

All are lower-case hex of BLAKE2b; 32 digits (128 bits) for things we may have billions of.
"""

import re
import unicodedata
from hashlib import blake2b
from pathlib import Path

from kb.errors import InvalidQueryError
from kb.types import Document

COLLECTION_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
"""What index names, file names, URLs and model ids can all hold."""

ID_BYTES = 16
_CONTENT_BLOCK = 1 << 20


def _digest(*parts: str) -> str:
    """Hash of several strings; the lengths keep ("ab", "c") apart from ("a", "bc")."""
    digest = blake2b(digest_size=ID_BYTES)
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.hexdigest()


def check_collection_name(name: str) -> None:
    """Raises InvalidQueryError."""
    if not COLLECTION_NAME.fullmatch(name):
        raise InvalidQueryError(
            f"{name[:80]!r} can't be a collection's name. Use lower-case letters a to z, digits and"
            " hyphens, at most 63, beginning with a letter or digit: for example team-docs."
        )


def source_id(collection: str, kind: str, root: str) -> str:
    return _digest("source", collection, kind, root)


def document_id(source: str, relative_path: str) -> str:
    return _digest("document", source, relative_path)


def revision(document: Document) -> str:
    """What an index must hold of a document: it changes with the file, its name and its rights."""
    return _digest("revision", document.content_hash, document.uri, *sorted(document.groups))


def text_hash(passage: str) -> str:
    return _digest("text", passage)


def document_text_hash(text: str) -> str:
    """The same for texts that differ in Unicode form, case and white space only (decision 0015)."""
    words = unicodedata.normalize("NFKC", text).casefold().split()
    return _digest("document text", " ".join(words)) if words else ""


def chunk_id(document: str, passage_hash: str, occurrence: int) -> str:
    """`occurrence` counts equal passages within the document from 0.

    The position is left out on purpose: an edit elsewhere keeps the id.
    """
    return _digest("chunk", document, passage_hash, str(occurrence))


def content_hash(path: Path) -> str:
    """Hash of a file's bytes, read in blocks. Raises OSError."""
    digest = blake2b(digest_size=ID_BYTES)
    with path.open("rb") as file:
        while block := file.read(_CONTENT_BLOCK):
            digest.update(block)
    return digest.hexdigest()
