"""What /openapi.json says beyond the routes: how to show a key, and the errors each may answer with."""

from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """The shape of OpenAI's errors, of every answer from 400 on."""

    error: ErrorDetail


ALWAYS: Final = (400, 403)
"""Also of routes that need no key: while there are none, other sites' pages are refused with 403."""
WITH_KEY: Final = (*ALWAYS, 401, 404, 413, 429, 503)
UPLOADED: Final = (*WITH_KEY, 409, 415, 422, 507)
MANAGED: Final = (*WITH_KEY, 409, 507)

MEANINGS: Final = {
    400: "The request is wrong; `param` names the field.",
    401: "No valid key.",
    403: "The key has not the scope, or another site's page asked a server without keys.",
    404: "There is no such thing, or this key may not know of it.",
    409: "It contradicts what is there already, or what is being done.",
    413: "The body is too large.",
    415: "A format that is not read.",
    422: "The document can't be read.",
    429: "More than the key's limits allow; see `Retry-After`.",
    507: "A disk of the server is full.",
    503: "A part behind the API is away, or the server is full; see `Retry-After`.",
}

Operation = dict[str, Any]


def errors(statuses: tuple[int, ...]) -> dict[int | str, dict[str, Any]]:
    """For `responses=` of routes and routers."""
    return {
        status: {"model": ErrorBody, "description": MEANINGS[status]} for status in sorted(statuses)
    }


def install_description(app: FastAPI) -> None:
    """Replaces FastAPI's own, which promises a 422 of a shape that our handlers never send."""

    def described() -> dict[str, Any]:
        if not app.openapi_schema:
            app.openapi_schema = _described(app)
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]  # FastAPI's documented way.


def _described(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(
        title=app.title, version=app.version, summary=app.summary, routes=app.routes
    )
    for path in schema["paths"].values():
        for operation in path.values():
            _without_fastapis_422(operation)
            _with_errors_in_json(operation)
            if str(HTTPStatus.UNAUTHORIZED.value) in operation["responses"]:
                operation["security"] = [{"key": []}]
    components = schema["components"]
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return schema


def _with_errors_in_json(operation: Operation) -> None:
    """Of streams too, whose media type FastAPI gives to all their answers."""
    for status, answer in operation["responses"].items():
        if int(status) >= HTTPStatus.BAD_REQUEST and "content" in answer:
            (content,) = answer["content"].values()
            answer["content"] = {"application/json": content}


def _without_fastapis_422(operation: Operation) -> None:
    answer = operation["responses"].get("422", {})
    if "HTTPValidationError" in str(answer.get("content")):
        del operation["responses"]["422"]
