"""Times every request, by the route that took it, and logs it."""

import logging
import re
from time import perf_counter
from typing import Final

import structlog
from asgi_correlation_id import correlation_id
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kb.metrics import REQUESTS

NO_ROUTE: Final = "none"
"""For whatever nobody asks for but by mistake: its names are without number."""
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER_METHOD: Final = "other"
"""For what is none of them: a client may make up as many as it likes."""
NO_ANSWER: Final = "499"
"""The status of a request whose client left before there was one."""


QUIET: Final = frozenset({"/healthz", "/readyz", "/metrics", "/web"})
"""Asked for every few seconds, by programs: in the log only at the level debug."""
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}")

log = structlog.get_logger(__name__)


def _route_of(scope: Scope) -> str:
    if scope["path"].startswith("/web/"):
        return "/web"  # Mounted: no route of ours takes it.
    path: str = getattr(scope.get("route"), "path", NO_ROUTE)
    return path


def is_request_id(text: str) -> bool:
    """Whether a proxy's or client's id may be ours too: nothing that could break a line or a header."""
    return _REQUEST_ID.fullmatch(text) is not None


class Measured:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        structlog.contextvars.bind_contextvars(request_id=correlation_id.get())
        status = NO_ANSWER
        started = perf_counter()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            route = _route_of(scope)
            took = perf_counter() - started
            method = scope["method"] if scope["method"] in METHODS else OTHER_METHOD
            REQUESTS.labels(method, route, status).observe(took)
            key_id = scope.get("state", {}).get("key_id")
            log.log(
                logging.DEBUG if route in QUIET else logging.INFO,
                "request",
                method=method,
                route=route,
                status=int(status),
                ms=round(took * 1000, 1),
                key=key_id,
            )
