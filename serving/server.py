"""Runs the API on a socket we opened ourselves, so that every mistake gets a clear sentence."""

import asyncio
import signal
import socket
from collections.abc import Callable
from functools import partial

import uvicorn

from kb.errors import ConfigError
from kb.settings import ServerSettings
from serving.bootstrap import Services
from serving.server_address import is_loopback

GRACEFUL_SHUTDOWN_S = 10


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
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_S,
    )
    host, port = open_socket.getsockname()[:2]
    # uvicorn stops at SIGTERM, then sends it to the process again: our own closing comes first.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)
    server = _AnnouncingServer(
        config, lambda: listening(f"http://{_bracketed(host)}:{port}"), app.state.stopping.set
    )
    await server.serve(sockets=[open_socket])
    if not server.started:
        raise ConfigError("The server could not start; the log says why.")


class _AnnouncingServer(uvicorn.Server):
    """Calls `listening` once it does, and `stopping` before it waits for what is still being answered."""

    def __init__(
        self,
        config: uvicorn.Config,
        listening: Callable[[], None],
        stopping: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._listening = listening
        self._stopping = stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._listening()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping()
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
    opened = socket.socket(family, socket.SOCK_STREAM)
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
