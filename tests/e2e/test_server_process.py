"""Starting and stopping the server, as an administrator sees it."""

import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.kb_process import start_server, stop_server

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
