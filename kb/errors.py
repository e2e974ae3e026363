"""The errors of the product. Each carries a stable code and a sentence that says what to do.

They pickle with all their attributes, because parsing and Spark run in other processes.
Only entry points log them; HTTP statuses live in one place, `serving/app/errors.py`.
"""

from typing import Any, ClassVar, Final

from kb.types import FailureCategory

UNFORESEEN: Final = "Something went wrong on our side; the log says what."
"""What is said of a bug of ours, to anybody."""


class KBError(Exception):
    """Anything we raise on purpose. `message` is for the user, `code` for programs."""

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ConfigError(KBError):
    code = "invalid_config"


class DeletionRefused(ConfigError):
    """More documents are gone from a source than may be deleted unasked; says how to confirm."""

    code = "deletion_refused"


class SourceBusy(ConfigError):
    """Another process is synchronising this source."""

    code = "source_busy"


class SourcePaused(ConfigError):
    """A person wants this source left as it is."""

    code = "source_paused"


class InvalidSource(ConfigError):
    """Not what a source can be: its place, or its patterns."""

    code = "invalid_source"


class NoBackupFolder(ConfigError):
    """Nobody has said where backups are kept."""

    code = "no_backup_folder"


class RunCancelled(KBError):
    """A person asked a run to end."""

    code = "run_cancelled"


class NotFoundError(KBError):
    code = "not_found"


class InvalidQueryError(KBError):
    code = "invalid_query"


class AccessDenied(KBError):
    code = "access_denied"


class InvalidKey(KBError):
    """The caller brings no key, or one that is not valid."""

    code = "invalid_api_key"


class TooManyRequests(KBError):
    """The caller asks more than its key may. `retry_after_s`: when it may ask again, in seconds."""

    code = "rate_limited"

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.retry_after_s)


# --- One document could not be used: a typed outcome, never the end of a run --------------------


class DocumentError(KBError):
    """A document that cannot be indexed, and why."""

    code = "document_error"
    category: FailureCategory

    def __init__(self, message: str, category: FailureCategory) -> None:
        super().__init__(message)
        self.category = category

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_document_error, (type(self), self.message, self.category)


def _rebuild_document_error(
    kind: type[DocumentError], message: str, category: FailureCategory
) -> DocumentError:
    error = kind.__new__(kind)
    DocumentError.__init__(error, message, category)
    return error


class UnsupportedFormat(DocumentError):
    code = "unsupported_format"

    def __init__(self, message: str) -> None:
        super().__init__(message, FailureCategory.UNSUPPORTED)


class UnreadableDocument(DocumentError):
    """Broken, encrypted, empty, without text, mislabelled: see `category`."""

    code = "unreadable_document"


class DocumentTooLarge(DocumentError):
    code = "document_too_large"

    def __init__(self, message: str) -> None:
        super().__init__(message, FailureCategory.TOO_LARGE)


class ParseTimeout(DocumentError):
    code = "parse_timeout"

    def __init__(self, message: str) -> None:
        super().__init__(message, FailureCategory.TIMEOUT)


# --- Something we depend on failed --------------------------------------------------------------


class BackendError(KBError):
    """A part behind us failed. `retryable` says whether the same call may work later."""

    code = "backend_error"
    retryable: ClassVar[bool] = True


class IndexUnavailable(BackendError):
    code = "index_unavailable"


class DiskFull(BackendError):
    """A disk has no room for what was to be written. Passes when somebody frees space."""

    code = "disk_full"


class IndexDiskFull(DiskFull, IndexUnavailable):
    """That of the index: it is waited for as for an index that is gone."""


class IndexMisconfigured(IndexUnavailable):
    """Trying again won't help: credentials, address, certificate or version; the message says which."""

    code = "index_misconfigured"
    retryable = False


class IndexSchemaMismatch(BackendError):
    """The index was built by another embedder or mapping version; the message names the remedy."""

    code = "index_schema_mismatch"
    retryable = False


class GenerationSwitched(BackendError):
    """A write was meant for an index generation that is not the live one any more, or is about to
    be replaced. The same work done again goes to the right one."""

    code = "generation_switched"


class SparkFailed(BackendError):
    """Spark could not start, or gave up on documents after it had tried several times."""

    code = "spark_failed"
    retryable = False


class OriginalGone(BackendError):
    """A document was to become a duplicate of one that meanwhile has another text, or is gone. The same
    work done again finds that."""

    code = "original_gone"


class ServerOverloaded(BackendError):
    """This server works on as much as it can."""

    code = "server_overloaded"


class SearchTimeout(BackendError):
    """A search was given up, whatever it was waiting for."""

    code = "search_timeout"


class CatalogUnavailable(BackendError):
    code = "catalog_unavailable"


class CatalogDiskFull(DiskFull, CatalogUnavailable):
    """That of the catalogue."""


class ModelUnavailable(BackendError):
    code = "model_unavailable"


class ModelOverloaded(ModelUnavailable):
    """The model's server is there and takes no more work now."""

    code = "model_overloaded"


class ModelTimeout(ModelUnavailable):
    """The model let a deadline pass."""

    code = "model_timeout"


class ModelMisbehaved(ModelUnavailable):
    """The model's server answered what is no answer: garbage, or nothing."""

    code = "model_misbehaved"


class ModelSuspended(ModelUnavailable):
    """The model failed several times in a row and is left alone for a while."""

    code = "model_suspended"


class AnswerInterrupted(ModelUnavailable):
    """The model failed after a part of its answer had been sent."""

    code = "answer_interrupted"
