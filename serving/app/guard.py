"""What every request must pass while there are no keys: it comes from this machine's own pages."""

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from kb.errors import KBError
from serving.app.errors import error_response, status_response

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]", "::1"})
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
"""What proxies add to a request."""


class SameMachine:
    """Refuses other sites' pages as long as no key exists.

    Without keys we listen on the loopback address only, but a browser on this machine also runs
    strangers' pages: a foreign Host header means DNS rebinding, a foreign Origin a cross-site request,
    and so does Sec-Fetch-Site, where a page only embeds what is here and no Origin is sent. And a proxy
    on this machine may let in anybody. With keys none of it helps them: no browser and no proxy adds a
    key by itself.
    """

    def __init__(self, app: ASGIApp, keys_exist: Callable[[], Awaitable[bool]]) -> None:
        self._app = app
        self._keys_exist = keys_exist

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_ours(scope["method"], Headers(scope=scope)):
            try:
                keyed = await self._keys_exist()
            except KBError as error:
                await error_response(error)(scope, receive, send)
                return
            if not keyed:
                message = "Without keys only pages and programs of this machine may ask: kb keys create NAME."
                await status_response(message, 403, "foreign_origin")(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_ours(method: str, headers: Headers) -> bool:
    host = urlsplit(f"//{headers.get('host', '')}").hostname
    origin = headers.get("origin")
    return (
        host in LOOPBACK_HOSTS
        and (origin is None or _host_of(origin) in LOOPBACK_HOSTS)
        and (headers.get("sec-fetch-site") != "cross-site" or _is_followed_link(method, headers))
        and not any(name in headers for name in FORWARDED)
    )


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).hostname
    except ValueError:
        return None


def _is_followed_link(method: str, headers: Headers) -> bool:
    """Somebody goes to a page of ours; other than what a page embeds, the site does not see it."""
    sent = (method, headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest"))
    return sent == ("GET", "navigate", "document")
