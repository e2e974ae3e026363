"""What every request must pass: it comes from this machine, and from no other site's page."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.app.errors import error_body

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]", "::1"})


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
