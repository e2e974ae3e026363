"""Requests as they are counted."""

import pytest
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from kb.metrics import REQUESTS
from serving.app.measured import NO_ROUTE, Measured


def counted(status: str) -> float:
    """Requests of no route with this status so far."""
    return sum(
        sample.value
        for metric in REQUESTS.collect()
        for sample in metric.samples
        if sample.name.endswith("_count")
        and (sample.labels["route"], sample.labels["status"]) == (NO_ROUTE, status)
    )


def test_a_bug_is_counted_as_one_and_not_as_a_client_that_left() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        raise ZeroDivisionError

    before = counted("500")
    left = counted("499")
    with pytest.raises(ZeroDivisionError):
        TestClient(Measured(broken)).get("/")
    assert counted("500") == before + 1
    assert counted("499") == left
