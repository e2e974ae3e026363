"""Starting and stopping the server, as an administrator sees it."""

import socket
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.kb_process import RunKB, start_server, stop_server

pytestmark = pytest.mark.slow


def test_sigterm_ends_everything_cleanly(data_dir: Path, tmp_path: Path) -> None:
    server = start_server(["up"], data_dir, tmp_path)
    children = psutil.Process(server.process.pid).children(recursive=True)
    assert children, "parsing runs in processes of its own"
    assert stop_server(server) == 0
    _, alive = psutil.wait_procs(children, 10)
    assert not alive


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


def test_port_that_is_taken_is_said(run_kb: RunKB) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = run_kb("serve", KB_SERVER__PORT=str(taken.getsockname()[1]))
    assert result.returncode == 2
    assert "KB_SERVER__PORT" in result.stderr
