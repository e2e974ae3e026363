"""What the use cases need from the outside, as protocols. Adapters live in `retrieval`, `ingestion` and `kb.db`.

Async throughout. Every method says what happens when it is called twice.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from kb.feedback import FeedbackStore
from kb.generation import Message, ModelDelta, Sampling
from kb.types import (
    UNRESTRICTED,
    Access,
    ApiKey,
    Candidate,
    Chunk,
    Collection,
    Document,
    DocumentStatus,
    Generation,
    IndexCount,
    IndexedContent,
    IndexedDocument,
    IndexQuery,
    IndexSchema,
    Lease,
    Place,
    PreparedDocument,
    Run,
    RunStatus,
    SourceFile,
    SourceRecord,
    Vector,
    Vectors,
)


class Embedder(Protocol):
    """Texts to vectors. Model calls run outside the event loop. Raises ModelUnavailable."""

    @property
    def fingerprint(self) -> str:
        """Names model, weights, prefixes and pooling: equal fingerprints give interchangeable vectors."""
        ...

    @property
    def dimensions(self) -> int: ...

    @property
    def max_tokens(self) -> int:
        """Tokens of one passage, prefix and special tokens included, beyond which text is cut off."""
        ...

    @property
    def tokenizer_file(self) -> Path:
        """A `tokenizers` JSON file, for those who must count tokens without loading the model."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text as it stands: no prefix, no special tokens, nothing cut off."""
        ...

    async def passages(self, texts: Sequence[str]) -> Vectors:
        """Embeds documents' texts: shape (len(texts), dimensions). No texts give shape (0, dimensions)."""
        ...

    async def queries(self, texts: Sequence[str]) -> Vectors:
        """Embeds questions: shape (len(texts), dimensions)."""
        ...

    async def close(self) -> None:
        """Gives memory back. Twice is harmless."""
        ...


class Generator(Protocol):
    """A language model that goes on with a conversation. Raises ModelUnavailable and its kinds."""

    @property
    def name(self) -> str:
        """How answers and logs name the model."""
        ...

    async def ready(self) -> None:
        """Returns when a request is likely to be served; cheap. Raises ModelUnavailable."""
        ...

    async def context_tokens(self) -> int:
        """Tokens that prompt and answer may have together."""
        ...

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text by itself: the model's own count, or where it has no tokenizer at hand
        an estimate on the high side."""
        ...

    def stream(
        self, messages: Sequence[Message], sampling: Sampling
    ) -> AsyncGenerator[ModelDelta, None]:
        """What the model says, as it says it.

        Leaving it early (`aclose`, cancellation) ends the model's work. It has no deadlines but
        that of connecting: the caller knows how long it wants to wait. Raises InvalidQueryError for
        a parameter that the model's server refuses.
        """
        ...

    async def close(self) -> None:
        """Gives connections and memory back. Twice is harmless."""
        ...


class ChunkIndex(Protocol):
    """One generation of one collection's index. Raises IndexUnavailable when the store fails.

    Readers in other processes see a write as soon as it has returned. Several processes may write, and
    never duplicate a chunk; only those that write different revisions of one document at the same
    moment may leave both, which `contents` tells.
    """

    async def replace(
        self, documents: Sequence[IndexedDocument], *, refresh: bool = True
    ) -> Mapping[str, str]:
        """Makes these the documents' only chunks. Twice changes nothing.

        Gives the documents that the store refuses for good, with its reason: those have no chunks
        afterwards. Never leaves a document half there: after a crash each document has its old
        chunks, its new ones, or (between the two) both. A document with no chunks is deleted.
        Without `refresh` others may see the write seconds later, or after `refresh()`, and the same
        documents must not be written again before that.
        Raises ValueError for vectors of a wrong shape, or that are not finite.
        """
        ...

    async def delete(self, document_ids: Sequence[str], *, refresh: bool = True) -> None:
        """Removes all chunks of these documents. Unknown ids are ignored."""
        ...

    async def refresh(self) -> None:
        """Makes every write so far visible to every reader. Twice is harmless."""
        ...

    async def search(self, query: IndexQuery) -> list[Candidate]:
        """The union of both sides' best `limit` candidates, each once, in no promised order."""
        ...

    async def vectors(self, text_hashes: Sequence[str]) -> Mapping[str, Vector]:
        """Vectors of passages that are already indexed, by text hash; unknown hashes are left out."""
        ...

    async def chunks(self, document_id: str) -> list[Chunk]:
        """A document's chunks by ordinal; empty when it is not indexed."""
        ...

    async def contents(self) -> Mapping[str, IndexedContent]:
        """What is there of each document, by its id: for a comparison with the catalogue."""
        ...

    async def count(self) -> IndexCount: ...

    async def optimise(self) -> None:
        """Folds recent writes into the search structures; takes time. Twice is harmless.

        Between two calls everything is found, but BM25 may be worked out from older statistics.
        """
        ...

    async def close(self) -> None: ...


class IndexStore(Protocol):
    """Creates, opens and drops index generations by name."""

    async def create(self, name: str, schema: IndexSchema) -> ChunkIndex:
        """Twice gives the same index; with another schema raises IndexSchemaMismatch."""
        ...

    async def open(self, name: str, schema: IndexSchema) -> ChunkIndex:
        """Raises NotFoundError, or IndexSchemaMismatch when it was built with another schema."""
        ...

    async def drop(self, name: str) -> None:
        """Unknown names are ignored."""
        ...

    async def names(self) -> list[str]: ...

    async def alias(self, alias: str, name: str) -> None:
        """Gives one index a second name, for people and other tools, and takes that name from any other.

        In one step: there is never a moment without the alias. Twice is harmless. Raises NotFoundError
        when there is no such index. Dropping an index drops its alias.
        """
        ...

    async def aliased(self, alias: str) -> str | None:
        """The index that has this alias now."""
        ...

    async def problems(self) -> list[str]:
        """What endangers the indexes here, each as a sentence that says what to do. Never raises."""
        ...

    async def close(self) -> None: ...


class Source(Protocol):
    """Where documents come from."""

    @property
    def record(self) -> SourceRecord: ...

    def uri(self, relative_path: str) -> str:
        """How users and citations name a document of this source."""
        ...

    def relative_path(self, uri: str) -> str:
        """The inverse of `uri`."""
        ...

    def walk(self, scope: str = "") -> Iterator[SourceFile]:
        """Every file there is now, in a stable order. Blocking: call it off the event loop. Raises ConfigError."""
        ...


class Parser(Protocol):
    """Turns a file into a title and chunks, in a process that can be killed."""

    async def prepare(self, path: Path, document_id: str) -> PreparedDocument:
        """Raises DocumentError; never hangs, never takes the caller's process down."""
        ...

    async def close(self) -> None: ...


class KeyStore(Protocol):
    """API keys and the hashes of their secrets. Raises CatalogUnavailable when the database fails."""

    async def exist(self) -> bool:
        """Whether a key was ever made; revoked and expired ones count."""
        ...

    async def add(self, key: ApiKey, secret_hash: str) -> None: ...
    async def list(self) -> list[ApiKey]:
        """Oldest first, revoked ones too."""
        ...

    async def find(self, key_id: str) -> tuple[ApiKey, str] | None:
        """A key and the hash of its secret, valid or not."""
        ...

    async def set_secret(self, key_id: str, secret_hash: str) -> None:
        """Raises NotFoundError for a key that is unknown or revoked."""
        ...

    async def revoke(self, key_id: str, at: datetime) -> None:
        """For good. Raises NotFoundError."""
        ...

    async def used(self, key_id: str, at: datetime) -> None:
        """Notes the last use. Raises NotFoundError."""
        ...


class Catalog(Protocol):
    """The truth about what must be indexed. Raises CatalogUnavailable when the database fails.

    Writing the same thing twice changes nothing but times.
    """

    @property
    def keys(self) -> KeyStore: ...

    @property
    def feedback(self) -> FeedbackStore: ...

    async def copy_to(self, url: str) -> None:
        """Writes all there is at this moment into the empty catalogue at `url`, whose tables are there.

        Left out are who does what at this moment, and index generations that are not live.
        Raises ConfigError when that one is not empty.
        """
        ...

    # Collections and generations
    async def ensure_collection(self, name: str) -> None:
        """Raises InvalidQueryError for a name that can't be one."""
        ...

    async def collections(self) -> list[Collection]: ...
    async def collection(self, name: str) -> Collection:
        """Raises NotFoundError, naming the collections there are."""
        ...

    async def delete_collection(self, name: str) -> None:
        """With its sources, documents, runs and generations. Unknown names are ignored."""
        ...

    async def add_generation(
        self, collection: str, schema: IndexSchema, embedder: Mapping[str, Any] | None = None
    ) -> Generation:
        """A new generation with the next number (`kb-<collection>.<number>`), not live yet."""
        ...

    async def delete_generation(self, collection: str, number: int) -> None:
        """Forgets a generation that is not live. Unknown ones are ignored."""
        ...

    async def hold(self, collection: str, owner: str, seconds: float) -> None:
        """Keeps everybody else from writing documents until `release`, or for so many seconds.

        Writes under way are waited for. The same owner holds on. Raises GenerationSwitched while
        another holds it, and NotFoundError.
        """
        ...

    async def release(self, collection: str, owner: str) -> None:
        """Ends this owner's hold. Twice is harmless."""
        ...

    async def set_live(self, collection: str, number: int, owner: str | None = None) -> None:
        """Makes one generation the live one, in one transaction. Raises NotFoundError.

        With an owner, whose hold it ends, raises GenerationSwitched when that hold has run out.
        """
        ...

    async def live_generation(self, collection: str) -> Generation | None:
        """With its stamp, which every change of the collection's documents has made another."""
        ...

    async def touch(self, collection: str) -> None:
        """Gives the live generation another stamp: its index was changed, though no document was.

        Raises NotFoundError where there is no such collection.
        """
        ...

    async def generations(self, collection: str) -> list[Generation]: ...

    # Sources
    async def ensure_source(self, source: SourceRecord) -> SourceRecord:
        """Adds a source where its id is unknown; gives what is kept, which may have been set otherwise.

        Raises NotFoundError when there is no such collection, ConfigError for an unstorable path.
        """
        ...

    async def save_source(self, source: SourceRecord) -> None:
        """Adds or overwrites. Raises as `ensure_source` does."""
        ...

    async def delete_source(self, source_id: str) -> None:
        """With its documents, which must be out of the index by then. Unknown ids are ignored."""
        ...

    async def source(self, source_id: str) -> SourceRecord:
        """Raises NotFoundError."""
        ...

    async def sources(self, collection: str | None = None) -> list[SourceRecord]: ...

    # Documents
    async def document(self, document_id: str, access: Access = UNRESTRICTED) -> Document:
        """Raises NotFoundError, also for a document that may not be read: both look the same."""
        ...

    async def documents(
        self,
        *,
        collection: str | None = None,
        source_id: str | None = None,
        status: DocumentStatus | None = None,
        limit: int | None = None,
        after: str | None = None,
        access: Access = UNRESTRICTED,
    ) -> list[Document]:
        """Those that may be read, ordered by id; `after` is the last id of the previous page."""
        ...

    def document_stream(self, source_id: str) -> AsyncIterator[Document]:
        """All documents of a source without holding them in memory at once."""
        ...

    async def save_documents(
        self, documents: Sequence[Document], generation: Generation | None = None
    ) -> None:
        """Inserts or overwrites whole rows, in one transaction.

        With the generation that the documents were written to, raises GenerationSwitched when it is
        not live any more or its collection is held. Raises NotFoundError when a source or collection
        was deleted meanwhile, OriginalGone for a duplicate whose original is no longer indexed with that
        text. None is saved then.
        """
        ...

    async def delete_documents(
        self, document_ids: Sequence[str], generation: Generation | None = None
    ) -> None:
        """Unknown ids are ignored. Raises GenerationSwitched as `save_documents` does."""
        ...

    # Duplicates: documents of one collection with the same text. The *original* brought it to the index.
    async def originals(self, collection: str, text_hashes: Sequence[str]) -> list[Document]:
        """Documents that are indexed under their own name and have one of these texts."""
        ...

    async def give_up(self, document_ids: Sequence[str]) -> list[Document]:
        """Before these lose what the index holds of them: those that are indexed become pending.

        From then on nothing is saved as their duplicate. Gives the duplicates that they have, by id.
        Twice gives none: then they are `strays`.
        """
        ...

    async def strays(self, source_id: str) -> frozenset[str]:
        """Duplicates of this source that must be read, as their original lost their text."""
        ...

    async def places(
        self, document_ids: Sequence[str], access: Access = UNRESTRICTED
    ) -> Mapping[str, list[Place]]:
        """For each document the others of its collection with the same text, of those that may be read.

        Those that are in the index under their own name first, then by URI; only so many.
        """
        ...

    # Runs
    async def start_run(self, run: Run) -> None: ...
    async def update_run(
        self,
        run_id: str,
        *,
        counts: Mapping[str, int],
        status: RunStatus = RunStatus.RUNNING,
        error: str | None = None,
    ) -> bool:
        """Whether a person has asked to cancel the run. Sets `beat_at`, and `finished_at` at the end.

        Raises NotFoundError.
        """
        ...

    async def cancel_run(self, run_id: str) -> Run:
        """Asks a running run to end; one that waits has ended; a finished one stays as it is.

        Raises NotFoundError.
        """
        ...

    async def run(self, run_id: str) -> Run:
        """Raises NotFoundError."""
        ...

    async def runs(
        self,
        *,
        collection: str | None = None,
        source_id: str | None = None,
        status: RunStatus | None = None,
        kinds: Sequence[str] | None = None,
        limit: int = 50,
        access: Access = UNRESTRICTED,
    ) -> list[Run]:
        """Newest first. Who may read only some collections sees no run that concerns all."""
        ...

    # The queue: runs that wait. They are kept by `start_run` with the status queued.
    async def claim_run(self, kinds: Sequence[str]) -> Run | None:
        """Of these kinds the one that has waited longest: it is running, and nobody else's, from now on."""
        ...

    async def requeue_run(self, run: Run) -> None:
        """A running one waits again, with this run's `queued_at`, `attempts` and `error`.

        One that is not running stays as it is.
        """
        ...

    async def claimed_runs(self) -> list[Run]:
        """Those that came out of the queue and are running."""
        ...

    async def queued_runs(self) -> Mapping[str, int]:
        """How many wait, by kind."""
        ...

    # Leases: which worker does which slot of a job. `owner` names a worker, for ever.
    async def take_lease(self, job: str, slot: str, owner: str, timeout_s: float) -> bool:
        """Whether the slot is this owner's now.

        It is for the first who asks; and for another when it is unfinished and its owner let go of
        it, or has been silent for `timeout_s` by this machine's clock.
        """
        ...

    async def beat_lease(self, job: str, slot: str, owner: str) -> bool:
        """Says that the owner lives. False when the slot is another's meanwhile."""
        ...

    async def finish_lease(self, job: str, slot: str, owner: str, error: str | None = None) -> bool:
        """Nobody does this slot again. False when it is another's meanwhile."""
        ...

    async def release_lease(self, job: str, slot: str, owner: str) -> bool:
        """Leaves the slot, unfinished, to the next who asks. False when it is another's meanwhile."""
        ...

    async def leases(self, *, abandoned_for_s: float | None = None) -> list[Lease]:
        """By slot; with a time in seconds, those that `take_lease` would take from their owners."""
        ...

    async def forget_finished(self, before: datetime) -> None:
        """Deletes runs and leases that ended before this."""
        ...

    async def close(self) -> None: ...
