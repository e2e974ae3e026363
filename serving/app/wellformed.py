"""Requests must say plainly what they are, and answers how browsers are to read them."""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import FormData, Headers, MutableHeaders, UploadFile
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kb.errors import InvalidQueryError
from serving.app.errors import SAFE_HEADERS, status_response

UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
"""NUL, which neither PostgreSQL nor a file's name takes, and half characters, which UTF-8 has not."""


class WellFormed:
    """Refuses requests that two programs on the way could understand differently.

    Which of two lengths holds, and for which host a request is, is how requests are smuggled past a
    proxy's rules. Every answer says that browsers must not guess its type, nor other sites embed it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SAFE_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if unclear := _unclear(scope):
            response = status_response(unclear, 400, "unclear_request")
            response.headers["Connection"] = "close"
            await response(scope, receive, sending)
        else:
            await self._app(scope, receive, sending)


def _unclear(scope: Scope) -> str:
    headers = Headers(scope=scope)
    if "transfer-encoding" in headers and "content-length" in headers:
        return "A request has a Content-Length or a Transfer-Encoding, not both."
    if "transfer-encoding" in headers and scope["http_version"] < "1.1":
        return "HTTP/1.0 has no Transfer-Encoding."
    if not all(_is_host(host) for host in headers.getlist("host")):
        return "The Host header names no host."
    if "\0" in scope["path"] or b"%00" in scope["query_string"]:
        return "An address holds no NUL characters."
    return ""


def _is_host(text: str) -> bool:
    try:
        parts = urlsplit(f"//{text}")
        _ = parts.port  # Raises for one that is no number.
    except ValueError:
        return False
    return parts.netloc == text and bool(parts.hostname) and "@" not in text


async def check_body(request: Request) -> None:
    """Raises InvalidQueryError where a text of the body can't be stored. FastAPI has read it already."""
    if getattr(request.scope.get("route"), "body_field", None) is None:
        return
    for text in _texts(await _body_of(request)):
        if UNSTORABLE.search(text):
            raise InvalidQueryError(
                "The body holds a NUL character or half a character (a lone surrogate). Send it as UTF-8 text."
            )


async def _body_of(request: Request) -> Any:
    if "form" in request.headers.get("content-type", ""):
        return await request.form()
    with suppress(ValueError):  # The route says what is wrong with it.
        return await request.json()
    return None


def _texts(body: Any) -> Iterator[str]:
    """All strings in it, names included; however deep, without recursion."""
    waiting = [body]
    while waiting:
        match waiting.pop():
            case str(text):
                yield text
            case list(items):
                waiting += items
            case dict(fields):
                waiting += [*fields, *fields.values()]
            case FormData() as form:
                waiting += [part for field in form.multi_items() for part in field]
            case UploadFile(filename=name):
                waiting.append(name)
