"""The `kb` command as a user runs it: as a process, over a data folder of its own."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KB = Path(sys.executable).with_name("kb")
START_TIMEOUT_S = 240
"""Building the model takes 10 s on a quiet machine, a minute on a busy one."""
STOP_TIMEOUT_S = 30

RunKB = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class Server:
    url: str
    data_dir: Path
    process: subprocess.Popen[str]


def environment(data_dir: Path, **settings: str) -> dict[str, str]:
    """The environment of a `kb` process: ours without its KB_ variables, and the given ones.

    Nothing is cached: tests ask the same again to see it answered again.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KB_")}
    own = {"KB_DATA_DIR": str(data_dir), "KB_CACHE__TTL_S": "0", "COLUMNS": "200"}
    return inherited | own | settings


def data_folder(folder: Path, models: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "models").symlink_to(models, target_is_directory=True)
    return folder


def printed_json(result: subprocess.CompletedProcess[str]) -> Any:
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def start_server(
    command: list[str],
    data_dir: Path,
    working_folder: Path,
    log: Path | None = None,
    /,
    **settings: str,
) -> Server:
    """Starts `kb ...`, on a free port if none is set, and waits until it has printed its endpoint.

    Its log goes into the file `log`, or where ours goes.
    """
    settings = {"KB_SERVER__PORT": "0"} | settings
    with ExitStack() as opened:
        process = subprocess.Popen(
            [KB, *command],
            env=environment(data_dir, **settings),
            cwd=working_folder,
            stdout=subprocess.PIPE,
            stderr=opened.enter_context(log.open("wb")) if log else None,
            text=True,
        )
    assert process.stdout
    printed = ""
    for line in process.stdout:
        printed += line
        if match := re.search(r"Endpoint\s+(http://\S+)/v1", line):
            return Server(match[1], data_dir, process)
    raise AssertionError(f"kb ended with {process.wait()} and printed: {printed}")


def stop_server(server: Server) -> int:
    server.process.send_signal(signal.SIGTERM)
    try:
        return server.process.wait(STOP_TIMEOUT_S)
    finally:
        server.process.kill()
        assert server.process.stdout
        server.process.stdout.close()
