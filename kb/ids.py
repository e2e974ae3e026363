"""Deterministic ids: the same document at the same place always has the same ids.

All are lower-case hex of BLAKE2b; 32 digits (128 bits) for things we may have billions of.
"""

from hashlib import blake2b
from pathlib import Path

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


def source_id(collection: str, kind: str, root: str) -> str:
    return _digest("source", collection, kind, root)


def document_id(source: str, relative_path: str) -> str:
    return _digest("document", source, relative_path)


def text_hash(passage: str) -> str:
    return _digest("text", passage)


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
