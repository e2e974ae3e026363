"""The one place that knows HTTP: our errors as statuses, in the shape of OpenAI's API."""

from typing import Any

import structlog
from asgi_correlation_id import correlation_id
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from kb.disk import REMEDY, is_full
from kb.errors import (
    UNFORESEEN,
    AccessDenied,
    BackendError,
    ConfigError,
    DiskFull,
    DocumentError,
    DocumentTooLarge,
    IndexSchemaMismatch,
    InvalidKey,
    InvalidQueryError,
    InvalidSource,
    KBError,
    NoBackupFolder,
    NotFoundError,
    SourceBusy,
    SourcePaused,
    TooManyRequests,
    UnsupportedFormat,
)
from kb.metrics import ERRORS
from serving.app.hang_up import ClientGone
from serving.reindexing import BeingReindexed

STATUSES: dict[type[KBError], int] = {
    InvalidQueryError: 400,
    InvalidKey: 401,
    AccessDenied: 403,
    InvalidSource: 400,
    NotFoundError: 404,
    SourceBusy: 409,
    SourcePaused: 409,
    BeingReindexed: 409,
    NoBackupFolder: 409,
    DocumentTooLarge: 413,
    UnsupportedFormat: 415,
    TooManyRequests: 429,
    DocumentError: 422,
    IndexSchemaMismatch: 500,
    ConfigError: 500,
    DiskFull: 507,
    BackendError: 503,
    KBError: 500,
}
"""The status of an error is that of the first of its classes listed here."""
RETRY_AFTER_S = 5
REQUEST_ID = "X-Request-ID"
"""The header that says which lines of the log belong to an answer."""

SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Of every answer: what is no script does not become one, and is in no other site's page."""

log = structlog.get_logger(__name__)


def status_of(error: KBError) -> int:
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def error_body(message: str, status: int, code: str, param: str | None = None) -> dict[str, Any]:
    """The error object of OpenAI's API reference (developers' "Errors" page)."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def install_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(KBError, _kb_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(ClientGone, _client_gone)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(OSError, _system_error)
    app.add_exception_handler(Exception, _unexpected)


async def _kb_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, KBError)
    return error_response(error)


def error_response(error: KBError) -> JSONResponse:
    status = status_of(error)
    ERRORS.labels(error.code).inc()
    if status >= 500:
        log.error("request_failed", code=error.code, reason=error.message)
    headers = {}
    if isinstance(error, TooManyRequests):
        headers["Retry-After"] = str(error.retry_after_s)
    elif isinstance(error, BackendError) and error.retryable:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if isinstance(error, InvalidKey):
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error_body(error.message, status, error.code), status, headers)


def status_response(message: str, status: int, code: str) -> JSONResponse:
    return JSONResponse(error_body(message, status, code), status)


async def _invalid_request(_: Request, error: Exception) -> JSONResponse:
    """FastAPI's 422 becomes the 400 that OpenAI's clients know; the first mistake names the field."""
    assert isinstance(error, RequestValidationError)
    mistake = error.errors()[0]
    param = ".".join(str(part) for part in mistake["loc"] if part != "body")
    message = f"{param}: {mistake['msg']}" if param else mistake["msg"]
    return JSONResponse(error_body(message, 400, "invalid_request", param or None), 400)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    message = str(error.detail)
    if error.status_code == 404:
        message = f"There is no {request.method} {request.url.path} here."
    body = error_body(message, error.status_code, "http_error")
    return JSONResponse(body, error.status_code, error.headers)


async def _system_error(_: Request, error: Exception) -> JSONResponse:
    """A full disk can be met wherever something is written; the rest is unexpected."""
    if is_full(error):
        return error_response(DiskFull(f"A disk of the server is full ({error}). {REMEDY}"))
    raise error


async def _client_gone(_: Request, __: Exception) -> Response:
    """Nobody reads it; the status is what proxies log for this."""
    return Response(status_code=499)


async def _unexpected(_: Request, error: Exception) -> JSONResponse:
    """A bug of ours: logged whole, and said without details."""
    log.exception("unexpected_error", exc_info=error)
    ERRORS.labels(KBError.code).inc()
    return JSONResponse(
        error_body(UNFORESEEN, 500, KBError.code),
        500,
        # Their middleware has been left already.
        SAFE_HEADERS | {REQUEST_ID: correlation_id.get() or ""},
    )
