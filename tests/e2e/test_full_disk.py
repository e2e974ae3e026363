"""The disk of the data folder gets full: what clients are told, what goes on, and nothing is corrupted."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.kb_process import RunKB, Server, data_folder, printed_json, start_server, stop_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SIZE_MB = 64
KIB = 1 << 10
REPORTS = 12
WITHIN_S = 240
"""For what happens by itself, on a busy machine."""
NO_RESERVE = {"KB_INGEST__MIN_FREE_MB": "0"}
"""So that the disk itself is met, not the check before."""


@dataclass(frozen=True)
class SmallDisk:
    folder: Path

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self, leave: int) -> None:
        """All but `leave` bytes; what was filled before stays filled."""
        with self._ballast.open("ab") as file:
            size = shutil.disk_usage(self.folder).free - leave
            while size > 0:
                size -= file.write(bytes(min(size, 4 * KIB)))

    def free(self) -> None:
        self._ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk needs the right to mount one")
    yield SmallDisk(folder)
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def data_dir(disk: SmallDisk, models: Path) -> Path:
    return data_folder(disk.folder / "data", models)


@pytest.fixture
def server(data_dir: Path, tmp_path: Path) -> Iterator[Server]:
    running = start_server(["serve"], data_dir, tmp_path, **NO_RESERVE)
    yield running
    stop_server(running)


def upload(http: httpx.Client, number: int) -> httpx.Response:
    lines = [f"Line {line} of item {number} weighs {line * number} grams." for line in range(100)]
    text = f"# Item {number}\n\n" + " ".join(lines)
    return http.post("/v1/documents", files={"file": (f"{number}.md", text.encode())})


def indexed(http: httpx.Client, ids: list[str]) -> bool:
    states = [http.get(f"/v1/documents/{each}/status").json() for each in ids]
    assert {state["status"] for state in states} <= {"pending", "indexed"}, states
    return all(state["status"] == "indexed" for state in states)


def wait_until_indexed(http: httpx.Client, ids: list[str]) -> float:
    begun = time.monotonic()
    while not indexed(http, ids):
        assert time.monotonic() - begun < WITHIN_S, "not indexed"
        time.sleep(0.2)
    return time.monotonic() - begun


def fill_with_uploads(http: httpx.Client, first: int) -> tuple[list[str], httpx.Response]:
    """Uploads until one is refused: the ids of those taken, and the refusal."""
    taken: list[str] = []
    while True:
        response = upload(http, first + len(taken))
        if response.status_code != 202:
            return taken, response
        taken.append(response.json()["id"])


def check_refusal(response: httpx.Response) -> None:
    assert response.status_code == 507, response.text
    error: dict[str, Any] = response.json()["error"]
    assert (error["code"], error["type"]) == ("disk_full", "server_error")
    assert "full" in error["message"]
    assert "Free space" in error["message"]
    assert int(response.headers["Retry-After"]) > 0


@pytest.mark.parametrize("left", [0, 200 * KIB], ids=["nothing left", "200 KiB left"])
def test_full_and_free_again(
    disk: SmallDisk, server: Server, run_kb: RunKB, tmp_path: Path, left: int
) -> None:
    keys = [
        printed_json(run_kb("keys", "create", name, "--scope", "admin", "--json"))["key"]
        for name in ("before", "first used on a full disk")
    ]
    clients = [
        httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=60)
        for key in keys
    ]
    with clients[0] as http, clients[1] as late:
        there = [upload(http, number).json()["id"] for number in range(3)]
        wait_until_indexed(http, there)
        disk.fill(left)
        taken, refusal = fill_with_uploads(http, 3)
        check_refusal(refusal)
        found = late.post("/v1/search", json={"query": "What does line 7 of item 2 weigh?"})
        assert found.status_code == 200, found.text
        assert found.json()["data"]
        disk.fill(0)
        documents = tmp_path / "documents"
        documents.mkdir()
        for number in range(REPORTS):
            text = f"# Report {number}\n\n" + f"The report {number} has a long text. " * 60
            (documents / f"{number}.md").write_text(text)
        impatient = {"KB_INGEST__INDEX_PATIENCE_S": "1"}
        failed = run_kb("ingest", documents, "--json", **NO_RESERVE, **impatient)
        assert failed.returncode == 1, failed.stdout
        assert "Free space" in unwrapped(failed.stderr)
        assert "Traceback" not in failed.stderr

        disk.free()
        again = upload(http, 3 + len(taken))
        assert again.status_code == 202, again.text
        everything = [*there, *taken, again.json()["id"]]
        took_s = wait_until_indexed(http, everything)
        done = printed_json(run_kb("ingest", documents, "--json", **NO_RESERVE))
        assert done["indexed"] + done["unchanged"] == REPORTS
    assert server.process.poll() is None
    doctor = run_kb("doctor", **NO_RESERVE)
    assert doctor.returncode == 0, doctor.stdout
    print(f"{left} bytes left: {len(taken)} more uploads taken; all indexed after {took_s:.1f} s")  # noqa: T201


def unwrapped(message: str) -> str:
    """Lines are as long as a terminal's, and paths are longer on some machines than on others."""
    return " ".join(message.split())


def test_an_ingest_begins_only_with_some_space_in_reserve(run_kb: RunKB, tmp_path: Path) -> None:
    (tmp_path / "one.md").write_text("Text.")
    refused = run_kb("ingest", tmp_path / "one.md", KB_INGEST__MIN_FREE_MB="1000")
    assert refused.returncode == 1
    assert "ingest.min_free_mb asks for 1000" in unwrapped(refused.stderr)


def test_a_backup_onto_a_full_disk_leaves_nothing_behind(
    disk: SmallDisk, run_kb: RunKB, tmp_path: Path
) -> None:
    (tmp_path / "one.md").write_text("Text.")
    printed_json(run_kb("ingest", tmp_path / "one.md", "--json", **NO_RESERVE))
    disk.fill(100 * KIB)
    backups = disk.folder / "backups"
    refused = run_kb("backup", "create", "--folder", backups)
    assert refused.returncode == 1, refused.stderr
    assert "Free space" in unwrapped(refused.stderr)
    assert "Traceback" not in refused.stderr
    assert list(backups.iterdir()) == []
    disk.free()
    (made,) = printed_json(run_kb("backup", "create", "--folder", backups, "--json"))
    assert run_kb("backup", "verify", backups / made["name"]).returncode == 0
