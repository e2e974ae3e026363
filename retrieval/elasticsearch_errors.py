"""Elasticsearch's errors as ours, each a sentence that says what to do."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from kb.errors import (
    ConfigError,
    IndexDiskFull,
    IndexMisconfigured,
    IndexUnavailable,
    KBError,
    NotFoundError,
)

FOR_GOOD: Final = 400
"""The status of a chunk that will be refused however often it is sent."""
BUSY: Final = (429, 503)
"""Statuses that pass: tried again with back-off when writing."""

DISK_FULL: Final = (
    "Elasticsearch's disk is full beyond the flood-stage watermark, so the index {name} takes no writes."
    " Free space; if the block stays, PUT {name}/_settings with index.blocks.read_only_allow_delete null."
)
READ_ONLY: Final = (
    "The index {name} is blocked: {reason}. Take the block off (PUT {name}/_settings with"
    " index.blocks.read_only and index.blocks.write null) and try again."
)
MISSING: Final = (
    "There is no index {name} in Elasticsearch: it was deleted, or KB_INDEX__URL or KB_INDEX__PREFIX"
    " is another than when it was made. Ingest the documents again, or put the settings back."
)
NO_SHARDS: Final = (
    "No node of Elasticsearch holds all of the index {name}: {reason}. Start the node that is missing;"
    " `kb doctor` names every index this has happened to."
)

NO_REPOSITORY: Final = (
    "Elasticsearch has no such snapshot repository: {reason}. Register it (PUT _snapshot/..., see"
    " docs/backup.md), or set KB_BACKUP__REPOSITORY to one that is there."
)

NO_SHARDS_KINDS: Final = ("no_shard_available_action_exception", "unavailable_shards_exception")


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Raises NotFoundError where the index is gone, else IndexUnavailable or IndexMisconfigured.

    Of snapshots also ConfigError, without the repository; NotFoundError is one that is gone.
    """
    from elastic_transport import ApiError, TransportError
    from elasticsearch.helpers import BulkIndexError, ScanError

    try:
        yield
    except (ApiError, TransportError, BulkIndexError, ScanError) as error:
        raise translation(error, name) from error


def translation(error: Exception, name: str) -> KBError:
    """What one of the client's exceptions means to a user. The index is called `name` in messages."""
    from elastic_transport import ApiError, ConnectionTimeout, SerializationError, TlsError
    from elastic_transport import ConnectionError as Unreachable
    from elasticsearch import UnsupportedProductError

    if isinstance(error, UnsupportedProductError):
        return IndexMisconfigured(
            "What answers at KB_INDEX__URL is not Elasticsearch 8.12 or later. Set it to one that is."
        )
    if isinstance(error, ApiError):
        return api_error(error.meta.status, cause_of(error.body), name)
    if isinstance(error, TlsError):
        return IndexMisconfigured(
            f"Elasticsearch's certificate can't be verified: {error.message}. Set KB_INDEX__CA_CERTS to"
            " the file with its certificate authority, and KB_INDEX__URL to https:// and the right name."
        )
    if isinstance(error, ConnectionTimeout):
        return IndexUnavailable(
            "Elasticsearch did not answer in time. See whether it is overloaded or halted; the limits are"
            " KB_INDEX__SEARCH_TIMEOUT_S and KB_INDEX__WRITE_TIMEOUT_S."
        )
    if isinstance(error, Unreachable):
        return IndexUnavailable(
            f"Elasticsearch can't be reached: {error.message}. See whether it runs, and whether"
            " KB_INDEX__URL is its address."
        )
    if isinstance(error, SerializationError):
        return IndexUnavailable(
            "Elasticsearch's answer can't be read. See whether KB_INDEX__URL leads to it through a proxy"
            " that changes or cuts answers off."
        )
    return IndexUnavailable(f"The index {name} failed: {error}. See Elasticsearch's own log.")


def api_error(status: int, cause: Mapping[str, Any], name: str) -> KBError:
    """For a request that was answered with an error, or one item of a bulk or multi-search."""
    kind, reason = cause.get("type", ""), reason_of(cause)
    if kind == "index_not_found_exception":
        return NotFoundError(MISSING.format(name=name))
    if kind == "repository_missing_exception":
        return ConfigError(NO_REPOSITORY.format(reason=reason))
    if kind == "snapshot_missing_exception":
        return NotFoundError(f"Elasticsearch has no such snapshot: {reason}.")
    if kind == "cluster_block_exception":
        if (
            "flood-stage" in reason
            or "read-only-allow-delete" in reason
            or "read-only / allow delete" in reason
        ):
            return IndexDiskFull(DISK_FULL.format(name=name))
        return IndexUnavailable(READ_ONLY.format(name=name, reason=reason))
    if status == 401:
        return IndexMisconfigured(
            "Elasticsearch refuses the user and password in KB_INDEX__URL, or the KB_INDEX__API_KEY."
            " Set the right ones."
        )
    if status == 403:
        return IndexMisconfigured(
            f"Elasticsearch's user, or API key, lacks a right: {reason}. It needs the index privilege"
            f" `all` on {name} and the cluster privilege `monitor`."
        )
    if status == 503 and ("missing shards" in reason or kind in NO_SHARDS_KINDS):
        return IndexUnavailable(NO_SHARDS.format(name=name, reason=reason))
    if status in BUSY:
        return IndexUnavailable(
            f"Elasticsearch is overloaded or not ready: {reason}. Try again later; if it stays so, see"
            " its log and give it more memory or nodes."
        )
    if status in (400, 404, 405, 406):
        return IndexMisconfigured(
            f"Elasticsearch refuses a request for the index {name}: {reason}. It must be 8.12 or later"
            " (8.18 for bbq_hnsw and rescoring); see docs/elasticsearch.md."
        )
    return IndexUnavailable(
        f"The index {name} failed with status {status}: {reason}. See Elasticsearch's own log."
    )


def cause_of(body: Any) -> Mapping[str, Any]:
    """The error object of a response's body, whatever else a proxy may have answered."""
    error = body.get("error") if isinstance(body, Mapping) else None
    if isinstance(error, Mapping):
        return error
    return {"type": "", "reason": str(error or body or "no reason given")[:300]}


def reason_of(cause: Mapping[str, Any]) -> str:
    """All reasons from the outermost to the root cause, without those that repeat another."""
    reasons: list[str] = []
    step: Mapping[str, Any] | None = cause
    while step:
        reason = str(step.get("reason") or step.get("type") or "no reason given")
        if not any(reason in told for told in reasons):
            reasons.append(reason)
        step = step.get("caused_by") or next(iter(step.get("root_cause") or ()), None)
    return ": ".join(reasons)[:500]
