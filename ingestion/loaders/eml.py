"""E-mail messages, and web pages saved as one file (MHTML), which are built the same way."""

from collections.abc import Iterator
from email import policy
from email.message import EmailMessage, MIMEPart
from email.parser import BytesParser
from pathlib import Path

from ingestion.loaders.blocks import one_line, title_of
from ingestion.loaders.encoding import decode
from ingestion.loaders.html import declared_charset, read_html
from ingestion.loaders.limits import LoadLimits
from ingestion.loaders.registry import EMAIL
from kb.errors import UnreadableDocument
from kb.types import Block, BlockKind, FailureCategory, ParsedDocument

_HEADERS = ("From", "To", "Cc", "Date")


def load(path: Path, limits: LoadLimits) -> ParsedDocument:
    """Raises UnreadableDocument: ENCRYPTED for S/MIME and PGP messages, BROKEN without any header."""
    message = BytesParser(policy=policy.default).parsebytes(path.read_bytes())
    if not message.keys():
        raise UnreadableDocument(
            "The file is no e-mail message: it has no header lines. Export the message again.",
            FailureCategory.BROKEN,
        )
    if _is_encrypted(message):
        raise UnreadableDocument(
            "The message is encrypted. Save its decrypted text.", FailureCategory.ENCRYPTED
        )
    subject = _header(message, "Subject")
    title, blocks, warnings = _body(message)
    lines = [f"{name}: {value}" for name in _HEADERS if (value := _header(message, name))]
    heading = [Block(subject, BlockKind.HEADING, 1)] if subject else []
    return ParsedDocument(
        title_of(path, subject, title),
        (*heading, Block("\n".join(lines)), *blocks),
        EMAIL.media_type,
        (*warnings, *_attachments(message)),
    )


def _is_encrypted(message: EmailMessage) -> bool:
    kind = message.get_content_type()
    if kind == "multipart/encrypted":
        return True
    # S/MIME: "signed-data" of the same type is readable only after unpacking, but is rare.
    return kind in ("application/pkcs7-mime", "application/x-pkcs7-mime")


def _header(message: EmailMessage, name: str) -> str:
    raw = next(
        (str(value) for key, value in message.raw_items() if key.lower() == name.lower()), ""
    )
    # Raw eight-bit headers (not allowed, yet common in Chinese mail) arrive as surrogates, which
    # the library's own reading would replace.
    if any("\udc80" <= character <= "\udcff" for character in raw):
        return one_line(decode(raw.encode("utf-8", "surrogateescape")).text)
    try:
        return one_line(str(message.get(name, "")))
    except (ValueError, IndexError, AttributeError, TypeError):
        # The standard library's parsers of addresses and dates fail on malformed ones.
        return one_line(raw)


def _body(message: EmailMessage) -> tuple[str | None, list[Block], tuple[str, ...]]:
    """The title of an HTML body, the blocks, and warnings: plain text where there is some, else HTML."""
    plain = message.get_body(("plain",))
    if plain is not None:
        decoded = decode(_payload(plain), plain.get_content_charset())
        if decoded.text.strip():
            paragraphs = decoded.text.replace("\r\n", "\n").split("\n\n")
            return None, [Block(text) for text in paragraphs], decoded.warnings()
    html = message.get_body(("html",))
    if html is None:
        return None, [], ()
    data = _payload(html)
    decoded = decode(data, html.get_content_charset() or declared_charset(data))
    title, blocks, warnings = read_html(decoded.text)
    return title, blocks, decoded.warnings() + warnings


def _payload(part: MIMEPart) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _attachments(message: EmailMessage) -> Iterator[str]:
    for part in message.iter_attachments():
        name = part.get_filename()
        if name:
            yield f"The attachment {one_line(name)} was left out: save it as a file of its own."
        elif part.get_content_type() == "message/rfc822":
            yield "A forwarded message was left out: save it as a file of its own."
