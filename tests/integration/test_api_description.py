"""Whatever is asked, with whichever key: no failure of ours, and what /openapi.json promises.

Requests are made up from the description itself, valid ones and broken ones, the same in every run.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from requests.auth import AuthBase
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks

from kb.types import Scope
from serving.bootstrap import Services
from serving.keys import create_key
from tests.served import served

pytestmark = pytest.mark.slow

EXAMPLES = 12
"""Of every operation and key; half of them break the description's rules."""
OPEN = {"/healthz", "/readyz"}
"""What needs no key."""
Seen = set[tuple[str, int]]
"""Paths of the description, with the statuses that came."""
CONFORMANCE = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]
KEYS: dict[str, dict[str, Any]] = {
    "expired": {"scopes": (Scope.ADMIN,), "expires_at": datetime.now(UTC) - timedelta(days=1)},
    "query": {"scopes": (Scope.QUERY,)},
    "ingest": {"scopes": (Scope.INGEST,), "groups": ("staff",)},
    "admin": {"scopes": (Scope.ADMIN,)},
    "limited": {"scopes": (Scope.ADMIN,), "collections": ("default",)},
}
TEXT = b"# Lunch\n\nLunch is served at noon in the canteen."

tried = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class Bearer(AuthBase):
    """The last word on the header: the made-up requests leave it out, or put in something else."""

    def __init__(self, key: str) -> None:
        self._value = f"Bearer {key}"

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._value
        return request


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """The address, and the text of a key of each kind."""
    texts = {"none": "", "wrong": "kb-0123456789ab-wrong"}

    async def prepare(services: Services) -> None:
        await services.ensure_collection("default")
        for kind, given_to in KEYS.items():
            _, texts[kind] = await create_key(services.catalog.keys, kind, **given_to)

    with served(tmp_path_factory.mktemp("data"), prepare) as url:
        yield url, texts


@pytest.mark.parametrize("kind", ["none", "wrong", *KEYS])
def test_answers_are_as_described(server: tuple[str, dict[str, str]], kind: str) -> None:
    url, texts = server
    document_id, run_id = _indexed(url, texts["admin"], f"{kind}.md")
    there = {"document_id": document_id, "run_id": run_id, "model": "kb", "collection": "default"}
    description = httpx.get(f"{url}/openapi.json").json()
    schema = schemathesis.openapi.from_dict(description)
    schema.config.update(base_url=url)
    seen: Seen = set()
    for operation in schema.get_all_operations():
        _try(cast(Ok[Any], operation).ok(), texts[kind], there, seen)
    inside = {status for path, status in seen if path not in OPEN}
    if kind in ("none", "wrong", "expired"):
        assert 401 in inside
        assert min(inside) >= 400
    else:
        assert 401 not in inside
        assert min(inside) < 300


def _try(operation: Any, key: str, there: dict[str, str], seen: Seen) -> None:
    valid, broken = (
        operation.as_strategy(generation_mode=mode)
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    )

    session = requests.Session()
    if key:  # Else whatever the description made up.
        session.auth = Bearer(key)

    @seed(0)
    @tried
    @given(case=st.one_of(valid, broken), is_there=st.booleans())
    def conforms(case: Case[Any], is_there: bool) -> None:
        if is_there:
            for asked in (case.path_parameters, case.body):
                if isinstance(asked, dict):
                    asked.update({name: there[name] for name in asked.keys() & there.keys()})
        response = case.call_and_validate(session=session, checks=CONFORMANCE)
        seen.add((operation.path, response.status_code))

    with session:
        conforms()


def _indexed(url: str, key: str, name: str) -> tuple[str, str]:
    """The ids of a document that can be found, and of the newest run."""
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}) as http:
        sent = http.post("/v1/documents", files={"file": (name, TEXT + name.encode())})
        document_id: str = sent.json()["id"]
        while http.get(f"/v1/documents/{document_id}/status").json()["status"] != "indexed":
            time.sleep(0.05)
        return document_id, http.get("/v1/admin/runs").json()["data"][0]["id"]
