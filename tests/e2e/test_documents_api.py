"""Upload, status, search, delete; and what the guards turn away."""

import time
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import httpx
import pytest

from tests.e2e.kb_process import Server

pytestmark = pytest.mark.slow

INDEXING_TIMEOUT_S = 60


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def upload(http: httpx.Client, name: str, content: bytes) -> dict[str, Any]:
    response = http.post("/v1/documents", files={"file": (name, content)})
    assert response.status_code == 202, response.text
    document: dict[str, Any] = response.json()
    return document


def settled(http: httpx.Client, document_id: str) -> dict[str, Any]:
    """The document's state once it is no longer pending."""
    deadline = time.monotonic() + INDEXING_TIMEOUT_S
    while time.monotonic() < deadline:
        state: dict[str, Any] = http.get(f"/v1/documents/{document_id}/status").json()
        if state["status"] != "pending":
            return state
        time.sleep(0.2)
    raise AssertionError(f"still pending after {INDEXING_TIMEOUT_S} s")


def found(http: httpx.Client, query: str) -> list[dict[str, Any]]:
    response = http.post("/v1/search", json={"query": query, "limit": 3})
    hits: list[dict[str, Any]] = response.json()["data"]
    return hits


def test_upload_is_searchable_then_replaced_then_gone(http: httpx.Client) -> None:
    document = upload(http, "海报.md", "# 茶会\n\n春季茶会在四月十二日举行。".encode())
    assert settled(http, document["id"])["status"] == "indexed"
    assert found(http, "春季茶会是哪一天？")[0]["document_id"] == document["id"]

    again = upload(http, "海报.md", "# 茶会\n\n春季茶会改在五月三日举行。".encode())
    assert again["id"] == document["id"]
    assert settled(http, document["id"])["status"] == "indexed"
    hit = found(http, "春季茶会是哪一天？")[0]
    assert "五月三日" in hit["text"]

    assert http.delete(f"/v1/documents/{document['id']}").json()["deleted"] is True
    assert http.get(f"/v1/documents/{document['id']}").status_code == 404
    assert document["id"] not in {hit["document_id"] for hit in found(http, "春季茶会是哪一天？")}


def test_broken_upload_says_why(http: httpx.Client) -> None:
    document = upload(http, "report.pdf", b"%PDF-1.7 and then nothing")
    state = settled(http, document["id"])
    assert state["status"] == "failed"
    assert state["error"]["category"] == "broken"
    assert len(state["error"]["message"]) > 20
    http.delete(f"/v1/documents/{document['id']}")


@pytest.mark.parametrize("name", [".hidden", "~$x.docx", "x" * 300 + ".md"])
def test_names_no_file_should_have(http: httpx.Client, name: str) -> None:
    response = http.post("/v1/documents", files={"file": (name, b"x")})
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_path_in_a_name_is_dropped(http: httpx.Client) -> None:
    document = upload(http, "../../etc/notes.txt", b"Nothing to see here.")
    assert document["uri"] == "upload:notes.txt"
    settled(http, document["id"])
    http.delete(f"/v1/documents/{document['id']}")


def test_list_pages(http: httpx.Client) -> None:
    everything = http.get("/v1/documents").json()["data"]
    seen: list[str] = []
    after = None
    while True:
        page = http.get(
            "/v1/documents", params={"limit": 2} | ({"after": after} if after else {})
        ).json()
        seen += [document["id"] for document in page["data"]]
        after = page["last_id"]
        if not page["has_more"]:
            break
    assert seen == [document["id"] for document in everything]
    assert len(seen) == 7


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
    ],
)
def test_other_sites_and_proxies_are_turned_away(
    http: httpx.Client, headers: dict[str, str]
) -> None:
    response = http.post("/v1/search", json={"query": "x"}, headers=headers)
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "foreign_origin"


def test_own_page_is_let_in(http: httpx.Client, server: Server) -> None:
    assert http.get("/v1/models", headers={"Origin": server.url}).status_code == 200


def test_body_that_grows_too_large(http: httpx.Client) -> None:
    body = b'{"query": "' + b"x" * (1 << 20) + b'"}'
    response = http.post(
        "/v1/search",
        content=iter([body[:1000], body[1000:]]),
        headers={"Content-Type": "application/json"},
    )
    assert response.status_code == 413
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_body_announced_as_too_large_is_not_waited_for(server: Server) -> None:
    connection = HTTPConnection(server.url.removeprefix("http://"), timeout=10)
    connection.putrequest("POST", "/v1/search")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(2 << 20))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_health(http: httpx.Client) -> None:
    assert http.get("/healthz").json() == {"status": "ok"}
    ready = http.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["index default"] == "ok"


def test_wrong_paths_and_methods_have_openais_shape(http: httpx.Client) -> None:
    for response in (http.get("/v1/nothing"), http.delete("/v1/models")):
        assert response.status_code in (404, 405)
        assert response.json()["error"]["message"]


def test_pages_carry_a_strict_policy_and_document_text_is_data(http: httpx.Client) -> None:
    document = upload(
        http, "x.md", b"# <script>alert(1)</script>\n\nTea & <b>biscuits</b> for all."
    )
    settled(http, document["id"])
    page = http.get(f"/documents/{document['id']}")
    assert "<script>alert" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    http.delete(f"/v1/documents/{document['id']}")
