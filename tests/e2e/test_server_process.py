"""Starting and stopping the server, as an administrator sees it."""

import signal
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.kb_process import RunKB, printed_json, start_server, stop_server

pytestmark = pytest.mark.slow


def test_sigterm_ends_everything_cleanly(data_dir: Path, tmp_path: Path) -> None:
    server = start_server(["up"], data_dir, tmp_path)
    children = psutil.Process(server.process.pid).children(recursive=True)
    assert children, "parsing runs in processes of its own"
    assert stop_server(server) == 0
    _, alive = psutil.wait_procs(children, 10)
    assert not alive


def test_a_server_told_to_stop_answers_on_until_its_load_goes_elsewhere(
    data_dir: Path, tmp_path: Path
) -> None:
    server = start_server(["serve"], data_dir, tmp_path, KB_SERVER__DRAIN_S="600")
    try:
        with httpx.Client(base_url=server.url) as client:
            assert client.get("/readyz").status_code == 200
            assert "connection" not in client.get("/readyz").headers
            server.process.send_signal(signal.SIGTERM)
            while (ready := client.get("/readyz")).status_code == 200:
                time.sleep(0.05)
            assert ready.status_code == 503
            answer = client.get("/v1/models")
            assert answer.status_code == 200
            assert answer.headers["connection"] == "close"
    finally:
        assert stop_server(server) == 0, "a second signal waits no longer"


@pytest.mark.parametrize(("believed", "scheme"), [("", "http"), ("127.0.0.0/8", "https")])
def test_the_scheme_of_a_link_is_the_one_a_trusted_proxy_names(
    believed: str, scheme: str, data_dir: Path, tmp_path: Path, run_kb: RunKB
) -> None:
    (tmp_path / "tea.md").write_text("# Tea\n\nOolong steeps for three minutes.")
    assert run_kb("ingest", tmp_path / "tea.md").returncode == 0
    key = printed_json(run_kb("keys", "create", "reader", "--json"))["key"]
    server = start_server(["serve"], data_dir, tmp_path, KB_SERVER__TRUSTED_PROXIES=believed)
    try:
        answer = httpx.post(
            f"{server.url}/v1/chat/completions",
            json={
                "model": "kb",
                "messages": [{"role": "user", "content": "How long does oolong steep?"}],
            },
            headers={
                "Authorization": f"Bearer {key}",
                "Host": "kb.example.org",
                "X-Forwarded-For": "198.51.100.7",
                "X-Forwarded-Proto": "https",
            },
        ).json()
        (citation, *_) = answer["citations"]
        assert citation["url"].startswith(f"{scheme}://kb.example.org/documents/")
    finally:
        stop_server(server)


def test_pending_upload_is_indexed_after_a_restart(data_dir: Path, tmp_path: Path) -> None:
    server = start_server(["serve"], data_dir, tmp_path)
    document = httpx.post(
        f"{server.url}/v1/documents",
        files={"file": ("tea.md", b"# Tea\n\nOolong steeps for three minutes.")},
    ).json()
    server.process.kill()
    stop_server(server)
    server = start_server(["serve"], data_dir, tmp_path)
    try:
        for _ in range(200):
            state = httpx.get(f"{server.url}/v1/documents/{document['id']}/status").json()
            if state["status"] != "pending":
                break
            time.sleep(0.2)
        assert state["status"] == "indexed"
    finally:
        stop_server(server)


def test_up_indexes_a_given_folder_and_the_examples_only_once(
    data_dir: Path, tmp_path: Path
) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "only.md").write_text("# Only\n\nThe only document.")
    for command in (["up", "--docs", str(docs)], ["up"]):
        server = start_server(command, data_dir, tmp_path)
        try:
            listed = httpx.get(f"{server.url}/v1/documents").json()["data"]
        finally:
            stop_server(server)
        assert [document["title"] for document in listed] == ["Only"]
