"""The catalogue's tables.

Columns bear the names of the fields in `kb.types`, so that a row becomes a value without a mapping
in between. A change here needs a migration in `alembic/versions` and the new `SCHEMA_REVISION`.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    text,
)

from kb.db.columns import CleanText, Strings, UtcDateTime, one_of
from kb.feedback import Rating
from kb.types import DocumentStatus, FailureCategory, RunStatus, SourceKind, Symlinks

SCHEMA_REVISION = "0009"
"""The newest migration. A constant, so that opening the catalogue needs no alembic (1 s to import)."""

metadata = MetaData(
    # Fixed names: migrations must be able to name what they change.
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _collection(*, primary_key: bool = False, nullable: bool = False) -> Column[str]:
    key = ForeignKey("collections.name", ondelete="CASCADE")
    return Column("collection", Text, key, primary_key=primary_key, nullable=nullable)


collections = Table(
    "collections",
    metadata,
    Column("name", Text, primary_key=True),
    Column("created_at", UtcDateTime, nullable=False),
    # Who may change what is live, and until when; nobody else writes documents meanwhile.
    Column("held_by", Text),
    Column("held_until", UtcDateTime),
)

sources = Table(
    "sources",
    metadata,
    Column("id", Text, primary_key=True),
    _collection(),
    Column("kind", one_of(SourceKind), nullable=False),
    Column("root", Text, nullable=False),
    Column("groups", Strings, nullable=False),
    Column("include", Strings, nullable=False),
    Column("exclude", Strings, nullable=False),
    Column("max_file_mb", Integer),
    Column("symlinks", one_of(Symlinks), nullable=False),
    Column("paused", Boolean, nullable=False),
    Index(None, "collection"),
)

documents = Table(
    "documents",
    metadata,
    Column("id", Text, primary_key=True),
    _collection(),
    Column("source_id", Text, ForeignKey("sources.id", ondelete="CASCADE"), nullable=False),
    Column("uri", CleanText, nullable=False),
    Column("title", CleanText, nullable=False),
    Column("media_type", CleanText, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("content_hash", Text, nullable=False),
    Column("status", one_of(DocumentStatus), nullable=False),
    Column("groups", Strings, nullable=False),
    Column("chunk_count", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error_category", one_of(FailureCategory)),
    Column("error_message", CleanText),
    Column("warnings", Strings, nullable=False),
    Column("indexed_at", UtcDateTime),
    Column("text_hash", Text, nullable=False),
    # No foreign key: an original may go before its duplicates are read again (`strays`).
    Column("duplicate_of", Text),
    Index(None, "collection", "text_hash"),
    Index(None, "duplicate_of"),
    # Pages of a source, of a collection, and of a collection's documents in one status.
    Index(None, "source_id", "id"),
    Index(None, "collection", "id"),
    # chunk_count last: counts by status and the sum of chunks are read from the index alone.
    Index(None, "collection", "status", "id", "chunk_count"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    _collection(nullable=True),
    Column("source_id", Text, ForeignKey("sources.id", ondelete="SET NULL")),
    Column("kind", Text, nullable=False),
    Column("status", one_of(RunStatus), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("counts", JSON, nullable=False),
    Column("error", CleanText),
    Column("beat_at", UtcDateTime),
    Column("cancel_requested", Boolean, nullable=False),
    Column("queued_at", UtcDateTime),
    Column("request", JSON, nullable=False),
    # No foreign key: keys stay for good.
    Column("requested_by", Text),
    Column("attempts", Integer, nullable=False),
    Index(None, "started_at", "id"),
    Index(None, "collection", "started_at", "id"),
    Index(None, "source_id"),
    Index(None, "status", "queued_at", "id"),
)

leases = Table(
    "leases",
    metadata,
    # The key itself refuses a second worker the same slot.
    Column("job", Text, primary_key=True),
    Column("slot", Text, primary_key=True),
    Column("owner", Text),
    Column("beat_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("error", CleanText),
)

generations = Table(
    "generations",
    metadata,
    _collection(primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("index_name", Text, nullable=False, unique=True),
    Column("fingerprint", Text, nullable=False),
    Column("dimensions", Integer, nullable=False),
    Column("mapping_version", Integer, nullable=False),
    Column("chunker_version", Integer, nullable=False),
    Column("live", Boolean, nullable=False),
    Column("embedder", JSON, nullable=False),
    # See `kb.types.Generation`: what was found before is kept under the stamp it was found with.
    Column("stamp", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    # The database itself refuses a second live generation.
    Index(
        "uq_generations_live",
        "collection",
        unique=True,
        sqlite_where=text("live"),
        postgresql_where=text("live"),
    ),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", CleanText, nullable=False),
    # SHA-256 of the secret, in hex.
    Column("secret_hash", Text, nullable=False),
    Column("scopes", Strings, nullable=False),
    Column("collections", Strings, nullable=False),
    Column("groups", Strings, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
)

feedback = Table(
    "feedback",
    metadata,
    # Of one answer each reader has one opinion.
    Column("answer_id", CleanText, primary_key=True),
    Column("given_by", Text, primary_key=True),
    _collection(),
    Column("question", CleanText, nullable=False),
    Column("answer", CleanText, nullable=False),
    Column("rating", one_of(Rating), nullable=False),
    Column("comment", CleanText, nullable=False),
    Column("cited", Strings, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Index(None, "collection", "created_at"),
)
