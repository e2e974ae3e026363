"""Keys and rights over real HTTP: who is let in, and what they can't find."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AuthenticationError, NotFoundError, OpenAI

from tests.e2e.kb_process import (
    RunKB,
    Server,
    printed_json,
    start_server,
    stop_server,
)

pytestmark = pytest.mark.slow

SECRET = "The heron code for the vault is 7731."


@pytest.fixture
def server(data_dir: Path, tmp_path: Path) -> Iterator[Server]:
    running = start_server(["serve"], data_dir, tmp_path)
    yield running
    stop_server(running)


def make_key(run_kb: RunKB, *arguments: str) -> tuple[str, str]:
    made = printed_json(run_kb("keys", "create", "test", "--json", *arguments))
    return made["id"], made["key"]


def client(server: Server, key: str | None) -> httpx.Client:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(base_url=server.url, headers=headers, timeout=60)


def upload(http: httpx.Client, text: str, **form: str) -> str:
    response = http.post("/v1/documents", files={"file": ("x.md", text.encode())}, data=form)
    assert response.status_code == 202, response.text
    document_id: str = response.json()["id"]
    for _ in range(300):
        if http.get(f"/v1/documents/{document_id}/status").json()["status"] == "indexed":
            return document_id
        time.sleep(0.2)
    raise AssertionError("not indexed")


def test_from_the_first_key_on_everybody_needs_one(server: Server, run_kb: RunKB) -> None:
    with client(server, None) as http:
        assert http.get("/v1/models").status_code == 200
        key_id, key = make_key(run_kb)
        for path in ("/v1/models", "/v1/documents", "/metrics"):
            assert http.get(path).status_code == 401
        assert http.get("/").status_code == 200
        assert http.get("/readyz").json() == {"status": "ok"}
        assert http.get("/documents/0123").status_code == 401
    with client(server, key) as http:
        assert http.get("/v1/models", headers={"Host": "kb.example"}).status_code == 200
    openai = {"base_url": f"{server.url}/v1", "max_retries": 0}
    assert OpenAI(api_key=key, **openai).models.list().data  # type: ignore[arg-type]
    newer = printed_json(run_kb("keys", "rotate", key_id, "--json"))["key"]
    for wrong in (key, "unused", newer + "x"):
        with pytest.raises(AuthenticationError) as caught:
            OpenAI(api_key=wrong, **openai).models.list()  # type: ignore[arg-type]
        assert caught.value.code == "invalid_api_key"
    printed_json(run_kb("keys", "revoke", key_id, "--json"))
    with client(server, newer) as http:
        assert http.get("/v1/models").status_code == 401
    assert key not in (listed := run_kb("keys", "list", "--json").stdout)
    assert json.loads(listed)[0]["revoked_at"]


def test_scopes_and_groups(server: Server, run_kb: RunKB) -> None:
    keys: dict[str, Any] = {
        "admin": make_key(run_kb, "--scope", "admin")[1],
        "board": make_key(run_kb, "--scope", "query", "--scope", "ingest", "--group", "board")[1],
        "staff": make_key(run_kb, "--scope", "query", "--scope", "ingest", "--group", "staff")[1],
        "query": make_key(run_kb)[1],
        "ingest": make_key(run_kb, "--scope", "ingest")[1],
        "elsewhere": make_key(run_kb, "--collection", "other")[1],
    }
    as_ = {name: client(server, key) for name, key in keys.items()}
    secret = upload(as_["board"], SECRET)
    public = upload(as_["staff"], "Lunch is served at noon.", groups="*")
    assert as_["admin"].get(f"/v1/documents/{secret}").json()["groups"] == ["board"]

    search = {"query": "What is the heron code for the vault?"}
    chat = {"model": "kb", "messages": [{"role": "user", "content": search["query"]}]}
    for name in ("board", "admin"):
        assert "7731" in as_[name].post("/v1/search", json=search).text
        assert "7731" in as_[name].post("/v1/chat/completions", json=chat).text
        listed = as_[name].get("/v1/documents").json()["data"]
        assert {document["id"] for document in listed} == {secret, public}
    for name in ("staff", "query"):
        http = as_[name]
        found = http.post("/v1/search", json=search)
        assert found.status_code == 200
        assert secret not in found.text
        assert "7731" not in found.text
        answered = http.post("/v1/chat/completions", json=chat)
        assert answered.status_code == 200
        assert "7731" not in answered.text
        assert [d["id"] for d in http.get("/v1/documents").json()["data"]] == [public]
        unknown = "0" * 32
        for path in ("/v1/documents/{}", "/v1/documents/{}/status", "/v1/documents/{}/chunks"):
            hidden, missing = http.get(path.format(secret)), http.get(path.format(unknown))
            assert hidden.status_code == missing.status_code == 404
            assert hidden.text.replace(secret, unknown) == missing.text
        assert http.get(f"/documents/{secret}").status_code == 404
    assert as_["staff"].delete(f"/v1/documents/{secret}").status_code == 404
    file = {"file": ("y.md", b"y")}
    assert as_["query"].post("/v1/documents", files=file).status_code == 403
    assert as_["query"].delete(f"/v1/documents/{public}").status_code == 403
    assert as_["query"].get("/metrics").status_code == 403
    assert as_["ingest"].post("/v1/search", json=search).status_code == 403
    stolen = as_["staff"].post("/v1/documents", files=file, data={"groups": "board"})
    assert stolen.status_code == 403
    # The same name with other groups is another document.
    assert upload(as_["staff"], "Nothing much.") != secret
    assert "7731" in as_["board"].post("/v1/search", json=search).text

    elsewhere = as_["elsewhere"]
    assert elsewhere.get("/v1/models").json()["data"] == []
    assert elsewhere.get("/v1/documents").json()["data"] == []
    for collection in ("default", "missing"):
        denied = elsewhere.post("/v1/search", json=search | {"collection": collection})
        assert denied.status_code == 404
        assert denied.json()["error"]["message"].endswith("There are none.")
    with pytest.raises(NotFoundError):
        OpenAI(base_url=f"{server.url}/v1", api_key=keys["elsewhere"]).models.retrieve("kb")
    for http in as_.values():
        http.close()


def test_another_address_needs_a_key(run_kb: RunKB, data_dir: Path, tmp_path: Path) -> None:
    refused = run_kb("serve", KB_SERVER__HOST="0.0.0.0", KB_SERVER__PORT="0")
    assert refused.returncode == 2
    assert "kb keys create" in refused.stderr
    make_key(run_kb)
    running = start_server(["serve"], data_dir, tmp_path, KB_SERVER__HOST="0.0.0.0")
    stop_server(running)
