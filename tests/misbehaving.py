"""Starts tests/misbehaving_server.py and talks to it."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

_SERVER = Path(__file__).with_name("misbehaving_server.py")


class Misbehaving:
    def __init__(self, url: str, client: httpx.Client) -> None:
        self.url = url
        self._client = client

    def mode(self, name: str) -> None:
        self._client.post("/mode", content=name)

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self._client.get("/state").json()
        return found

    def wait_until_idle(self, seconds: float = 5.0) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while (state := self.state())["under_way"] and time.monotonic() < end:
            time.sleep(0.02)
        return state


@contextmanager
def misbehaving_server() -> Iterator[Misbehaving]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    process = subprocess.Popen([sys.executable, _SERVER, str(port)])
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(trust_env=False, base_url=url) as client:
            server = Misbehaving(url, client)
            _wait_until_it_answers(server)
            yield server
    finally:
        process.kill()
        process.wait()


def _wait_until_it_answers(server: Misbehaving) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            server.state()
            return
        except httpx.HTTPError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
