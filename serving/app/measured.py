"""Times every request, by the route that took it, logs it, and makes it a span."""

import logging
import re
from contextlib import AbstractContextManager, nullcontext
from http import HTTPMethod
from time import perf_counter
from typing import Final

import structlog
from asgi_correlation_id import correlation_id
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kb import tracing
from kb.metrics import REQUESTS

NO_ROUTE: Final = "none"
"""For whatever nobody asks for but by mistake: its names are without number."""
OTHER_METHOD: Final = "other"
"""For what is no method of HTTP: a client may make up as many as it likes."""
NO_ANSWER: Final = "499"
"""The status of a request whose client left before there was one."""
BUG: Final = "500"


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
        with _span(scope) as span:
            await self._measure(scope, receive, send, span)

    async def _measure(
        self, scope: Scope, receive: Receive, send: Send, span: tracing.Recording
    ) -> None:
        status = NO_ANSWER
        started = perf_counter()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception:
            if status == NO_ANSWER:
                status = BUG  # Answered so by who is around us.
            raise
        finally:
            route = _route_of(scope)
            took = perf_counter() - started
            method = scope["method"] if _is_known(scope) else OTHER_METHOD
            REQUESTS.labels(method, route, status).observe(took)
            _describe(span, scope, route, status)
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


def _span(scope: Scope) -> AbstractContextManager[tracing.Recording]:
    """By OpenTelemetry's conventions for HTTP, but without path and query: those hold names and words."""
    if scope["path"] in QUIET or _route_of(scope) in QUIET:
        return nullcontext(tracing.Recording())
    attributes = {
        "http.request.method": scope["method"] if _is_known(scope) else "_OTHER",
        "url.scheme": scope["scheme"],
        "kb.request_id": correlation_id.get() or "",
    }
    return tracing.begun(_name_of(scope), Headers(scope=scope), attributes, is_server=True)


def _describe(span: tracing.Recording, scope: Scope, route: str, status: str) -> None:
    if route != NO_ROUTE:
        span.rename(f"{_name_of(scope)} {route}")
        span.add("http.route", route)
    if status != NO_ANSWER:
        span.add("http.response.status_code", int(status))
    if status >= "500":
        span.fail(status)


def _name_of(scope: Scope) -> str:
    return scope["method"] if _is_known(scope) else "HTTP"


def _is_known(scope: Scope) -> bool:
    """Clients can make up methods."""
    return scope["method"] in HTTPMethod.__members__
