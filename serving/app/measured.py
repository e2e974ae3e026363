"""Times every request, by the route that took it."""

from time import perf_counter
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kb.metrics import REQUESTS

NO_ROUTE: Final = "none"
"""For whatever nobody asks for but by mistake: its names are without number."""
NO_ANSWER: Final = "499"
"""The status of a request whose client left before there was one."""


class Measured:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
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
            route = getattr(scope.get("route"), "path", NO_ROUTE)
            took = perf_counter() - started
            REQUESTS.labels(scope["method"], route, status).observe(took)
