"""Limits at the door: a full server says so at once, and answers carry what a key may still ask."""

from collections.abc import AsyncIterator
from typing import Final

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kb.errors import ServerOverloaded
from kb.metrics import IN_FLIGHT, LIMITED
from serving.app.dependencies import KeyDep
from serving.app.errors import error_response
from serving.limits import Allowance, Limits

LIMITED_PATHS: Final = "/v1/"


async def within_limits(request: Request, key: KeyDep) -> AsyncIterator[None]:
    """A dependency of routes. Without keys only this machine asks, and as much as it likes.

    The place is held until the answer is sent, its stream included. Raises TooManyRequests.
    """
    if key is None:
        yield
        return
    limits: Limits = request.app.state.limits
    with limits.place(key.id):
        request.state.allowance = await limits.count(key.id)
        yield


class Door:
    """Refuses what is more than the server works on at a time, before anything is read or looked up."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(LIMITED_PATHS):
            await self._app(scope, receive, send)
            return
        if self._inside >= self._most:
            LIMITED.labels("overload").inc()
            error = ServerOverloaded(
                f"The server works on {self._most} requests already. Try again in a moment."
            )
            await error_response(error)(scope, receive, send)
            return
        self._inside += 1
        IN_FLIGHT.set(self._inside)
        try:
            await self._app(scope, receive, _with_allowance(scope, send))
        finally:
            self._inside -= 1
            IN_FLIGHT.set(self._inside)


def _with_allowance(scope: Scope, send: Send) -> Send:
    """Adds the headers of the IETF's draft on rate limits (draft-ietf-httpapi-ratelimit-headers-07)."""

    async def sending(message: Message) -> None:
        allowance: Allowance | None = scope.get("state", {}).get("allowance")
        if message["type"] == "http.response.start" and allowance is not None:
            headers = MutableHeaders(scope=message)
            headers["RateLimit-Limit"] = str(allowance.limit)
            headers["RateLimit-Remaining"] = str(allowance.remaining)
            headers["RateLimit-Reset"] = str(allowance.resets_s)
        await send(message)

    return sending
