"""A document, its source and an index schema: what the tests of catalogues share."""

from datetime import UTC, datetime

from kb.types import Document, DocumentStatus, IndexSchema, SourceKind, SourceRecord

SCHEMA = IndexSchema("e5/abc", 384, 1, 1)
SOURCE = SourceRecord("s1", "docs", SourceKind.FOLDER, "/home/me/文档", ("team", "管理员"))
NOON = datetime(2026, 3, 29, 12, 0, 0, 123456, tzinfo=UTC)
DOCUMENT = Document(
    id="d1",
    collection="docs",
    source_id="s1",
    uri="file:///home/me/文档/guide.md",
    title="安装指南 – “Install” 🛠",
    media_type="text/markdown",
    size=5 * 2**30,
    mtime_ns=1_790_000_000_123_456_789,
    content_hash="c0ffee",
    status=DocumentStatus.INDEXED,
    groups=("team", "管理员"),
    chunk_count=7,
    attempts=2,
    warnings=("Two pictures were left out.",),
    indexed_at=NOON,
)
