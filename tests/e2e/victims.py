"""Servers that a test kills with SIGKILL and starts again over the same data."""

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from tests.conftest import SCRIPTS, start_elasticsearch, start_redis


class Victim(Protocol):
    def kill(self) -> None: ...
    def start(self) -> None: ...


@dataclass
class PostgreSQL:
    cluster: Path
    url: str = ""

    def start(self) -> None:
        """At the same port again; the killed server's own processes may take a moment to go."""
        port = self.url.rpartition(":")[2].partition("/")[0]
        command = [str(SCRIPTS / "postgresql" / "start"), str(self.cluster)]
        command += [port] if port else []
        for _ in range(20):
            started = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            if started.returncode == 0:
                self.url = started.stdout.strip()
                return
            time.sleep(0.5)
        raise AssertionError("PostgreSQL does not start again")

    def kill(self) -> None:
        kill_server(int((self.cluster / "data" / "postmaster.pid").read_text().split()[0]))

    def stop(self) -> None:
        subprocess.run([SCRIPTS / "postgresql" / "stop", self.cluster], check=False)


@dataclass
class Elasticsearch:
    data: Path
    url: str = ""

    def kill(self) -> None:
        kill_server(int((self.data / "pid").read_text()))

    def start(self) -> None:
        start_elasticsearch(self.data)


@dataclass
class Redis:
    folder: Path
    url: str

    def kill(self) -> None:
        kill_server(int((self.folder / "pid").read_text()))

    def start(self) -> None:
        start_redis(self.folder)


def kill_server(pid: int) -> None:
    server = psutil.Process(pid)
    server.kill()
    psutil.wait_procs([server], 10)
