"""What every request must pass: it comes from this machine's own pages, and its body is not too large."""

from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kb.errors import KBError
from kb.settings import ServerSettings
from serving.app.errors import error_body

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]", "::1"})
UPLOAD_PATH = "/v1/documents"


class BodyTooLarge(KBError):
    code = "body_too_large"


def install_guards(app: FastAPI, settings: ServerSettings) -> None:
    app.add_middleware(BodyLimit, settings=settings)
    app.add_middleware(SameMachine)


class SameMachine:
    """Refuses other sites' pages.

    We listen on the loopback address only, but a browser on this machine also runs strangers' pages:
    a foreign Host header means DNS rebinding, a foreign Origin a cross-site request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_ours(Headers(scope=scope)):
            message = "Only pages and programs of this machine may ask this server."
            await JSONResponse(error_body(message, 403, "foreign_origin"), 403)(
                scope, receive, send
            )
            return
        await self._app(scope, receive, send)


def _is_ours(headers: Headers) -> bool:
    host = urlsplit(f"//{headers.get('host', '')}").hostname
    origin = headers.get("origin")
    return host in LOOPBACK_HOSTS and (
        origin is None or urlsplit(origin).hostname in LOOPBACK_HOSTS
    )


class BodyLimit:
    """Stops reading a body that is larger than it may be, announced or not."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit(scope)
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise BodyTooLarge(f"The request is larger than {limit >> 10} KiB.")
            return message

        announced = int(Headers(scope=scope).get("content-length", "0") or 0)
        try:
            if announced > limit:
                raise BodyTooLarge(f"The request is larger than {limit >> 10} KiB.")
            await self._app(scope, counted, send)
        except BodyTooLarge as error:
            body = error_body(error.message, 413, error.code)
            await JSONResponse(body, 413, {"Connection": "close"})(scope, receive, send)

    def _limit(self, scope: Scope) -> int:
        """In bytes."""
        if scope["path"] == UPLOAD_PATH and scope["method"] == "POST":
            return self._settings.max_upload_mb << 20
        return self._settings.max_body_kb << 10
