"""Attacks on the wire: a real server without keys, and bytes as no honest client sends them."""

import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.e2e.kb_process import Server

pytestmark = pytest.mark.slow

WITHIN_S = 60
SEARCH = b'{"query": "annual leave"}'


def sent(server: Server, *lines: bytes, body: bytes = b"") -> bytes:
    """All that comes back for these lines of a head, until the server closes."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port or 0), WITHIN_S) as connection:
        connection.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        received = b""
        while more := connection.recv(65536):
            received += more
    return received


def statuses(received: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", received)]


@pytest.fixture
def http(server: Server) -> Any:
    with httpx.Client(base_url=server.url, timeout=WITHIN_S) as client:
        yield client


# --- Smuggling ----------------------------------------------------------------------------------

HOST = b"Host: localhost"
JSON = b"Content-Type: application/json"
LENGTH = b"Content-Length: 25"
CHUNKED = b"Transfer-Encoding: chunked"
HIDDEN = b"0\r\n\r\nGET /v1/admin/keys HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "lines",
    [
        [HOST, JSON, LENGTH, CHUNKED],
        [HOST, JSON, CHUNKED, LENGTH],
        [HOST, JSON, LENGTH, b"Content-Length: 5"],
        [HOST, JSON, b"Content-Length: +25"],
        [HOST, JSON, b"Transfer-Encoding: chunked, identity"],
        [HOST, JSON, b"Transfer-Encoding: xchunked"],
        [HOST, JSON, b"Transfer-Encoding : chunked"],
        [HOST, HOST, JSON, LENGTH],
        [JSON, LENGTH],
        [b"Host: [", JSON, LENGTH],
        [b"Host: localhost:x", JSON, LENGTH],
        [b"Host: evil@localhost", JSON, LENGTH],
        [HOST, JSON, LENGTH, b"X-A: b\x00c"],
    ],
)
def test_a_request_whose_end_or_host_is_unclear_is_refused(
    server: Server, lines: list[bytes]
) -> None:
    received = sent(server, b"POST /v1/search HTTP/1.1", *lines, body=HIDDEN)
    (status,) = statuses(received)  # What follows is no second request.
    assert status in (400, 501)


def test_chunks_are_no_part_of_http_1_0(server: Server) -> None:
    received = sent(server, b"POST /v1/search HTTP/1.0", HOST, JSON, CHUNKED, body=b"0\r\n\r\n")
    assert statuses(received) == [400]
    assert b"unclear_request" in received


# --- Other sites --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Origin": "http://["},
        {"Origin": "https://localhost.evil.example"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    ],
)
@pytest.mark.parametrize("path", ["/", "/v1/documents", "/web/main.js", "/metrics"])
def test_other_sites_may_neither_ask_nor_embed(
    http: httpx.Client, path: str, headers: dict[str, str]
) -> None:
    assert http.get(path, headers=headers).status_code == 403


def test_a_link_to_the_page_may_be_followed(http: httpx.Client) -> None:
    headers = {
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
    }
    assert http.get("/", headers=headers).status_code == 200


def test_a_form_of_another_site_changes_nothing(http: httpx.Client) -> None:
    headers = {
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
    }
    assert http.post("/v1/documents", files={"file": b"x"}, headers=headers).status_code == 403


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/v1/models", 200),
        ("/v1/runs/none", 404),
        ("/nothing", 404),
        ("/v1/search", 405),
    ],
)
def test_no_answer_is_to_be_guessed_at_or_embedded(
    http: httpx.Client, path: str, status: int
) -> None:
    answer = http.get(path)
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


# --- Names without number -----------------------------------------------------------------------


def test_made_up_methods_and_paths_are_one_series(server: Server, http: httpx.Client) -> None:
    for made_up in ("BREW", "X" * 40):
        head = f"{made_up} /v1/{made_up} HTTP/1.1".encode()
        assert statuses(sent(server, head, HOST, b"Connection: close"))[0] in (404, 405)
    figures = http.get("/metrics").text
    assert "BREW" not in figures
    assert "XXXX" not in figures
    assert re.search(r'kb_request_seconds_count\{method="other",route="none"', figures)


# --- Texts that nothing can store ---------------------------------------------------------------

BAD_TEXTS = [r"\u0000", r"\ud800", r"a\udc00b"]


def bodies_of_all_routes(http: httpx.Client) -> list[tuple[str, str]]:
    described = http.get("/openapi.json").json()["paths"]
    return [
        (method.upper(), path)
        for path, operations in described.items()
        for method, operation in operations.items()
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    ]


def test_a_body_with_text_that_cannot_be_stored_is_refused_on_every_route(
    http: httpx.Client,
) -> None:
    routes = bodies_of_all_routes(http)
    assert len(routes) > 10
    for method, path in routes:
        place = re.sub(r"\{\w+\}", "none", path)
        for bad in BAD_TEXTS:
            for body in (f'{{"query": "{bad}", "made_up": 1}}', f'{{"{bad}": 1}}', f'["{bad}"]'):
                headers = {"Content-Type": "application/json"}
                answer = http.request(method, place, content=body.encode(), headers=headers)
                assert answer.status_code == 400, (method, path, body, answer.text)


@pytest.mark.parametrize("bad", BAD_TEXTS)
def test_questions_with_such_text_say_what_is_wrong(http: httpx.Client, bad: str) -> None:
    message = f'{{"role": "user", "content": "{bad}"}}'
    for path, body in {
        "/v1/search": f'{{"query": "{bad}"}}',
        "/v1/chat/completions": f'{{"model": "kb", "messages": [{message}]}}',
        "/v1/embeddings": f'{{"model": "kb", "input": ["{bad}"]}}',
    }.items():
        answer = http.post(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400
        assert "UTF-8" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/documents/a%00b",
        "/v1/documents?collection=a%00b",
        "/documents/%00",
        "/web/%00",
        "/v1/admin/runs?collection=%00",
    ],
)
def test_an_address_with_nul_is_refused(http: httpx.Client, path: str) -> None:
    assert http.get(path).status_code == 400


@pytest.mark.parametrize("field", ["name", "collection", "groups"])
def test_an_upload_with_nul_is_refused(http: httpx.Client, field: str) -> None:
    values = {"name": "a.md", "collection": "default", "groups": ""} | {field: "a\0b"}
    boundary = "----kb"
    parts = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in values.items()
        if name != "name" and value
    )
    parts += (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{values["name"]}"\r\n'
        f"Content-Type: text/plain\r\n\r\ntext\r\n--{boundary}--\r\n"
    )
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    answer = http.post("/v1/documents", content=parts.encode(), headers=headers)
    assert answer.status_code == 400, answer.text


# --- Oversized and absurd -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"query":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"query": "x", "limit": 1' + b"0" * 5000 + b"}",
        b'{"query": "x", "limit": 1e999}',
        b'{"query": "x", "limit": NaN}',
        b'{"query": "x", "limit": -1}',
        b"\xff\xfe\x00",
        b"",
        b"null",
    ],
)
def test_absurd_json_is_refused(http: httpx.Client, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = http.post("/v1/search", content=body, headers=headers)
    assert answer.status_code in (400, 413), answer.text
    assert answer.json()["error"]["message"]


def test_a_body_without_a_length_ends_at_the_limit(http: httpx.Client) -> None:
    def endless() -> Any:
        for _ in range(200):
            yield b" " * 65536

    headers = {"Content-Type": "application/json"}
    try:
        answer = http.post("/v1/search", content=endless(), headers=headers)
    except httpx.WriteError:
        return  # Closed while it was still being sent: refused too.
    assert answer.status_code == 413


# --- Traversal ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/web/../pyproject.toml",
        "/web/..%2f..%2fpyproject.toml",
        "/web/%2e%2e/%2e%2e/etc/passwd",
        "/web//etc/passwd",
        "/web/..%5c..%5cetc%5cpasswd",
        "/documents/..%2f..%2fetc%2fpasswd",
        "/v1/documents/..%2f..%2fetc%2fpasswd",
        "/v1/documents/..%2fkeys/chunks",
        "/v1/runs/..%2f..%2fadmin",
    ],
)
def test_addresses_lead_nowhere_else(server: Server, path: str) -> None:
    # By hand: clients tidy such addresses up.
    received = sent(server, f"GET {path} HTTP/1.1".encode(), HOST, b"Connection: close")
    assert statuses(received)[0] in (400, 404)
    assert b"root:" not in received


@pytest.mark.parametrize(
    "name", ["../../evil.md", "/etc/evil.md", "..\\..\\evil.md", "C:\\evil.md", "a/b/evil.md"]
)
def test_an_uploads_name_is_no_path(server: Server, http: httpx.Client, name: str) -> None:
    answer = http.post("/v1/documents", files={"file": (name, b"# Evil\n\nEvil text.")})
    try:
        assert answer.status_code in (202, 400)
        written = list(server.data_dir.parent.rglob("*evil.md"))
        uploads = (server.data_dir / "uploads").resolve()
        assert all(path.resolve().is_relative_to(uploads) for path in written)
        assert not Path("/etc/evil.md").exists()
    finally:
        if answer.status_code == 202:
            assert http.delete(f"/v1/documents/{answer.json()['id']}").status_code == 200


@pytest.mark.parametrize("place", ["backups", "generations"])
@pytest.mark.parametrize("name", ["..%2f..%2fetc", "%2e%2e", "%2Fetc%2Fpasswd"])
def test_names_of_administrators_things_are_no_paths(
    http: httpx.Client, place: str, name: str
) -> None:
    for method in ("GET", "POST", "DELETE"):
        for suffix in ("", "/verify", "/restore"):
            answer = http.request(method, f"/v1/admin/{place}/{name}{suffix}")
            assert answer.status_code in (400, 404, 405, 409), answer.text
