"""The units, by systemd's own tools, and the backup with its copy off the machine, by a real S3 server."""

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.conftest import DEPLOY
from tests.e2e.kb_process import KB, data_folder, environment, printed_json

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SYSTEMD = DEPLOY / "systemd"
SERVICES = sorted(file.name for file in SYSTEMD.glob("*.service"))
UNITS = [*SERVICES, *sorted(file.name for file in SYSTEMD.glob("*.timer"))]


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The units with their programs where this machine has some: systemd asks whether they exist."""
    folder = tmp_path_factory.mktemp("units")
    shutil.copytree(SYSTEMD, folder, dirs_exist_ok=True)
    for file in folder.glob("*.service"):
        file.write_text(
            re.sub(r"(?m)^ExecStart=/opt/kb/\S+", "ExecStart=/bin/true", file.read_text())
        )
    return folder


def analyze(units: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    # The colon at the end: systemd's own units too.
    where = os.environ | {"SYSTEMD_UNIT_PATH": f"{units}:"}
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False, env=where
    )


@pytest.mark.usefixtures("tools")  # they bring systemd
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_accepts_the_unit(units: Path, unit: str) -> None:
    checked = analyze(units, "verify", str(units / unit))
    assert checked.returncode == 0
    assert unit.partition(".")[0] not in checked.stderr, checked.stderr


@pytest.mark.usefixtures("tools")
def test_systemd_s_complaints_are_heard(units: Path, tmp_path: Path) -> None:
    text = (units / "kb-api.service").read_text()
    (tmp_path / "kb-wrong.service").write_text(text.replace("TasksMax", "TaskMax"))
    assert "TaskMax" in analyze(tmp_path, "verify", str(tmp_path / "kb-wrong.service")).stderr


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("unit", SERVICES)
def test_a_broken_in_process_could_do_little(units: Path, unit: str) -> None:
    """systemd's exposure level in tenths: 0 is nothing, 96 what a unit has that says nothing."""
    arguments = ("--offline=yes", "--no-pager", "--threshold=20", unit)
    assert analyze(units, "security", *arguments).returncode == 0
    (units / "kb-.service.d").rename(units / "aside")
    try:
        assert analyze(units, "security", *arguments).returncode != 0
    finally:
        (units / "aside").rename(units / "kb-.service.d")


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize(("timer", "at"), [("kb-sync", "02:00:00"), ("kb-backup", "03:30:00")])
def test_timers_fire_every_night(timer: str, at: str) -> None:
    text = (SYSTEMD / f"{timer}.timer").read_text()
    calendar = re.search(r"(?m)^OnCalendar=(.+)$", text)
    assert calendar
    told = subprocess.run(
        ["systemd-analyze", "calendar", "--iterations=2", calendar[1]],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"TZ": "UTC"},
    )
    assert told.stdout.count(f" {at} UTC") == 2
    assert "Persistent=yes" in text


# --- Backups ------------------------------------------------------------------------------------


@pytest.fixture
def bucket(tools: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """rclone's variables for a bucket on an S3 server with keys, which is rclone's own."""
    (tmp_path / "s3" / "kb-backups").mkdir(parents=True)
    key, secret = secrets.token_hex(8), secrets.token_hex(16)
    server = subprocess.Popen(
        [
            tools / "rclone",
            "serve",
            "s3",
            "--addr",
            "127.0.0.1:0",
            "--auth-key",
            f"{key},{secret}",
            str(tmp_path / "s3"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr
    try:
        address = next(
            found[0] for line in server.stderr if (found := re.search(r"http://[\d.:]+", line))
        )
        yield {
            "RCLONE_CONFIG_OFFSITE_TYPE": "s3",
            "RCLONE_CONFIG_OFFSITE_PROVIDER": "Other",
            "RCLONE_CONFIG_OFFSITE_ENDPOINT": address,
            "RCLONE_CONFIG_OFFSITE_ACCESS_KEY_ID": key,
            "RCLONE_CONFIG_OFFSITE_SECRET_ACCESS_KEY": secret,
        }
    finally:
        server.terminate()
        server.communicate()


def test_backups_are_copied_to_s3_kept_for_so_long_and_come_back_whole(
    bucket: dict[str, str], tools: Path, models: Path, tmp_path: Path
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "vpn.md").write_text("# VPN\n\nThe gateway is vpn.example.org.")
    there, here = tmp_path / "s3" / "kb-backups", tmp_path / "backups"
    env = environment(data_folder(tmp_path / "data", models), **bucket) | {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "KB": str(KB),
        "FOLDER": str(here),
        "REMOTE": "offsite:kb-backups",
        "KEEP": "1",
        "KEEP_REMOTE": "2",
    }

    def run(*command: str | Path, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=env | more, cwd=tmp_path
        )

    assert run(KB, "ingest", tmp_path / "docs").returncode == 0
    (there / "notes").mkdir()  # another's, which is left alone
    (there / "notes" / "a.txt").write_text("mine")
    names = []
    for _ in range(3):
        made = run(SYSTEMD / "backup")
        assert made.returncode == 0, made.stderr
        names.append(made.stdout.split()[-1])
    assert sorted(path.name for path in here.iterdir()) == names[-1:]
    assert sorted(path.name for path in there.iterdir()) == [*names[-2:], "notes"]

    # The other machine's drill: fetch, then restore into an empty data folder.
    fetched = tmp_path / "fetched"
    copied = run(tools / "rclone", "copy", f"offsite:kb-backups/{names[1]}", fetched)
    assert copied.returncode == 0, copied.stderr
    new = {"KB_DATA_DIR": str(data_folder(tmp_path / "new", models))}
    assert run(KB, "backup", "restore", fetched, **new).returncode == 0
    hits = printed_json(run(KB, "search", "which gateway", "--json", **new))
    assert "vpn.example.org" in hits[0]["chunk"]["text"]

    # The other place is gone: that is told, and nothing here is deleted.
    lost = run(
        SYSTEMD / "backup",
        RCLONE_CONFIG_OFFSITE_ENDPOINT="http://127.0.0.1:9",
        RCLONE_RETRIES="1",
        RCLONE_LOW_LEVEL_RETRIES="1",
    )
    assert lost.returncode != 0
    assert len(list(here.iterdir())) == 2
