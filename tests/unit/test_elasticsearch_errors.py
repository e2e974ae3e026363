"""Every exception of Elasticsearch's client is one of ours, with a sentence that says what to do."""

import pickle
from typing import Any

import elastic_transport
import elasticsearch
import pytest
from elastic_transport import ApiResponseMeta, HttpHeaders, NodeConfig
from elasticsearch.helpers import BulkIndexError, ScanError

from kb.errors import (
    BackendError,
    IndexDiskFull,
    IndexMisconfigured,
    IndexUnavailable,
    KBError,
    NotFoundError,
)
from retrieval.elasticsearch_errors import api_error, cause_of, reason_of, translated, translation

NODE = NodeConfig("http", "localhost", 9200)
ROOTS = (elastic_transport.ApiError, elastic_transport.TransportError, BulkIndexError, ScanError)


def _all_kinds(kind: type[Exception]) -> set[type[Exception]]:
    return {kind}.union(*(_all_kinds(below) for below in kind.__subclasses__()))


KINDS = sorted(
    {
        kind
        for root in ROOTS
        for kind in _all_kinds(root)
        if kind.__module__.startswith(("elastic_transport", "elasticsearch"))
    },
    key=lambda kind: kind.__name__,
)


def _made(kind: type[Exception], status: int = 418, body: Any = None) -> Exception:
    if issubclass(kind, elastic_transport.ApiError):
        meta = ApiResponseMeta(status, "1.1", HttpHeaders(), 0.1, NODE)
        return kind("message", meta, body)
    if issubclass(kind, BulkIndexError | ScanError):
        return kind("message", [])
    return kind("message")


def test_the_kinds_are_those_of_the_client() -> None:
    names = {kind.__name__ for kind in KINDS}
    assert {"ConnectionError", "TlsError", "BadRequestError", "BulkIndexError"} <= names
    exported = {getattr(elasticsearch, name) for name in elasticsearch.__all__}
    foreign = {e for e in exported if isinstance(e, type) and issubclass(e, Exception)}
    assert {kind for kind in foreign if not issubclass(kind, Warning)} <= set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_one_of_ours(kind: type[Exception]) -> None:
    foreign = _made(kind)
    with pytest.raises(BackendError) as raised, translated("kb-a-1"):
        raise foreign
    assert raised.value.__cause__ is foreign
    assert pickle.loads(pickle.dumps(raised.value)).message == raised.value.message


def test_other_exceptions_are_left_alone() -> None:
    with pytest.raises(ZeroDivisionError), translated("kb-a-1"):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("kind", "retryable", "says"),
    [
        (elasticsearch.ConnectionError, True, "can't be reached.*KB_INDEX__URL"),
        (elasticsearch.ConnectionTimeout, True, "did not answer in time.*KB_INDEX__SEARCH_TIMEOUT"),
        (elasticsearch.SSLError, False, "KB_INDEX__CA_CERTS"),
        (elasticsearch.UnsupportedProductError, False, "is not Elasticsearch"),
        (elastic_transport.SerializationError, True, "proxy"),
    ],
)
def test_what_the_network_does(kind: type[Exception], retryable: bool, says: str) -> None:
    error = translation(_made(kind), "kb-a-1")
    assert isinstance(error, IndexUnavailable)
    assert error.retryable is retryable
    with pytest.raises(IndexUnavailable, match=says):
        raise error


FLOOD = (
    "index [kb-a-1] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark]"
)
READ_ONLY = "index [kb-a-1] blocked by: [FORBIDDEN/5/index read-only (api)];"


@pytest.mark.parametrize(
    ("status", "kind", "reason", "expected", "says"),
    [
        (404, "index_not_found_exception", "no such index", NotFoundError, "no index kb-a-1"),
        (429, "cluster_block_exception", FLOOD, IndexDiskFull, "flood-stage.*Free space"),
        (403, "cluster_block_exception", READ_ONLY, IndexUnavailable, "blocked: .*Take the block"),
        (401, "security_exception", "unable", IndexMisconfigured, "KB_INDEX__API_KEY"),
        (403, "security_exception", "unauthorized", IndexMisconfigured, "privilege"),
        (429, "circuit_breaking_exception", "too large", IndexUnavailable, "Try again later"),
        (503, "no_shard_available_action_exception", "no shard", IndexUnavailable, "No node"),
        (503, "unavailable_shards_exception", "not active", IndexUnavailable, "No node"),
        (503, "es_rejected_execution_exception", "full", IndexUnavailable, "overloaded"),
        (400, "parsing_exception", "unknown field", IndexMisconfigured, "8.12"),
        (500, "exception", "broken", IndexUnavailable, "status 500: broken"),
    ],
)
def test_what_the_server_answers(
    status: int, kind: str, reason: str, expected: type[KBError], says: str
) -> None:
    error = api_error(status, {"type": kind, "reason": reason}, "kb-a-1")
    assert type(error) is expected
    with pytest.raises(expected, match=says):
        raise error


def test_reasons_are_told_from_the_outermost_to_the_root_cause() -> None:
    cause = {
        "type": "parsing",
        "reason": "failed to parse",
        "root_cause": [{"reason": "not taken when there is a caused_by"}],
        "caused_by": {"reason": "parse", "caused_by": {"type": "no reason of its own"}},
    }
    assert reason_of(cause) == "failed to parse: no reason of its own"
    assert reason_of(cause_of("<html>Bad gateway</html>")) == "<html>Bad gateway</html>"
    assert reason_of(cause_of(None)) == "no reason given"
    assert reason_of(cause_of({"error": "plain"})) == "plain"
