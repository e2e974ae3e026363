"""Runs as server-sent events over real HTTP: progress, then the end; who hangs up leaves nothing behind."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from filelock import FileLock

from ingestion.sources import upload_record
from kb.db.catalog import SQLCatalog
from kb.settings import LimitsSettings
from kb.types import Scope
from serving.bootstrap import Services
from serving.keys import create_key
from tests.served import served

PATIENCE_S = 120


@dataclass(frozen=True)
class Uploader:
    """A server, and a key that may have one request going on at a time."""

    http: httpx.Client
    data_dir: Path

    def upload(self, name: str = "tea.md") -> str:
        sent = self.http.post("/v1/documents", files={"file": (name, b"# Tea\n\nOolong.")})
        assert sent.status_code == 202, sent.text
        run_id: str = sent.json()["run_id"]
        return run_id

    @contextmanager
    def uploads_held(self) -> Iterator[None]:
        """As by another process that indexes the same area: runs begin, and wait."""
        area = upload_record("default", self.data_dir)
        with FileLock(self.data_dir / "locks" / f"source-{area.id}.lock"):
            yield


@pytest.fixture
def uploader(tmp_path: Path) -> Iterator[Uploader]:
    texts: list[str] = []

    async def prepare(services: Services) -> None:
        await services.ensure_collection("default")
        _, text = await create_key(services.catalog.keys, "ingest", scopes=(Scope.INGEST,))
        texts.append(text)

    limits = LimitsSettings(requests_per_minute=100_000, concurrent_requests=1)
    with served(tmp_path / "data", prepare, limits=limits) as url:
        headers = {"Authorization": f"Bearer {texts[0]}"}
        with httpx.Client(base_url=url, headers=headers, timeout=PATIENCE_S) as http:
            yield Uploader(http, tmp_path / "data")


def runs_in(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The runs that a stream brings."""
    event = ""
    for line in lines:
        if line.startswith("event: "):
            event = line.removeprefix("event: ")
        elif line.startswith("data: "):
            assert event == "run"
            yield json.loads(line.removeprefix("data: "))


def test_a_stream_tells_how_a_run_goes_on_and_ends_with_it(uploader: Uploader) -> None:
    seen: list[dict[str, Any]] = []
    with ExitStack() as held:
        held.enter_context(uploader.uploads_held())
        run_id = uploader.upload()
        with uploader.http.stream("GET", f"/v1/runs/{run_id}/events") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            assert stream.headers["cache-control"] == "no-cache"
            for run in runs_in(stream.iter_lines()):
                seen.append(run)
                if run["status"] == "running":
                    held.close()
    assert {run["id"] for run in seen} == {run_id}
    ranks = [["queued", "running", "done"].index(run["status"]) for run in seen]
    assert ranks == sorted(ranks)
    assert {1, 2} <= set(ranks)
    assert seen[-1]["counts"]["indexed"] == 1
    assert seen[-1] == uploader.http.get(f"/v1/runs/{run_id}").json()


def test_a_finished_run_is_one_event(uploader: Uploader) -> None:
    run_id = uploader.upload()
    with uploader.http.stream("GET", f"/v1/runs/{run_id}/events") as stream:
        for _ in runs_in(stream.iter_lines()):
            pass
    again = uploader.http.get(f"/v1/runs/{run_id}/events")
    (run,) = runs_in(iter(again.text.splitlines()))
    assert run["status"] == "done"
    missing = uploader.http.get("/v1/runs/none/events")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")


def test_who_hangs_up_frees_the_stream(uploader: Uploader) -> None:
    with uploader.uploads_held():
        run_id = uploader.upload()
        with uploader.http.stream("GET", f"/v1/runs/{run_id}/events") as stream:
            runs = runs_in(stream.iter_lines())
            next(runs)
            assert uploader.http.get(f"/v1/runs/{run_id}").status_code == 429
        deadline = time.monotonic() + PATIENCE_S
        while (answer := uploader.http.get(f"/v1/runs/{run_id}")).status_code == 429:
            assert time.monotonic() < deadline, "the stream that was hung up is still counted"
            time.sleep(0.05)
        assert answer.json()["finished_at"] is None


def test_a_stream_ends_when_its_run_is_deleted(uploader: Uploader) -> None:
    with uploader.uploads_held():
        run_id = uploader.upload()
        with uploader.http.stream("GET", f"/v1/runs/{run_id}/events") as stream:
            runs = runs_in(stream.iter_lines())
            next(runs)
            _delete_collection(uploader.data_dir)
            for _ in runs:  # Ends.
                pass


def _delete_collection(data_dir: Path) -> None:
    async def delete() -> None:
        catalog = await SQLCatalog.open(f"sqlite:///{data_dir / 'catalog.db'}")
        await catalog.delete_collection("default")
        await catalog.close()

    asyncio.run(delete())
