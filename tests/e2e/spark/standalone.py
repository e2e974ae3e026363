"""A standalone cluster of Spark on this machine: a master, and workers that count as machines."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ingestion.java import find_java

MACHINES = ("127.0.0.2", "127.0.0.3")
"""Spark runs no second copy of a task on the machine that has the first."""
START_S = 60.0


@contextmanager
def standalone_cluster(spark_home: Path, folder: Path) -> Iterator[str]:
    """The master's URL, once it listens; each worker has one processor and a gigabyte."""
    port = _free_port()
    url = f"spark://127.0.0.1:{port}"
    deploy = "org.apache.spark.deploy"
    master = [f"{deploy}.master.Master", "--host", "127.0.0.1", "--port", str(port)]
    workers = [
        [
            f"{deploy}.worker.Worker",
            *("--host", machine, "--cores", "1", "--memory", "1g"),
            *("--work-dir", str(folder / machine)),
            url,
        ]
        for machine in MACHINES
    ]
    started: list[subprocess.Popen[bytes]] = []
    try:
        started.append(_start(spark_home, master, folder / "master.log"))
        _wait_for(port, started[0])
        started += [
            _start(spark_home, worker, folder / f"{machine}.log")
            for machine, worker in zip(MACHINES, workers, strict=True)
        ]
        yield url
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(START_S)


def _start(spark_home: Path, command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [spark_home / "bin" / "spark-class", *command, "--webui-port", "0"],
            env=os.environ | {"SPARK_HOME": str(spark_home), "JAVA_HOME": str(find_java())},
            stdout=output,
            stderr=output,
        )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "the master of Spark ended"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError("the master of Spark does not listen")
