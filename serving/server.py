"""Runs the API on a socket we opened ourselves, so that every mistake gets a clear sentence."""

import asyncio
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Final

import structlog
import uvicorn

from kb.errors import ConfigError
from kb.settings import ServerSettings
from serving.bootstrap import Services
from serving.server_address import is_loopback

TICK_S: Final = 0.1
"""Between looks whether there is something to do, as in uvicorn's own loop."""

log = structlog.get_logger(__name__)


async def serve_api(
    services: Services, open_socket: socket.socket, listening: Callable[[str], None]
) -> None:
    """Serves on a socket until stopped; calls `listening` with the address once requests are answered."""
    # FastAPI takes a second to import, and every other command does without.
    from serving.app.application import create_app
    from serving.slow_clients import TimedProtocol

    server_settings = services.settings.server
    timed = partial(
        TimedProtocol,
        timeout_s=server_settings.request_timeout_s,
        most=server_settings.max_connections,
    )
    app = create_app(services)
    config = uvicorn.Config(
        app,
        http=timed,  # type: ignore[arg-type]  # Called like the class that it asks for.
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=server_settings.trusted_proxies,
        timeout_graceful_shutdown=server_settings.shutdown_s,
    )
    host, port = open_socket.getsockname()[:2]
    # uvicorn stops at SIGTERM, then sends it to the process again: our own closing comes first.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)
    server = _Server(
        config,
        server_settings.drain_s,
        app.state.draining,
        app.state.stopping,
        lambda: listening(f"http://{_bracketed(host)}:{port}"),
    )
    await server.serve(sockets=[open_socket])
    if not server.started:
        raise ConfigError("The server could not start; the log says why.")


class _Server(uvicorn.Server):
    """Says when it listens, and stops in stages.

    Told to stop, it first answers on for `drain_s`, says `Connection: close` with each answer, and is
    not ready: whatever shares the load sends its requests elsewhere, and none is on its way when the
    socket closes. Then it takes no more, and ends what it has begun. A second signal drains no longer.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        drain_s: float,
        draining: asyncio.Event,
        stopping: asyncio.Event,
        listening: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._drain_s = drain_s
        self._draining = draining
        self._stopping = stopping
        self._listening = listening
        self._hurried = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self._hurried = True
        super().handle_exit(sig, frame)

    async def main_loop(self) -> None:
        await super().main_loop()
        if self._drain_s:
            await self._drain()

    async def _drain(self) -> None:
        log.info("draining", seconds=self._drain_s)
        self._draining.set()
        self.config.encoded_headers.append((b"connection", b"close"))
        until = time.monotonic() + self._drain_s
        while time.monotonic() < until and not self._hurried:
            await self.on_tick(0)
            await asyncio.sleep(TICK_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping.set()
        await super().shutdown(sockets)


def listen(settings: ServerSettings, *, keys_exist: bool = False) -> socket.socket:
    """A bound socket, before anything costly is started. Without keys only this machine may connect.

    Raises ConfigError for an address that is not this machine's own, or a port that is taken.
    """
    if not keys_exist and not is_loopback(settings.host):
        raise ConfigError(
            f"server.host is {settings.host}, but without keys only this machine may connect: "
            "use 127.0.0.1, or make a key first: kb keys create NAME."
        )
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # Named TCP, or asyncio leaves Nagle's algorithm on: each stream's second piece then waits 40 ms.
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((settings.host, settings.port))
    except OSError as error:
        opened.close()
        raise ConfigError(
            f"Port {settings.port} of {settings.host} can't be used: {error.strerror}. "
            "Choose another with KB_SERVER__PORT, or 0 for any."
        ) from error
    return opened


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
