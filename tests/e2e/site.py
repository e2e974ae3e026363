"""Two APIs of one data folder behind a real nginx, and people who ask them without a pause."""

import asyncio
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx

from tests.e2e.kb_process import KB, Server, data_folder, environment, printed_json, start_server

NGINX = Path(__file__).parents[2] / "deploy" / "nginx"
REPLICAS = 2
RATE = 50
"""Questions a second, as long as no more than `AT_A_TIME` wait: a busy machine is asked less."""
AT_A_TIME = 16
CONDITION_WITHIN_S = 240.0
UPSTREAM = "X-Upstream"
"""The header in which deploy/nginx/start names the API that answered."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


class Replica:
    """One API, always on the same port."""

    def __init__(self, data_dir: Path, folder: Path, settings: dict[str, str]) -> None:
        self._data_dir = data_dir
        self._folder = folder
        self._port = free_port()
        self._settings = settings | {"KB_SERVER__PORT": str(self._port)}
        self._server: Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def process(self) -> subprocess.Popen[str]:
        assert self._server
        return self._server.process

    def start(self) -> None:
        if self._server and self.process.poll() is not None:
            self.close()
        if self._server is None:
            log = self._folder / f"{self._port}.log"
            self._server = start_server(
                ["serve"], self._data_dir, self._folder, log, **self._settings
            )

    def tell_to_stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), 5):
                return True
        except ConnectionRefusedError:
            return False

    def close(self) -> None:
        if self._server:
            self.kill()
            assert self.process.stdout
            self.process.stdout.close()
            self._server = None


@dataclass(frozen=True)
class Site:
    url: str
    key: str
    replicas: list[Replica]
    nginx: Path
    """nginx's folder."""

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def start(self) -> None:
        for replica in self.replicas:
            replica.start()

    def passed_over(self) -> int:
        """Requests that nginx sent to another API after the first."""
        lines = (self.nginx / "access.log").read_text().splitlines()
        return sum(", 127.0.0.1:" in line for line in lines)


@contextmanager
def site(folder: Path, models: Path, documents: Path, **settings: str) -> Iterator[Site]:
    data_dir = data_folder(folder / "data", models)
    settings = {
        "KB_LIMITS__REQUESTS_PER_MINUTE": "0",
        "KB_LIMITS__CONCURRENT_REQUESTS": "0",
        "KB_SERVER__MAX_REQUESTS": "2000",
        "KB_SERVER__MAX_CONNECTIONS": "4000",
    } | settings

    def kb(*command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [KB, *command],
            env=environment(data_dir),
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )

    kb("ingest", documents)
    key = printed_json(kb("keys", "create", "admin", "--scope", "admin", "--json"))["key"]
    replicas = [Replica(data_dir, folder, settings) for _ in range(REPLICAS)]
    nginx = folder / "nginx"
    addresses = [replica.address for replica in replicas]
    try:
        for replica in replicas:
            replica.start()
        started = subprocess.run(
            [NGINX / "start", nginx, str(free_port()), *addresses],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        yield Site(started.stdout.strip(), key, replicas, nginx)
    finally:
        subprocess.run([NGINX / "stop", nginx], check=True)
        for replica in replicas:
            replica.close()
        shutil.rmtree(data_dir)


@dataclass
class Questions:
    """Searches, each with words of its own, until it is left; `answers` in the order of their ends.

    `waited` are the seconds from when each was to be sent, which is open loop as long as there is room.
    """

    site: Site
    at_a_time: int = AT_A_TIME
    answers: list[httpx.Response | httpx.HTTPError] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    _asked: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._room = asyncio.Semaphore(self.at_a_time)
        self._http = httpx.AsyncClient(
            base_url=self.site.url,
            headers=self.site.headers,
            timeout=CONDITION_WITHIN_S,
            limits=httpx.Limits(max_connections=None),
            trust_env=False,
        )
        self._asking = asyncio.create_task(self._ask_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._asking.cancel()
        await asyncio.gather(*self._asked)
        await self._http.aclose()

    @property
    def failed(self) -> list[str]:
        return [
            repr(answer) if isinstance(answer, httpx.HTTPError) else answer.text
            for answer in self.answers
            if isinstance(answer, httpx.HTTPError) or answer.status_code != 200
        ]

    async def more(self, number: int) -> None:
        enough = len(self.answers) + number
        await self.until(lambda: len(self.answers) >= enough, f"{number} more answers")

    async def answered_by(self, replica: Replica) -> None:
        """Until an answer to come is this one's."""
        so_far = len(self.answers)

        def answered() -> bool:
            later = self.answers[so_far:]
            return any(
                isinstance(answer, httpx.Response)
                and answer.headers.get(UPSTREAM) == replica.address
                for answer in later
            )

        await self.until(answered, f"an answer of {replica.address}")

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + CONDITION_WITHIN_S
        while not holds():
            assert not self._asking.done(), self._asking.exception()
            assert time.monotonic() < until, f"{what}: not within {CONDITION_WITHIN_S:.0f} s"
            await asyncio.sleep(0.05)

    async def _ask_on(self) -> None:
        due = time.monotonic()
        while True:
            await self._room.acquire()
            self._asked.append(asyncio.create_task(self._ask(len(self._asked))))
            # A sleep is always a little longer than asked for, which must not make the rate lower.
            due = max(due + 1 / RATE, time.monotonic() - 1)
            await asyncio.sleep(due - time.monotonic())

    async def _ask(self, number: int) -> None:
        begun = time.monotonic()
        try:
            answer = await self._http.post("/v1/search", json={"query": f"What weighs {number}?"})
        except httpx.HTTPError as error:
            self.answers.append(error)
        else:
            self.answers.append(answer)
        finally:
            self.waited.append(time.monotonic() - begun)
            self._room.release()


@contextmanager
def nginx_with_tls(folder: Path, of: Site) -> Iterator[tuple[int, int]]:
    """deploy/nginx/site.conf as it is but for its ports, with the certificate in `folder`; its ports."""
    plain, secure = free_port(), free_port()
    text = (NGINX / "site.conf").read_text()
    theirs = ["listen 80;", "listen 443 ", "/etc/ssl/kb/", "127.0.0.1:8001", "127.0.0.1:8002"]
    ours = [f"listen 127.0.0.1:{plain};", f"listen 127.0.0.1:{secure} ", f"{folder}/"]
    ours += [replica.address for replica in of.replicas]
    for there, here in zip(theirs, ours, strict=True):
        assert there in text
        text = text.replace(there, here)
    (folder / "site.conf").write_text(text)
    (folder / "snippets").mkdir()
    shutil.copy(NGINX / "kb.conf", folder / "snippets")
    places = "".join(
        f"{place}_temp_path {folder}/{place};"
        for place in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log; user root;\n"
        f"events {{}}\nhttp {{ access_log off; {places} include site.conf; }}\n"
    )
    command: list[str | Path] = ["nginx", "-e", folder / "error.log", "-c", folder / "nginx.conf"]
    process = subprocess.Popen(command, env={"PATH": "/usr/sbin:/usr/bin"})
    try:
        _wait_for(plain)
        yield plain, secure
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int) -> None:
    until = time.monotonic() + CONDITION_WITHIN_S
    while time.monotonic() < until:
        try:
            with socket.create_connection(("127.0.0.1", port), 5):
                return
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise AssertionError(f"Nothing listens on {port}.")
