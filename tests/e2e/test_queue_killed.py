"""A server killed or stopped in the middle of its queue: the next one goes on with all of it."""

import time
from pathlib import Path

import httpx
import pytest
from filelock import FileLock

from ingestion.sources import upload_record
from tests.e2e.kb_process import Server, start_server, stop_server

pytestmark = pytest.mark.slow

UPLOADS = 30
PATIENCE_S = 240


def upload(http: httpx.Client, number: int) -> str:
    text = f"# Tea {number}\n\n" + " ".join(f"Pot {number} holds {n} cups." for n in range(200))
    response = http.post("/v1/documents", files={"file": (f"{number}.md", text.encode())})
    assert response.status_code == 202
    run_id: str = response.json()["run_id"]
    return run_id


def statuses(http: httpx.Client, run_ids: list[str]) -> list[str]:
    return [http.get(f"/v1/runs/{run_id}").json()["status"] for run_id in run_ids]


def client(server: Server) -> httpx.Client:
    return httpx.Client(base_url=server.url, timeout=60)


def test_killed_in_the_middle_of_the_queue_everything_is_indexed_after_a_restart(
    data_dir: Path, tmp_path: Path
) -> None:
    server = start_server(["serve"], data_dir, tmp_path)
    with client(server) as http:
        run_ids = [upload(http, number) for number in range(UPLOADS)]
        while "running" not in (seen := statuses(http, run_ids)):
            assert set(seen) != {"done"}, "all done before the kill: upload more"
    server.process.kill()
    stop_server(server)

    server = start_server(["serve"], data_dir, tmp_path)
    try:
        with client(server) as http:
            deadline = time.monotonic() + PATIENCE_S
            while set(seen := statuses(http, run_ids)) & {"queued", "running"}:
                assert time.monotonic() < deadline, seen
                time.sleep(0.2)
            assert set(seen) == {"done"}
            documents = http.get("/v1/documents", params={"limit": 1000}).json()["data"]
            assert {d["status"] for d in documents} == {"indexed"}
            assert len(documents) == UPLOADS
    finally:
        assert stop_server(server) == 0


def test_stopped_while_a_stream_is_watched_the_stream_ends_and_the_run_goes_on_later(
    data_dir: Path, tmp_path: Path
) -> None:
    server = start_server(["serve"], data_dir, tmp_path)
    area = upload_record("default", data_dir)
    with FileLock(data_dir / "locks" / f"source-{area.id}.lock"), client(server) as http:
        run_id = upload(http, 1)
        with http.stream("GET", f"/v1/runs/{run_id}/events") as stream:
            lines = stream.iter_lines()
            while "running" not in next(lines):
                pass
            server.process.terminate()
            for _ in lines:  # It ends as a stream should: a connection that is cut would raise.
                pass
        assert stop_server(server) == 0

    server = start_server(["serve"], data_dir, tmp_path)
    try:
        with client(server) as http, http.stream("GET", f"/v1/runs/{run_id}/events") as stream:
            assert '"status":"done"' in stream.read().decode().replace(": ", ":")
    finally:
        assert stop_server(server) == 0
