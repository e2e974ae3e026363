"""The curl examples of docs/api.md, as a shell runs them."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.kb_process import RunKB, Server, printed_json, start_server, stop_server

pytestmark = pytest.mark.slow

TIMEOUT_S = 240
EXAMPLES = re.findall(
    r"```sh\n(.*?)```", (Path(__file__).parents[2] / "docs/api.md").read_text("utf-8"), re.DOTALL
)


@pytest.fixture
def server(data_dir: Path, tmp_path: Path) -> Iterator[Server]:
    backups = str(tmp_path / "backups")
    running = start_server(["serve"], data_dir, tmp_path, KB_BACKUP__FOLDER=backups)
    yield running
    stop_server(running)


def test_the_examples_of_the_documentation_work(
    server: Server, run_kb: RunKB, tmp_path: Path
) -> None:
    key = printed_json(run_kb("keys", "create", "docs", "--scope", "admin", "--json"))["key"]
    (tmp_path / "leave.md").write_text("# Leave\n\nTwenty days a year.", "utf-8")
    assert len(EXAMPLES) == 2
    script = "set -euo pipefail\n" + "\n".join(EXAMPLES)
    ran = subprocess.run(
        ["bash", "-xc", script],
        env={"URL": server.url, "KEY": key, "PATH": "/usr/local/bin:/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    assert ran.stdout.count("event: run") >= 2
    assert '"status": "failed"' not in ran.stdout.replace('":"', '": "')
