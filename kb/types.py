"""The words of the product, as plain frozen values.

A *source* holds *documents*; a document is cut into *chunks*; a search returns *hits*;
an answer carries *citations*. Everything here pickles, because it crosses process borders.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]
"""One embedding, shape (dimensions,), L2 norm 1."""
Vectors = npt.NDArray[np.float32]
"""Embeddings, shape (n, dimensions), each row of L2 norm 1."""


# --- Parsed documents -------------------------------------------------------------------------


class BlockKind(StrEnum):
    HEADING = "heading"
    PARAGRAPH = "paragraph"
    LIST = "list"
    TABLE = "table"
    CODE = "code"


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a parsed document that has one kind and one place.

    `text` is plain text; for a table it is a Markdown table, for a list its Markdown lines, for a
    heading the words alone. `level` is 1 to 6 for headings, else 0. `page` counts pages, slides or
    sheets from 1, and is None where the format has none.
    """

    text: str
    kind: BlockKind = BlockKind.PARAGRAPH
    level: int = 0
    page: int | None = None


BLOCK_SEPARATOR = "\n\n"


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """What a loader gives. `warnings` are sentences for the user about what was left out."""

    title: str
    blocks: tuple[Block, ...]
    media_type: str
    warnings: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The parsed text; chunk spans are character offsets into it."""
        return BLOCK_SEPARATOR.join(block.text for block in self.blocks)


# --- Chunks and the index ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document small enough to embed.

    `start` and `end` are character offsets into the parsed text and `text` is that span. `text_hash`
    is the hash of `passage`, so equal hashes may share a vector. `ordinal` counts from 0 within the
    document. `tokens` is the length of `passage` under the embedder's tokenizer.
    """

    id: str
    document_id: str
    ordinal: int
    title: str
    heading_path: tuple[str, ...]
    page: int | None
    start: int
    end: int
    text: str
    text_hash: str
    tokens: int

    @property
    def passage(self) -> str:
        """The text that is embedded and searched: title, heading path, then the text itself."""
        return passage_text(self.title, self.heading_path, self.text)


def passage_text(title: str, heading_path: tuple[str, ...], text: str) -> str:
    """Title and headings above the text, each once, so that a chunk is found by where it stands."""
    headings = heading_path[1:] if heading_path[:1] == (title,) else heading_path
    lines = [title, " > ".join(headings), text]
    return "\n".join(line for line in lines if line)


@dataclass(frozen=True, slots=True)
class PreparedDocument:
    """A document parsed and cut, but not embedded yet: what a parsing process sends back."""

    title: str
    media_type: str
    warnings: tuple[str, ...]
    chunks: tuple[Chunk, ...]
    text_hash: str = ""
    """`kb.ids.document_text_hash` of the parsed text."""


@dataclass(frozen=True, slots=True)
class IndexedDocument:
    """All chunks of one document with their vectors, ready to be written.

    `vectors` has shape (len(chunks), dimensions). Empty `groups` means: everyone who may read the
    collection; otherwise one common group is needed. `revision` (`kb.ids.revision`) says what of the
    document is indexed here, whatever embedder and chunker it went through.
    """

    id: str
    uri: str
    groups: tuple[str, ...]
    revision: str
    chunks: tuple[Chunk, ...]
    vectors: Vectors


@dataclass(frozen=True, slots=True)
class IndexedContent:
    """What an index holds of one document. Two revisions are those of a write that was cut off."""

    chunk_ids: frozenset[str]
    revisions: frozenset[str]


@dataclass(frozen=True, slots=True)
class IndexSchema:
    """What an index generation was built with; two different schemas never share an index."""

    fingerprint: str
    dimensions: int
    mapping_version: int
    chunker_version: int


@dataclass(frozen=True, slots=True)
class Access:
    """Whose eyes a search is made with.

    `groups=None` sees every document (an administrator); otherwise documents without groups, and those
    that share one. `collections=None` means all of them.
    """

    groups: frozenset[str] | None = None
    collections: frozenset[str] | None = None

    def may_read(self, collection: str) -> bool:
        return self.collections is None or collection in self.collections

    def may_manage(self, collection: str | None) -> bool:
        """As an administrator; None is what concerns all collections."""
        return self.collections is None or collection in self.collections


UNRESTRICTED = Access()


@dataclass(frozen=True, slots=True)
class IndexQuery:
    """One search of one index: a vector side, a lexical side or both.

    `limit` is the number of candidates each side brings. Access and `document_ids` are applied
    before ranking, so a filtered search still fills its limit.
    """

    vector: Vector | None
    terms: tuple[str, ...]
    limit: int
    access: Access = UNRESTRICTED
    document_ids: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk that a search found, with what each side says of it.

    `similarity` is the exact cosine (-1 to 1), known for every candidate when the query had a
    vector, else None. `bm25` is the engine's score (k1 1.2, b .75), 0 where the lexical side did
    not bring the chunk. `terms` are the chunk's, joined by spaces as the index stores them; an index
    that leaves them empty has them worked out again by the fusion, at about 0.3 ms a chunk.
    """

    chunk: Chunk
    uri: str
    similarity: float | None
    bm25: float
    terms: str = ""


@dataclass(frozen=True, slots=True)
class IndexCount:
    documents: int
    chunks: int


# --- Search and answers -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hit:
    """A candidate after fusion. `score` is 0 to 1 and means the same whatever else is indexed.

    `also_at` are the URIs of other documents with the same text, of those the reader may read.
    """

    chunk: Chunk
    uri: str
    collection: str
    score: float
    similarity: float | None
    bm25: float
    also_at: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Citation:
    """The exact span of a document that an answer rests on.

    `number` is the [n] in the answer. `quote` is the span `start:end` of the parsed text. `also_at` is
    the hit's.
    """

    number: int
    document_id: str
    chunk_id: str
    uri: str
    title: str
    heading_path: tuple[str, ...]
    page: int | None
    quote: str
    start: int
    end: int
    score: float
    also_at: tuple[str, ...] = ()


# --- Documents as the catalogue knows them ----------------------------------------------------


class DocumentStatus(StrEnum):
    PENDING = "pending"
    INDEXED = "indexed"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    """Failed three times: left alone until its file changes or a person retries it."""
    EXCLUDED = "excluded"
    """Taken out by a person; sync leaves it out until it is retried."""


class FailureCategory(StrEnum):
    """Why a document could not be indexed. The message beside it says what to do."""

    UNSUPPORTED = "unsupported"
    BROKEN = "broken"
    ENCRYPTED = "encrypted"
    EMPTY = "empty"
    NO_TEXT = "no_text"
    MISLABELLED = "mislabelled"
    TOO_LARGE = "too_large"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    UNREADABLE = "unreadable"
    REJECTED = "rejected"
    """By the index, for good: a term too long for it, say."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source. `relative_path` (POSIX) names it within the source for ever."""

    path: Path
    relative_path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Document:
    """One row of the catalogue. Times are UTC and aware; `size` is in bytes.

    `text_hash` is empty until the document was read. A document whose text another one brought to the
    index, `duplicate_of`, is indexed too, but has no chunks of its own.
    """

    id: str
    collection: str
    source_id: str
    uri: str
    title: str
    media_type: str
    size: int
    mtime_ns: int
    content_hash: str
    status: DocumentStatus
    groups: tuple[str, ...] = ()
    chunk_count: int = 0
    attempts: int = 0
    error_category: FailureCategory | None = None
    error_message: str | None = None
    warnings: tuple[str, ...] = ()
    indexed_at: datetime | None = None
    text_hash: str = ""
    duplicate_of: str | None = None

    @property
    def indexed_as(self) -> str:
        """Id of the document that the index holds the text under."""
        return self.duplicate_of or self.id


@dataclass(frozen=True, slots=True)
class Place:
    """Where a document is."""

    document_id: str
    uri: str


@dataclass(frozen=True, slots=True)
class Collection:
    name: str
    created_at: datetime
    documents: Mapping[DocumentStatus, int] = field(default_factory=dict)
    chunks: int = 0


@dataclass(frozen=True, slots=True)
class Generation:
    """One physical index of a collection; the catalogue names the live one.

    `embedder` holds the settings its embedder is opened with, so that a collection keeps its embedder
    until it is indexed anew, whatever the settings say meanwhile.
    """

    collection: str
    number: int
    index_name: str
    schema: IndexSchema
    live: bool
    embedder: Mapping[str, Any] = field(default_factory=dict)
    stamp: str = field(default="", compare=False)
    """Random, and another one after every change of what a search of the live index may find."""


class SourceKind(StrEnum):
    FOLDER = "folder"
    UPLOAD = "upload"
    """What is uploaded to a collection: one area each."""
    LIST = "list"
    """The files that a text file names, one a line."""


class Symlinks(StrEnum):
    """What becomes of symbolic links in a source."""

    NEVER = "never"
    INSIDE = "inside"
    """Links to files below the root only: whoever writes there must not publish the rest of the disk."""
    FOLLOW = "follow"
    """Wherever they lead, to folders too."""


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """A source as the catalogue keeps it. `root` is the absolute path of its folder or list.

    Documents inherit `groups`. `include` and `exclude` are patterns as in .gitignore; nothing to
    include means everything. Files larger than `max_file_mb` (MiB) are left out. A paused source is
    neither read nor emptied.
    """

    id: str
    collection: str
    kind: SourceKind
    root: str
    groups: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    max_file_mb: int | None = None
    symlinks: Symlinks = Symlinks.INSIDE
    paused: bool = False


class RunStatus(StrEnum):
    QUEUED = "queued"
    """It waits for its turn."""
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    """A person asked for it."""
    INTERRUPTED = "interrupted"
    """Its process was stopped or killed; the next run goes on."""


@dataclass(frozen=True, slots=True)
class Run:
    """One piece of work that can be watched. `counts` are documents by outcome, plus `chunks`.

    `collection` is None for what concerns all. `beat_at` is when its process last wrote to it: a running
    one that is silent has been killed. One that was asked for over HTTP went through the queue: `queued_at`
    says where in it, `request` what was asked, `requested_by` the id of whose key asked (None where there
    were no keys), `attempts` how often it was begun. Until it begins `started_at` is when it was queued.
    """

    id: str
    collection: str | None
    source_id: str | None
    kind: str
    status: RunStatus
    started_at: datetime
    finished_at: datetime | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    error: str | None = None
    beat_at: datetime | None = None
    cancel_requested: bool = False
    queued_at: datetime | None = None
    request: Mapping[str, Any] = field(default_factory=dict)
    requested_by: str | None = None
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Lease:
    """One slot of a job, such as a night's sync, and the worker that has it or had it.

    `owner` is None when the worker let go of it unfinished. Finished, `error` says how it failed.
    """

    job: str
    slot: str
    owner: str | None
    beat_at: datetime
    finished_at: datetime | None = None
    error: str | None = None


# --- Keys ---------------------------------------------------------------------------------------


class Scope(StrEnum):
    """What a key may do."""

    QUERY = "query"
    """Ask, search, embed, read documents."""
    INGEST = "ingest"
    """Upload and delete documents."""
    METRICS = "metrics"
    """Read the figures of the whole server: for Prometheus, which needs nothing else."""
    ADMIN = "admin"
    """Everything, and every document whatever its groups."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret. Times are UTC and aware.

    Empty `collections` means all collections. Empty `groups` means no group: documents that have
    groups stay hidden. A key with the scope admin sees the documents of all groups.
    """

    id: str
    name: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    collections: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None

    @property
    def is_admin(self) -> bool:
        return Scope.ADMIN in self.scopes

    @property
    def access(self) -> Access:
        return Access(
            groups=None if self.is_admin else frozenset(self.groups),
            collections=frozenset(self.collections) or None,
        )

    def may(self, scope: Scope) -> bool:
        """A key limited to collections administers those: nothing that concerns the whole server."""
        if scope in (Scope.ADMIN, Scope.METRICS) and self.collections:
            return False
        return self.is_admin or scope in self.scopes

    def is_valid(self, now: datetime) -> bool:
        expired = self.expires_at is not None and self.expires_at <= now
        return self.revoked_at is None and not expired
