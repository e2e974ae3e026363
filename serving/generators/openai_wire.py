"""OpenAI's chat completions on the wire: our values to a request's body, an event to our values. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import orjson

from kb.errors import (
    InvalidQueryError,
    KBError,
    ModelMisbehaved,
    ModelOverloaded,
    ModelUnavailable,
)
from kb.generation import Message, ModelDelta, Sampling, Usage

_MESSAGE_SHOWN = 300
_TOO_LONG = re.compile("context (?:length|size|window)", re.IGNORECASE)
"""In what servers say of a prompt that does not fit: which is our doing."""


def request_body(model: str, messages: Sequence[Message], sampling: Sampling) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": turn.role, "content": turn.content} for turn in messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "seed": sampling.seed,
        "max_tokens": sampling.max_tokens,
        "stop": list(sampling.stop) or None,
        "response_format": sampling.response_format,
        "logprobs": sampling.logprobs or None,
        "top_logprobs": sampling.top_logprobs,
    }
    return {name: value for name, value in body.items() if value is not None}


def delta_of(data: bytes, sampling: Sampling) -> ModelDelta | None:
    """An event's part of the answer; None where it has nothing to say.

    Raises ModelMisbehaved for what is no such event, and what `refusal` gives for an error in an event:
    vLLM has answered 200 before it finds a mistake in a schema.
    """
    try:
        event = orjson.loads(data)
        if error := event.get("error"):
            raise _error_in_stream(error, data, sampling)
        choice = (event.get("choices") or [{}])[0]
        said = choice.get("delta") or {}
        delta = ModelDelta(
            text=said.get("content") or "",
            reasoning=said.get("reasoning_content") or said.get("reasoning") or "",
            logprobs=tuple((choice.get("logprobs") or {}).get("content") or ()),
            finish=choice.get("finish_reason") or None,
            usage=_usage(event.get("usage")),
        )
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise ModelMisbehaved("The model's server sent an event that can't be read.") from error
    if not isinstance(delta.text, str) or not isinstance(delta.reasoning, str):
        raise ModelMisbehaved("The model's server sent an event that can't be read.")
    if delta.finish in ("abort", "error"):
        raise ModelUnavailable("The model's server broke the answer off.")
    return None if delta == ModelDelta() else delta


def _usage(told: Any) -> Usage | None:
    """None where it is not told, or not counted."""
    if not told or None in (told["prompt_tokens"], told["completion_tokens"]):
        return None
    return Usage(told["prompt_tokens"], told["completion_tokens"])


def _error_in_stream(error: Any, data: bytes, sampling: Sampling) -> KBError:
    code = error.get("code") if isinstance(error, Mapping) else None
    if isinstance(code, int):
        return refusal(code, data, sampling)
    return ModelUnavailable(f"The model's server failed: {_message(data)}")


def refusal(status: int, body: bytes, sampling: Sampling) -> KBError:
    """The error for an answer that is none.

    A 400 is the caller's only where the caller chose parameters: the rest of the request is ours.
    """
    message = _message(body)
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        return ModelOverloaded("The model's server takes no more requests now.")
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return ModelUnavailable(
            "The model's server refuses our API key: set generation.api_key (KB_GENERATION__API_KEY)."
        )
    is_callers = replace(sampling, temperature=None, max_tokens=None) != Sampling()
    if (
        status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)
        and is_callers
        and not _TOO_LONG.search(message)
    ):
        return InvalidQueryError(f"The model's server refuses the request: {message}")
    return ModelUnavailable(f"The model's server answered {status}: {message}")


def _message(body: bytes) -> str:
    try:
        said = orjson.loads(body)
        error = said.get("error", said)
        text = error.get("message", "") if isinstance(error, dict) else str(error)
    except (ValueError, AttributeError):
        text = body.decode(errors="replace")
    return str(text).strip()[:_MESSAGE_SHOWN]
